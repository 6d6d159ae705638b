"""How the weights of a method are laid out for training."""

import torch
from torch import nn

from hfcontrast.training.prepare import to_channels_last


def test_only_convolutions_of_two_dimensions_are_laid_out_channels_last():
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv3d(3, 8, 3), nn.Linear(4, 2))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    to_channels_last(module)
    assert module[0].weight.is_contiguous(memory_format=torch.channels_last) and not module[0].weight.is_contiguous()
    assert module[1].weight.is_contiguous() and isinstance(module[0].weight, nn.Parameter)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
