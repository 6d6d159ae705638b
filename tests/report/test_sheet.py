"""The sheet of images: colors come back, small images are enlarged, columns stand side by side."""

import numpy as np
import pytest
import torch

from hfcontrast.report.sheet import image_sheet

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def normalized(red, green, blue):
    color = torch.tensor([red, green, blue])
    return ((color - torch.tensor(MEAN)) / torch.tensor(STD)).view(1, 3, 1, 1).expand(2, 3, 32, 32)


def test_columns_stand_side_by_side_in_their_colors():
    red, blue = normalized(1.0, 0.0, 0.0), normalized(0.0, 0.0, 1.0)
    sheet = np.asarray(image_sheet({"left": red, "right": torch.stack([blue, red], dim=1)}, MEAN, STD))
    middle = sheet[24 + 48]  # a line through the first row
    runs = [tuple(color) for n, color in enumerate(middle) if n == 0 or (color != middle[n - 1]).any()]
    white = (255, 255, 255)
    assert runs == [white, (255, 0, 0), white, (0, 0, 255), white, (255, 0, 0), white]
    assert (middle == (255, 0, 0)).all(axis=1).sum() == 2 * 96, "32 px are enlarged to 96"


def test_what_is_out_of_range_is_cut_off():
    wild = torch.full((1, 3, 96, 96), float("nan"))
    wild[:, 0] = 1e6
    sheet = np.asarray(image_sheet({"wild": wild}, MEAN, STD))
    assert tuple(sheet[70, 50]) == (255, 0, 0)


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="columns of one length"):
        image_sheet({"a": torch.zeros(1, 3, 8, 8), "b": torch.zeros(2, 3, 8, 8)}, MEAN, STD)
    with pytest.raises(ValueError, match="columns of one length"):
        image_sheet({}, MEAN, STD)
