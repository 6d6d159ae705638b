"""The comparison of speed runs the same work on both sides and leaves torch's threads as they were."""

import torch

from hfcontrast.benchmarks.loader import loader_speed, torchvision_chain_speed
from hfcontrast.data import load_rows
from hfcontrast.view import View
from tests.data.conftest import encoded_images, rows_of

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def test_rows_that_cannot_be_read_are_passed_over():
    rows = rows_of([*encoded_images(130), b"broken"])
    views = (View(size=8, rotate=1.0, sobel=0.5, noise=1.0, cutout=1.0),)
    assert all(speed(rows, views, MEAN, STD, 0.01) > 0 for speed in (loader_speed, torchvision_chain_speed))


def test_both_sides_run():
    views = (View(count=2, size=32, brightness=0.4, hue=0.1, grayscale=0.2, blur=0.5, solarize=0.2, vertical_flip=0.1),)
    rows, before = load_rows("builtin/shapes", split="test"), torch.get_num_threads()
    ours, plain = (speed(rows, views, MEAN, STD, 0.3) for speed in (loader_speed, torchvision_chain_speed))
    assert torch.get_num_threads() == before
    assert ours > plain > 0  # several times faster, so that even a busy machine shows it
