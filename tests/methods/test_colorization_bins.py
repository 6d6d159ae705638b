"""Color bins: exactly those that colors of sRGB fall into."""

import torch

from hfcontrast.encoders.color_views import convert_colors
from hfcontrast.methods.colorization.color_bins import color_bins


def test_every_color_lies_in_a_bin():
    bins = color_bins()
    assert bins.shape == (261, 2) and torch.equal(bins, (bins / 10).round() * 10)
    assert len(bins.unique(dim=0)) == 261 and (bins == 0).all(dim=1).any()
    rgb = (torch.rand(1, 3, 200, 200, generator=torch.Generator().manual_seed(0)) * 255).round() / 255
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3).T[None, :, :, None]
    for colors in (rgb, corners):
        ab = convert_colors(colors, "lab")[0, 1:].flatten(1).T
        assert torch.cdist(ab, bins, p=torch.inf).min(dim=1).values.max() <= 5.001


def test_the_bins_are_found_where_weights_are_not_there_yet():
    with torch.device("meta"):
        assert color_bins().device.type == "cpu"
    color_bins().zero_()
    assert color_bins().abs().sum() > 0  # nobody's changes reach the next one
