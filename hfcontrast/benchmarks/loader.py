"""Speed of the loader: images per second on one core, compared with torchvision's transforms on PIL images.

Both decode the encoded rows once and give normalized floats of all views; nothing is cached, no worker helps.
"""

import io
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from PIL import Image
from torchvision import transforms

from hfcontrast.data.augment.color import ColorAugmentation
from hfcontrast.data.loader import TrainLoader
from hfcontrast.data.sources import Rows
from hfcontrast.view import View

_BATCH = 64


@contextmanager
def one_thread() -> Iterator[None]:
    """Lets torch compute on one thread, and as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def loader_speed(
    rows: Rows, views: tuple[View, ...], mean: Sequence[float], std: Sequence[float], seconds: float
) -> float:
    """Images a second on one core through ``TrainLoader`` and ``ColorAugmentation``, decoding included.

    Args:
        rows: Map-style rows.
        views: What is cut from each image.
        mean: Mean of the normalization.
        std: Standard deviation of the normalization.
        seconds: How long to measure.
    """
    batch_size = min(_BATCH, rows.num_rows)
    with one_thread():
        batches = iter(TrainLoader(rows, views, batch_size=batch_size, workers=0, cache=False))
        augmentation = ColorAugmentation(views, mean, std)
        return _images_a_second(lambda: augmentation(next(batches), "cpu"), batch_size, seconds)


def torchvision_chain_speed(
    rows: Rows, views: tuple[View, ...], mean: Sequence[float], std: Sequence[float], seconds: float
) -> float:
    """Images a second on one core through torchvision's transforms on PIL images, each image decoded once.

    Args:
        rows: Map-style rows.
        views: What is cut from each image.
        mean: Mean of the normalization.
        std: Standard deviation of the normalization.
        seconds: How long to measure.
    """
    chains = [_chain(view, mean, std) for view in views for _ in range(view.count)]
    batch_size = min(_BATCH, rows.num_rows)
    numbers = itertools.cycle(range(rows.num_rows))

    def next_batch() -> list[torch.Tensor]:
        samples = []
        for row in rows.dataset[list(itertools.islice(numbers, batch_size))]["image"]:
            source = io.BytesIO(row["bytes"]) if row["bytes"] is not None else row["path"]
            image = Image.open(source).convert("RGB")
            samples.append([chain(image) for chain in chains])
        return [torch.stack(crops) for crops in zip(*samples, strict=True)]

    with one_thread():
        return _images_a_second(next_batch, batch_size, seconds)


def _images_a_second(next_batch: Callable[[], object], batch_size: int, seconds: float) -> float:
    next_batch()  # compiles, fills caches
    images, start = 0, time.process_time()  # of this process: other programs on the machine count less
    while (passed := time.process_time() - start) < seconds:
        next_batch()
        images += batch_size
    return images / passed


def _chain(view: View, mean: Sequence[float], std: Sequence[float]) -> transforms.Compose:
    """The view as one writes it with torchvision."""
    mode = transforms.InterpolationMode(view.interpolation)
    kernel = 2 * (view.size // 20) + 1  # a tenth of the side, as SimCLR: 23 at 224 px
    jitter = transforms.ColorJitter(view.brightness, view.contrast, view.saturation, view.hue)
    steps = [
        transforms.RandomResizedCrop(view.size, view.scale, view.ratio, interpolation=mode, antialias=True),
        view.horizontal_flip and transforms.RandomHorizontalFlip(view.horizontal_flip),
        view.vertical_flip and transforms.RandomVerticalFlip(view.vertical_flip),
        view.jitter and transforms.RandomApply([jitter], view.jitter),
        view.grayscale and transforms.RandomGrayscale(view.grayscale),
        view.blur and transforms.RandomApply([transforms.GaussianBlur(kernel, view.blur_sigma)], view.blur),
        view.solarize and transforms.RandomSolarize(view.solarize_threshold, view.solarize),
        transforms.ToTensor(),
        transforms.Normalize(mean, std),
    ]
    return transforms.Compose([step for step in steps if step])
