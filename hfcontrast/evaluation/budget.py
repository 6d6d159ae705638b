"""How many rows an evaluation can have in a time: its cost is predicted from a few images and small computations on this machine."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..encoders.channels import channels_of
from ..encoders.features import encode, feature_size
from ..nn.distributed import world_size
from .batches import Batches
from .features import all_objects, computing_device, pixel_side
from .inputs import evaluating

SAMPLE = 128  # images that are read and encoded
FEWEST = 200  # rows of a kind that are evaluated on, however little time there is, if there are as many
_PASSES = (
    110  # over the train features, of a linear probe with the choice of its penalty: measured on pixels and features
)
_FITS = 6  # of a linear probe: each factors a matrix of the features' width
_ROWS = 512  # of the features that passes and products are timed on
_STEPS = 24  # of the search for the share of the rows: a factor of 0.8 each, down to 0.5 %


@dataclass(frozen=True)
class Cost:
    """Seconds that the parts of an evaluation take on this process.

    Attributes:
        image: Of reading and preparing an image, the first time.
        encoding: Of encoding one.
        product: Of a multiplication and addition in a product of matrices.
        passing: Of a pass of the probe, for each number of the features.
    """

    image: float
    encoding: float
    product: float
    passing: float

    def seconds(self, train: int, test: int, widths: list[int], probe: bool, encodings: int) -> float:
        """The whole evaluation of a run.

        Args:
            train: Train rows.
            test: Test rows.
            widths: Of the features of each thing that is evaluated: pixels, the encoder before, the encoder after.
            probe: Whether there is a linear probe.
            encodings: How often the encoder is evaluated.
        """
        found = (train + test) / world_size() * (self.image + encodings * self.encoding)
        for width in widths:
            found += self.knn(train, test, width)
            if probe:
                found += self.probe(train, width)
        return found

    def knn(self, train: int, test: int, width: int) -> float:
        """The kNN classification of test features by train features."""
        return self.product * train * test * width

    def probe(self, train: int, width: int) -> float:
        """The linear probe."""
        return self.passing * _PASSES * train * width + self.product * (train * width**2 + _FITS * width**3)


def affordable_rows(
    cost: Cost, train: int, test: int, limit: float, widths: list[int], probe: bool, encodings: int
) -> tuple[int, int]:
    """The train and test rows of which an evaluation takes no more than some time, with two digits; all where they do.

    Args:
        cost: See :class:`Cost`; so are the others.
        train: Train rows at most.
        test: Test rows at most.
        limit: Seconds.
        widths: Of features.
        probe: Whether there is a linear probe.
        encodings: How often the encoder is evaluated.
    """
    share = 1.0
    for _ in range(_STEPS):
        rows = [count if share == 1 else max(_rounded(share * count), min(FEWEST, count)) for count in (train, test)]
        if cost.seconds(rows[0], rows[1], widths, probe, encodings) <= limit:
            break
        share *= 0.8
    return rows[0], rows[1]


def _rounded(count: float) -> int:
    return int(float(f"{count:.2g}"))


def measured_cost(batches: Callable[[], Batches], encoder: PreTrainedModel, classes: int, width: int) -> Cost:
    """Measures the parts of an evaluation; every process must call it, and all get the first one's.

    Args:
        batches: Gives new batches of :data:`SAMPLE` images.
        encoder: What is evaluated.
        classes: How many classes there are, about.
        width: Of the widest features.
    """
    begun = time.perf_counter()
    pixels: list[Tensor] = [images for images, _ in batches()()]
    count = max(sum(map(len, pixels)), 1)
    image = (time.perf_counter() - begun) / count
    device = next(encoder.parameters())
    with evaluating(encoder), torch.no_grad():
        encoding = _seconds(lambda: [encode(encoder, some.to(device.device, device.dtype)) for some in pixels]) / count
    passing, product = _computing(computing_device(encoder), classes, width)
    return all_objects(Cost(image, encoding, product, passing))[0]


def cost_of_classifiers(device: torch.device, classes: int, width: int) -> Cost:
    """Measures what kNN and linear probe take of features that are there; every process must call it, and all get the first one's.

    Args:
        device: Where they are computed.
        classes: How many classes there are, about.
        width: Of the features.
    """
    passing, product = _computing(device, classes, width)
    return all_objects(Cost(0.0, 0.0, product, passing))[0]


def _computing(at: torch.device, classes: int, width: int) -> tuple[float, float]:
    """Seconds of a pass of the probe, for each number of the features, and of a multiplication and addition in a product of matrices."""
    # Not random numbers: the run's are to be those of one that measures nothing.
    rows, weights = torch.ones(_ROWS, width, device=at), torch.zeros(classes, width + 1, device=at)
    targets = torch.zeros(_ROWS, dtype=torch.long, device=at)
    from .logistic_regression import loss_and_gradient

    passing = _seconds(lambda: loss_and_gradient(weights, rows, targets, 1.0)) / (_ROWS * width)
    product = _seconds(lambda: rows @ rows.T) / (_ROWS * _ROWS * width)
    return passing, product


def _seconds(task: Callable[[], object]) -> float:
    task()
    begun = time.perf_counter()
    task()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def widths_of(encoder: PreTrainedModel, size: int, pixels: bool, encodings: int) -> list[int]:
    """Widths of the features of a run's evaluation: of pixels, and of the encoder as often as it is evaluated."""
    channels = channels_of(encoder)
    return [channels * min(size, pixel_side(channels)) ** 2] * pixels + [feature_size(encoder)] * encodings
