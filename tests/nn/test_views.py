"""One view at a time."""

import torch
from torch import nn

from hfcontrast.nn import view_by_view


def test_a_network_sees_one_view_at_a_time():
    views = torch.randn(5, 3, 4)
    views[:, 1] += 10
    norm = nn.BatchNorm1d(4)
    found = view_by_view(norm, views)
    assert found.shape == (5, 3, 4)
    torch.testing.assert_close(found.mean(0), torch.zeros(3, 4), rtol=0, atol=1e-5)
    torch.testing.assert_close(found[:, 2], norm(views[:, 2]))


def test_images_become_features():
    images = torch.randn(2, 3, 1, 4, 4)
    found = view_by_view(lambda view: view.mean((2, 3)), images)
    torch.testing.assert_close(found, images.mean((3, 4)))
