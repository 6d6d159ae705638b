"""Gradient checkpointing of a method: that of its encoder, with the same gradients and batch statistics counted once."""

import pytest
import torch
from every_method import NAMES, batch_of, small

from hfcontrast.errors import ArgumentError
from hfcontrast.methods.contract.checkpointing import ENABLE
from hfcontrast.methods.contract.modules import copy_teachers
from hfcontrast.methods.registry import get_method
from hfcontrast.testing import TINY_RESNET, build

TIMM = {
    "model_type": "timm_wrapper",
    "architecture": "resnet10t",
    "model_args": {"stem_width": 8, "channels": [8, 8, 8, 8]},
}
TIMM |= {"num_labels": 0}
SMALL_RESNET = {"model_type": "small_resnet", "embedding_size": 8}


def switch(method, on):
    getattr(method, ENABLE if on else ENABLE.replace("enable", "disable"))()


def recomputing(module):
    return [
        name
        for name, part in module.named_modules()
        if vars(part).get("gradient_checkpointing") or vars(part).get("grad_checkpointing")
    ]


def gradients(method, batch):
    method.zero_grad()
    torch.manual_seed(3)
    method(**batch).loss.backward()
    return {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", NAMES)
def test_it_is_that_of_the_encoder_alone(name):
    method = small(name)
    if not method.supports_gradient_checkpointing:
        assert method.encoder.config.model_type in ("resnet", "colour_views"), name
        with pytest.raises(
            ArgumentError, match=f"the encoder '{method.encoder.config.model_type}' of {type(method).__name__} cannot"
        ):
            switch(method, True)
        return
    switch(method, True)
    found = recomputing(method)
    assert found and all(part.split(".")[0] == "encoder" for part in found)
    switch(method, False)
    assert not recomputing(method)


@pytest.mark.parametrize("backbone", [None, TIMM, SMALL_RESNET], ids=["vit", "timm", "small_resnet"])
def test_gradients_and_statistics_are_the_same(backbone):
    byol, batch = get_method("byol"), batch_of("byol")
    plain, recomputed = (build(byol, backbone, hidden_dim=16, projection_dim=8) for _ in range(2))
    switch(recomputed, True)
    calls = []
    for _, module in recomputed.encoder.named_modules():
        module.register_forward_hook(lambda *_: calls.append(1), always_call=True)
    expected, found = gradients(plain, batch), gradients(recomputed, batch)
    assert len(calls) > sum(1 for _ in recomputed.encoder.modules())  # some ran twice
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(
            found[name], gradient, rtol=1e-5, atol=1e-7, msg=lambda text, name=name: f"{name}: {text}"
        )
    for (name, value), after in zip(plain.named_buffers(), recomputed.buffers()):
        assert torch.equal(value, after), name


def test_copies_of_an_encoder_keep_no_activations():
    method = small("dino")
    switch(method, True)
    copy_teachers(method)
    assert recomputing(method.encoder) and not recomputing(method.teacher_encoder)


def test_color_views_can_what_their_encoders_can():
    can = build(get_method("cmc"), negatives=8)
    assert (
        can.supports_gradient_checkpointing
        and not build(get_method("cmc"), TINY_RESNET, negatives=8).supports_gradient_checkpointing
    )


def test_input_embeddings_are_those_of_the_encoder():
    igpt, simclr = small("igpt"), small("simclr")
    assert simclr.get_input_embeddings() is simclr.encoder.get_input_embeddings() is not None
    other = torch.nn.Embedding(5, 8)
    igpt.set_input_embeddings(other)
    assert igpt.get_input_embeddings() is igpt.encoder.get_input_embeddings() is other
    assert small("swav").get_input_embeddings() is None  # of a ResNet
