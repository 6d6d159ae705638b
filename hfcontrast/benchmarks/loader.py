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
from torchvision.transforms import v2

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
    rows: Rows,
    views: tuple[View, ...],
    mean: Sequence[float],
    std: Sequence[float],
    seconds: float,
    unreadable: dict[str, str] | None = None,
) -> float:
    """Images a second on one core through ``TrainLoader`` and ``ColorAugmentation``, decoding included.

    Rows that cannot be read are left out, however many they are.

    Args:
        rows: The rows.
        views: What is cut from each image.
        mean: Mean of the normalization.
        std: Standard deviation of the normalization.
        seconds: How long to measure.
        unreadable: Rows that are known to be unreadable, by name, with the cause; those that are found are added.
    """
    batch_size = min(_BATCH, rows.num_rows or _BATCH)
    epoch_rows = rows.num_rows or batch_size
    with one_thread():
        loader = TrainLoader(
            rows, views, batch_size=batch_size, epoch_rows=epoch_rows, workers=0, cache=False, max_unreadable=1.0
        )
        known = unreadable if unreadable is not None else {}
        loader.load_state_dict(loader.state_dict() | {"unreadable": known})  # which are not told again
        batches = iter(loader)
        augmentation = ColorAugmentation(views, mean, std)
        speed = _images_a_second(lambda: augmentation(next(batches), "cpu"), batch_size, seconds)
    known |= loader.unreadable
    return speed


def torchvision_chain_speed(
    rows: Rows, views: tuple[View, ...], mean: Sequence[float], std: Sequence[float], seconds: float
) -> float:
    """Images a second on one core through torchvision's transforms on PIL images, each image decoded once.

    Rows that cannot be read are passed over.

    Args:
        rows: The rows.
        views: What is cut from each image.
        mean: Mean of the normalization.
        std: Standard deviation of the normalization.
        seconds: How long to measure.
    """
    chains = [_chain(view, mean, std) for view in views for _ in range(view.count)]
    batch_size = min(_BATCH, rows.num_rows or _BATCH)
    images = _images(rows)

    def next_batch() -> list[torch.Tensor]:
        samples = [[chain(image) for chain in chains] for image in itertools.islice(images, batch_size)]
        return [torch.stack(crops) for crops in zip(*samples, strict=True)]

    with one_thread():
        return _images_a_second(next_batch, batch_size, seconds)


def _images(rows: Rows) -> Iterator[Image.Image]:
    """The images as Pillow gives them, over and over."""
    while True:
        values = rows.dataset.iter(_BATCH) if rows.streaming else _by_number(rows)
        for value in itertools.chain.from_iterable(batch["image"] for batch in values):
            try:
                # What Pillow raises at damaged files is anything.
                image = Image.open(io.BytesIO(rows.reader.read(value))).convert("RGB")
            except Exception:  # noqa: S112, the loader names such rows
                continue
            yield image


def _by_number(rows: Rows) -> Iterator[dict]:
    for start in range(0, rows.num_rows, _BATCH):
        yield rows.dataset[start : start + _BATCH]


def _images_a_second(next_batch: Callable[[], object], batch_size: int, seconds: float) -> float:
    next_batch()  # compiles, fills caches
    images, start = 0, time.process_time()  # of this process: other programs on the machine count less
    while (passed := time.process_time() - start) < seconds:
        next_batch()
        images += batch_size
    return images / passed


def _chain(view: View, mean: Sequence[float], std: Sequence[float]) -> transforms.Compose:
    """The view as one writes it with torchvision, which has no Sobel filters; cutout is its ``RandomErasing``."""
    mode = transforms.InterpolationMode(view.interpolation)
    kernel = 2 * (view.size // 20) + 1  # a tenth of the side, as SimCLR: 23 at 224 px
    turns = [transforms.RandomRotation((angle, angle)) for angle in (90, 180, 270)]
    jitter = transforms.ColorJitter(view.brightness, view.contrast, view.saturation, view.hue)
    steps = [
        transforms.RandomResizedCrop(view.size, view.scale, view.ratio, interpolation=mode, antialias=True),
        view.horizontal_flip and transforms.RandomHorizontalFlip(view.horizontal_flip),
        view.vertical_flip and transforms.RandomVerticalFlip(view.vertical_flip),
        view.rotate and transforms.RandomApply([transforms.RandomChoice(turns)], view.rotate),
        view.jitter and transforms.RandomApply([jitter], view.jitter),
        view.grayscale and transforms.RandomGrayscale(view.grayscale),
        view.blur and transforms.RandomApply([transforms.GaussianBlur(kernel, view.blur_sigma)], view.blur),
        view.solarize and transforms.RandomSolarize(view.solarize_threshold, view.solarize),
        transforms.ToTensor(),
        view.noise and transforms.RandomApply([v2.GaussianNoise(sigma=sum(view.noise_std) / 2)], view.noise),
        transforms.Normalize(mean, std),
        view.cutout and transforms.RandomErasing(view.cutout, (view.cutout_size**2,) * 2, (1.0, 1.0)),
    ]
    return transforms.Compose([step for step in steps if step])
