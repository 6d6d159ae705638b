"""Images through a processor in parts of bounded memory, in their order."""

import pytest
import torch
from PIL import Image

from hfcontrast.data import in_parts as module
from hfcontrast.data.in_parts import in_parts


@pytest.fixture
def seen():
    return []


@pytest.fixture
def transform(seen):
    def transform(images):
        seen.append(len(images))
        return torch.tensor([[float(image.width)] for image in images])

    return transform


def test_images_that_take_much_memory_are_transformed_apart(seen, transform, monkeypatch):
    monkeypatch.setattr(module, "PIXELS_AT_ONCE", 5_000)
    images = (Image.new("RGB", (width, 50)) for width in range(30, 40))
    assert in_parts(images, transform).flatten().tolist() == list(range(30, 40))
    assert sum(seen) == 10 and max(seen) == 4


def test_long_images_weigh_what_they_are_resized_to(seen, transform):
    # 100 x 1 pixels with a short side of 512 pixels are 26 million
    in_parts([Image.new("RGB", (100, 1))] * 6, transform)
    assert max(seen) == 2
    seen.clear()
    in_parts([Image.new("RGB", (40, 10))] * 600, transform)
    assert seen == [600]


def test_no_image_is_taken_before_there_is_room(transform, monkeypatch):
    monkeypatch.setattr(module, "PIXELS_AT_ONCE", 100)
    taken = []

    def images():
        for number in range(4):
            taken.append(number)
            yield Image.new("RGB", (20, 20))

    def noting(some):
        assert len(taken) - len(done) == len(some) == 1
        done.append(some)
        return transform(some)

    done: list = []
    assert in_parts(images(), noting).shape == (4, 1)


def test_nothing_at_all(transform):
    assert in_parts([], transform) is None
