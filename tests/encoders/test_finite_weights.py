"""Weights that are no numbers are found, and refused where released weights are loaded."""

import pytest
import torch
from torch import nn

from hfcontrast.encoders.finite_weights import not_finite
from hfcontrast.encoders.weights import load_weights
from hfcontrast.errors import ArgumentError
from tests.evaluation.conftest import save, tiny_clip


def test_tensors_with_nan_or_infinite_numbers_are_named():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    model.register_buffer("mask", torch.full((2,), -torch.inf))  # as masks of attention are
    assert not_finite(model) is None
    model[1].running_var[0] = torch.inf
    assert not_finite(model) == "1.running_var of 8 tensors has numbers that are NaN or infinite"
    model[0].bias.data[0] = torch.nan
    assert not_finite(model).startswith("0.bias and 1 more of 8 tensors have")
    assert not_finite({"a": torch.zeros(2), "b": torch.tensor([3, 4])}) is None
    assert not_finite({"a": torch.tensor([torch.inf])}).startswith("a of 1 tensors has")


def test_released_weights_that_are_not_finite_are_refused(tmp_path):
    model = tiny_clip()
    model.vision_model.post_layernorm.bias.data[0] = torch.inf
    with pytest.raises(ArgumentError, match="post_layernorm.bias of .* NaN or infinite"):
        load_weights(tiny_clip(1), {"pretrained": save(model, tmp_path / "model")})
