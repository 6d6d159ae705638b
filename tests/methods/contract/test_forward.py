"""A method's ``forward``: its signature, and what it says of a batch that does not fit."""

import inspect

import pytest
import torch

from hfcontrast.errors import ArgumentError
from hfcontrast.methods.base import Method, MethodOutput
from hfcontrast.methods.registry import get_method, installed
from hfcontrast.testing import build, random_batch
from hfcontrast.view import View

NAMES = sorted(installed())
SMALL = {"dino": {"out_dim": 16, "hidden_dim": 16, "bottleneck_dim": 8}}


def parameters(cls):
    return inspect.signature(cls.forward).parameters


@pytest.mark.parametrize("name", NAMES)
def test_a_signature_names_the_entries_of_a_batch(name):
    cls = get_method(name)
    found = parameters(cls)
    steps = [*list(inspect.signature(cls.embed).parameters)[1:], *list(inspect.signature(cls.objective).parameters)[2:]]
    assert set(found) == {"self", *steps, "return_loss", "return_dict"}
    assert list(found)[1] == cls.main_input_name == "pixel_values"
    assert found["return_loss"].default is True and found["return_dict"].default is None
    assert all(parameter.default is not parameter.empty for entry, parameter in found.items() if entry != "self")


def test_a_plugins_signature_is_made_too_and_a_forward_of_its_own_stays():
    simclr = get_method("simclr")

    class WithColumn(simclr):
        def objective(self, embeddings, depth, **batch):
            return super().objective(embeddings)

    class OwnForward(simclr):
        def forward(self, pixel_values):
            return super().forward(pixel_values=pixel_values)

    class AfterIt(OwnForward):
        pass

    class WithoutPixels(simclr):
        views = (View(count=2, key="gray_values"),)

        def embed(self, index, gray_values):
            return super().embed(gray_values)

    assert list(parameters(WithColumn)) == ["self", "pixel_values", "depth", "return_loss", "return_dict", "batch"]
    assert list(parameters(AfterIt)) == ["self", "pixel_values"]
    assert WithoutPixels.main_input_name == list(parameters(WithoutPixels))[1] == "gray_values"
    method, batch = build(AfterIt), random_batch(simclr, 4)
    assert method(batch["pixel_values"]).loss == build(simclr)(**batch).loss
    anything = build(WithColumn)
    assert anything(**batch, depth=batch["index"], whatever=batch["index"]).loss.isfinite()
    with pytest.raises(ArgumentError, match=r"^depth: WithColumn needs it, \(B, \.\.\.\), an entry for each image"):
        anything(**batch)


def test_entries_by_position_and_outputs_as_tuples():
    method, batch = build(get_method("simclr")), random_batch(get_method("simclr"), 4)
    output = method(**batch)
    assert isinstance(output, MethodOutput) and method(batch["pixel_values"]).loss == output.loss
    loss, metrics, embeddings = method(**batch, return_dict=False)
    assert (
        loss == output.loss and metrics.keys() == output.metrics.keys() and embeddings.shape == output.embeddings.shape
    )
    method.config.return_dict = False
    assert isinstance(method(**batch), tuple) and isinstance(method(**batch, return_dict=True), MethodOutput)
    assert method(**batch, return_dict=True, return_loss=False).loss is None
    with pytest.raises(ArgumentError, match=r"call it as method\(\*\*batch\), and not method\(batch\)"):
        method(batch)
    with pytest.raises(ArgumentError, match="got it twice"):
        method(batch["pixel_values"], pixel_values=batch["pixel_values"])
    with pytest.raises(ArgumentError, match="takes pixel_values; 2 were given by position"):
        method(batch["pixel_values"], batch["index"])


def test_a_tensor_that_no_step_knows_is_refused_and_the_nearest_name_told():
    method, batch = build(get_method("dino"), **SMALL["dino"]), random_batch(get_method("dino"), 4)
    local = batch.pop("local_pixel_values")
    with pytest.raises(
        ArgumentError, match=r"^local_pixel_value: no step of DINO .* Did you mean local_pixel_values\?$"
    ):
        method(**batch, local_pixel_value=local)
    with pytest.raises(ArgumentError, match=r"^crops: no step of DINO takes such a tensor; it takes pixel_values"):
        method(**batch, crops=list(local.unbind(1)))
    known = {"input_ids": batch["index"], "label_ids": batch["index"], "captions": ["a"] * 4, "output_attentions": None}
    assert method(**batch, **known).loss == method(**batch).loss  # what collators add, and what is no tensor


@pytest.mark.parametrize(
    ("name", "drop", "words"),
    [
        ("simclr", 1, r"\(4, 3, 32, 32\), which lacks a dimension, that of the views: pass torch.stack\(\["),
        ("rotation", 1, r"that of the views: pass pixel_values.unsqueeze\(1\)"),
        ("simclr", 2, r"\(3, 32, 32\), which lacks a dimension, those of the batch and of the views"),
    ],
)
def test_images_without_views_are_told_what_they_lack(name, drop, words):
    method, images = build(get_method(name)), random_batch(get_method(name), 4)["pixel_values"][:, 0]
    with pytest.raises(ArgumentError, match=rf"^pixel_values: .*takes \(B, V, C, H, W\).*{words}"):
        method(pixel_values=images if drop == 1 else images[0])


def test_what_is_missing_is_named_with_what_is_there():
    supcon = get_method("supcon")
    with pytest.raises(
        ArgumentError, match=r"^labels: SupCon needs it, \(B,\) class numbers.*; the batch has pixel_values$"
    ):
        build(supcon)(pixel_values=random_batch(supcon, 4)["pixel_values"], labels=None)


def test_a_method_of_signals_has_another_main_input():
    cpc = get_method("cpc")
    backbone = {
        "model_type": "signal_encoder",
        "conv_dim": [8],
        "conv_kernel": [4],
        "conv_stride": [2],
        "hidden_size": 8,
    }
    method = build(cpc, backbone)
    assert method.main_input_name == "input_values" and build(cpc).main_input_name == "pixel_values"
    assert method(input_values=torch.randn(2, 1, 64)).loss.isfinite()


def test_the_base_class_takes_anything():
    assert [p.kind for p in parameters(Method).values()][-1] is inspect.Parameter.VAR_KEYWORD


def test_values_that_are_no_tensors_and_positions_beyond_the_bank_are_said():
    pixels = torch.zeros(2, 1, 3, 32, 32)
    method = build(get_method("instdisc"), projection_dim=8, negatives=2, num_images=8)
    for value, name in ((pixels.numpy(), "ndarray"), ([pixels], "list")):
        with pytest.raises(
            ArgumentError, match=f"pixel_values: InstDisc takes a tensor .B, V, C, H, W., and got {name}"
        ):
            method(value, torch.tensor([0, 7]))
    assert method(pixels, torch.tensor([0, 7])).loss is not None
    with pytest.raises(
        ArgumentError, match=r"made for num_images=8 images, and got position 8 .*num_images=len\(views\)"
    ):
        method(pixels, torch.tensor([0, 8]))
