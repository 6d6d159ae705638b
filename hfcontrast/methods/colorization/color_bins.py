"""The color bins of colorization: the sRGB gamut, quantized in the ab plane of Lab."""

import functools

import torch
from torch import Tensor

from ...encoders.color_views import convert_colors

WIDTH = 10.0  # of a bin, in a and in b
_LEVELS = 86  # levels of each of R, G and B: every third of 256, which gives the same bins as all of them
_OFFSET = 16  # makes the indices of bins positive


def color_bins() -> Tensor:
    """The centers, multiples of 10, of the bins that contain an sRGB color.

    There are 261; Zhang et al. (2016, arXiv:1603.08511, section 2.2) list 313, some of which contain no sRGB color.

    Returns:
        (261, 2) float32: a and b.
    """
    return _color_bins().clone()


@functools.cache
def _color_bins() -> Tensor:
    levels = torch.linspace(0, 1, _LEVELS, device="cpu")
    rgb = torch.cartesian_prod(levels, levels, levels).T[None, :, :, None]
    a, b = (convert_colors(rgb, "lab")[0, 1:, :, 0] / WIDTH).round().long() + _OFFSET
    met = torch.bincount(a * 2 * _OFFSET + b).nonzero().squeeze(1)
    return WIDTH * (torch.stack([met // (2 * _OFFSET), met % (2 * _OFFSET)], dim=1) - _OFFSET).float()
