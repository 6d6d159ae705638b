"""Every method loads as it was saved, wherever transformers puts its tensors, computes in half precision, and takes one attention."""

import pytest
import torch
from every_method import NAMES, batch_of, small

from hfcontrast.errors import ArgumentError
from hfcontrast.methods.base import Method
from hfcontrast.methods.registry import get_method
from hfcontrast.nn.transformer import TransformerBlocks

HALVES = (torch.bfloat16, torch.float16)


def trained(name):
    """The method with running statistics and other floating-point buffers that are not those of the beginning."""
    method = small(name)
    for key, value in method.named_buffers():
        if value.is_floating_point() and ("running" in key or key == "center"):
            value.uniform_(0.5, 1.5)
    return method.eval()


def loss_of(method, batch):
    torch.manual_seed(3)
    with torch.no_grad():
        return method.eval()(**batch).loss


@pytest.mark.parametrize("name", NAMES)
def test_a_method_loads_as_it_was_saved_to_memory_and_to_disk(name, tmp_path):
    method, batch = trained(name), batch_of(name)
    expected = loss_of(method, batch)
    method.save_pretrained(tmp_path / "saved")
    for number, places in enumerate((None, "cpu", {"": "disk"})):
        options = {} if places is None else {"device_map": places, "offload_folder": tmp_path / str(number)}
        loaded = type(method).from_pretrained(tmp_path / "saved", **options)
        torch.testing.assert_close(
            loss_of(loaded, batch), expected, rtol=1e-6, atol=1e-7, msg=lambda text, places=places: f"{places}: {text}"
        )
        for key, value in method.named_buffers():
            assert torch.equal(loaded.get_buffer(key), value), (places, key)


@pytest.mark.parametrize("name", NAMES)
def test_a_method_is_trained_in_half_precision_without_autocast(name, tmp_path):
    batch = batch_of(name)
    for dtype in HALVES:
        method = small(name).to(dtype)
        halved = {key: value.to(dtype) if value.is_floating_point() else value for key, value in batch.items()}
        output = method(**halved)
        output.loss.backward()
        assert output.loss.isfinite(), dtype
        gradients = [p.grad for p in method.encoder.parameters() if p.grad is not None]
        assert gradients and all(gradient.dtype is dtype and gradient.isfinite().all() for gradient in gradients)
    method.save_pretrained(tmp_path)
    loaded = type(method).from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert {p.dtype for p in loaded.parameters() if p.is_floating_point()} == {torch.bfloat16}
    assert loss_of(
        loaded, {key: value.to(loaded.dtype) if value.is_floating_point() else value for key, value in batch.items()}
    ).isfinite()


def test_what_a_checkpoint_lacks_is_drawn_and_the_rest_is_left_alone(tmp_path):
    """A head that is missing is initialized, its running statistics, which are there, stay."""
    method = trained("simclr")
    state = method.state_dict()
    kept = {name: value for name, value in state.items() if name != "projector.1.weight"}
    loaded = get_method("simclr").from_pretrained(None, config=method.config, state_dict=kept)
    assert loaded.projector[1].weight.equal(torch.ones_like(loaded.projector[1].weight))
    for name, value in kept.items():
        assert torch.equal(loaded.state_dict()[name], value), name


@pytest.mark.filterwarnings("ignore:The following device_map keys")  # of accelerate, about a buffer
def test_what_is_to_be_read_from_the_disk_is_in_the_checkpoint(tmp_path):
    method = trained("dino")
    state = {name: value for name, value in method.state_dict().items() if not name.startswith("teacher")}
    method.save_pretrained(tmp_path, state_dict=state)
    parts = dict.fromkeys([*(name for name, _ in method.named_children()), "center"], "cpu")
    for places in ({"": "disk"}, {**parts, "teacher_head": "disk"}):
        with pytest.raises(
            ArgumentError,
            match=r"^device_map: 'teacher_(encoder|head)\..* is to be read from the disk, and the checkpoint has neither",
        ):
            type(method).from_pretrained(tmp_path, device_map=places, offload_folder=tmp_path / "offloaded")
    loaded = type(method).from_pretrained(
        tmp_path, device_map={**parts, "head": "disk"}, offload_folder=tmp_path / "offloaded"
    )
    for copied, source in zip(loaded.teacher_encoder.parameters(), method.encoder.parameters()):
        assert torch.equal(copied, source)


@pytest.mark.parametrize("name", ["mae", "ijepa", "dino", "aim"])
def test_attention_is_that_of_the_encoder_in_copies_and_decoders_too(name, tmp_path):
    method, batch = small(name).eval(), batch_of(name)
    expected = loss_of(method, batch)
    method.save_pretrained(tmp_path)
    eager = type(method).from_pretrained(tmp_path, attn_implementation="eager")
    assert set(implementations(eager)) == {"eager"}
    torch.testing.assert_close(loss_of(eager, batch), expected, rtol=1e-4, atol=1e-5)
    method.set_attn_implementation({"backbone_config": "eager"})
    assert set(implementations(method)) == {"eager"}
    method.set_attn_implementation("sdpa")
    assert set(implementations(method)) == {"sdpa"}
    assert loss_of(method, batch) == expected


def implementations(method: Method):
    for module in method.modules():
        if isinstance(module, TransformerBlocks) or (hasattr(module, "get_input_embeddings") and module is not method):
            yield module.config._attn_implementation
