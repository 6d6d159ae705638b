"""The images beside a run's card: its curves, and test images with their nearest neighbors."""

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from .atomic import atomic_file, writing
from .data.evaluation_loader import evaluation_batches
from .data.sources import Rows
from .encoders import encode
from .evaluation.held_out import HeldOut
from .evaluation.inputs import evaluating, image_transform
from .evaluation.protocol import NothingToEvaluate
from .evaluation.registry import figures_of
from .evaluation.rows import EvaluationRows
from .evaluation.shared_rows import without_test_rows
from .publishing.card import CURVES, NEIGHBORS, Neighbors
from .report.curves import curves_image
from .report.sheet import image_sheet
from .training.build import Training
from .training.data_statistics import spaced
from .training.engines import SHARDED
from .training.tracking import read_metrics

SHOWN, NEAREST, GALLERY = 6, 5, 400  # test images, neighbors of each, and images that these are found among
_POINTS = 500  # of a curve, at most
_SIDE = 96  # pixels


def write_figures(training: Training, rows: EvaluationRows, found: HeldOut, processor: Any) -> Neighbors | None:
    """Writes ``curves.png``, and ``neighbors.png`` unless ``publish.images`` is false, into the run's folder; on the first process.

    What is not made is a warning: the training is finished.

    Args:
        training: The finished run.
        rows: What it was evaluated on.
        found: The same rows as they were held out.
        processor: The image processor that is published.

    Returns:
        What ``neighbors.png`` shows; None where there is none.
    """
    accelerator, output = training.accelerator, training.output
    if not accelerator.is_main_process:
        return None
    for name in (CURVES, NEIGHBORS):
        (output / name).unlink(missing_ok=True)  # of a start before
    _try(CURVES, lambda: _write(output / CURVES, _curves(output)))
    unshown = training.recipe.publish.images is False or len(training.mean) != 3  # other channels are no colors
    if unshown or accelerator.distributed_type in SHARDED:
        return None
    return _try(NEIGHBORS, lambda: _neighbors(training, rows, found, processor))


def _try(name: str, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except Exception as error:  # any error: nothing that is drawn here may lose the run
        print(f"warning: there is no {name}: {type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
        return None


def _write(file: Path, image: Image.Image | None) -> None:
    if image is not None:
        with writing(str(file)), atomic_file(file) as unfinished:
            image.save(unfinished, format="PNG")


def _curves(output: Path) -> Image.Image | None:
    """The loss, and the headline figures of evaluations that were made more than once; None where there is no curve."""
    lines = read_metrics(output / "metrics.jsonl")
    panels = {"loss": [(line["step"], line["loss"]) for line in lines if isinstance(line.get("loss"), int | float)]}
    evaluated = [(line["step"], line["eval"]) for line in lines if isinstance(line.get("eval"), dict)]
    keys = dict.fromkeys(key for _, scores in evaluated for key in scores)
    for key, (evaluator, figure) in figures_of(keys).items():
        if figure == evaluator.headline:
            panels[figure.heading] = [
                (step, scores[key] * (100 if figure.kind == "share" else 1))
                for step, scores in evaluated
                if scores.get(key) is not None
            ]
    found = {title: _thinned(points) for title, points in panels.items() if len(points) > 1}
    return curves_image(found) if found else None


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Fewer points: the mean of each that are beside each other."""
    count = math.ceil(len(points) / _POINTS)
    groups = [points[start : start + count] for start in range(0, len(points), count)]
    return [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]


def _neighbors(training: Training, rows: EvaluationRows, found: HeldOut, processor: Any) -> Neighbors | None:
    most = training.recipe.eval.max_train or GALLERY
    try:
        gallery = _gallery(training, rows, found)
    except NothingToEvaluate:  # the evaluation has said why
        print(f"there is no {NEIGHBORS}: no train image is left that is not a test image", file=sys.stderr)
        return None
    tests, queries = _encoded(training, rows.test.rows, SHOWN, processor)
    others, features = _encoded(training, gallery, min(GALLERY, most), processor)
    if not len(queries) or not len(features):
        return None
    similarity = queries @ features.T
    same = (tests.flatten(1)[:, None] == others.flatten(1)[None]).all(
        -1
    )  # a test image itself, where it is trained on too
    similarity = similarity.masked_fill(same, -math.inf)
    count = min(NEAREST, len(features) - int(same.sum(1).max()))
    if count < 1:
        return None
    nearest = others[similarity.topk(count).indices]  # (N, P, 3, H, W)
    columns = {"test image": tests, f"the {count} nearest of {len(features)} train images": nearest}
    file = training.output / NEIGHBORS
    _write(file, image_sheet(columns, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))
    return Neighbors(len(tests), count, len(features))


def _gallery(training: Training, rows: EvaluationRows, found: HeldOut) -> Rows:
    """The train images that neighbors are found among, none of which is a test image.

    Raises:
        NothingToEvaluate: All of them are.
    """
    if rows.train is not None:
        return rows.train.rows  # as many as evaluations use, also of a run for a time
    elsewhere = found.train is None or training.recipe.eval.path is not None
    return without_test_rows(training.rows if elsewhere else found.train, found.test)[0]


def _encoded(training: Training, rows: Rows, count: int, processor: Any) -> tuple[Tensor, Tensor]:
    """Some images, evenly spaced, as thumbnails (N, 3, S, S) in [0, 1], and their features of length 1 (N, D)."""
    encoder, accelerator = training.method.export_encoder(), training.accelerator
    transform = image_transform(processor)
    thumbnails: list[Tensor] = []
    features: list[Tensor] = []

    def prepared(images: list[Image.Image]) -> Tensor:
        thumbnails.extend(_thumbnail(image) for image in images)
        return transform(images)

    with evaluating(encoder), accelerator.autocast():
        for pixels, *_ in evaluation_batches(spaced(rows, count), prepared, 32):
            features.append(encode(encoder, pixels.to(accelerator.device)).float().cpu())
    if not features:
        return torch.zeros(0, 3, _SIDE, _SIDE), torch.zeros(0, 1)
    return torch.stack(thumbnails), F.normalize(torch.cat(features).nan_to_num(), dim=1)


def _thumbnail(image: Image.Image) -> Tensor:
    fitted = ImageOps.fit(image.convert("RGB"), (_SIDE, _SIDE))
    return torch.frombuffer(bytearray(fitted.tobytes()), dtype=torch.uint8).view(_SIDE, _SIDE, 3).permute(2, 0, 1) / 255
