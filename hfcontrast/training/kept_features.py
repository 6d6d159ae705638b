"""Features of frozen encoders, computed once for each image and crop and kept on the disk: then they are read instead of computed."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from ..atomic import write_json, writing
from ..data.augment.color import ColorAugmentation
from ..data.augment.draws import numbers_of
from ..data.image_reader import detail_of
from ..data.loader import TrainLoader
from ..errors import RecipeError
from ..methods.base import Method
from ..methods.contract.frozen_features import FrozenFeatures
from ..progress import LongTask
from ..view import View

if TYPE_CHECKING:
    from ..recipe import Recipe

EPOCH = "crop_epoch"  # the entry of a batch with the epochs in which its crops are drawn
_BLOCK = 64  # rows that are computed at once, whoever computes them: so that they are the same to the bit
_FOLDER = "hfcontrast_features"
_COLORS = ("brightness", "contrast", "saturation", "hue")
_DISTORTIONS = ("grayscale", "sobel", "blur", "noise", "solarize", "cutout")
_VERSION = 1  # of how they are computed


class KeptFeatures:
    """The features of one view, of all rows and crops, in a file.

    Args:
        folder: Where they are kept.
        frozen: The method's.
        rows: Rows N of the data.
        crops: How many different crops C each row has.
        views: How many of them V a batch has of each row.

    Attributes:
        crops: As given.
    """

    _values: np.memmap
    _done: np.memmap

    def __init__(self, folder: Path, frozen: FrozenFeatures, rows: int, crops: int, views: int):
        self.folder, self.frozen, self.crops = folder, frozen, crops
        self._shape = (rows, crops, views, frozen.size)

    @property
    def bytes(self) -> int:
        """What the file takes on the disk."""
        return 4 * int(np.prod(self._shape))

    def open(self) -> None:
        """Opens the files, and makes those that are not there; several processes may do so at once.

        Raises:
            RecipeError: They find no room.
        """
        done, values = self.folder / "done.bin", self.folder / "features.bin"
        with writing(str(self.folder)):
            self.folder.mkdir(parents=True, exist_ok=True)
            there = values.stat().st_size if values.exists() else 0
            if there < self.bytes:
                free = shutil.disk_usage(self.folder).free
                if free < self.bytes:
                    raise RecipeError(
                        f"train.cache_features: the features take {self.bytes / 1e9:.2f} GB in {self.folder}, where {free / 1e9:.2f} GB are free: "
                        "lower repeat_after of the view, or set HF_DATASETS_CACHE to a larger disk"
                    )
            for file, size in ((values, self.bytes), (done, self._blocks * self.crops)):
                with open(file, "ab"):
                    if file.stat().st_size < size:
                        os.truncate(file, size)  # zeros, which take no room yet
        self._values = np.memmap(values, np.float32, "r+", shape=self._shape)
        self._done = np.memmap(done, np.uint8, "r+", shape=(self.crops, self._blocks))

    @property
    def _blocks(self) -> int:
        return -(-self._shape[0] // _BLOCK)

    def missing(self) -> list[tuple[int, range]]:
        """Crops and rows that have not been computed yet, block by block."""
        rows = self._shape[0]
        return [
            (crop, range(block * _BLOCK, min((block + 1) * _BLOCK, rows)))
            for crop, block in np.argwhere(self._done == 0).tolist()
        ]

    def put(self, crop: int, rows: list[int], features: Tensor) -> None:
        """Keeps the features (B, V, D) of a crop of some rows."""
        self._values[rows, crop] = features.float().cpu().numpy()

    def finish(self, crop: int, rows: range) -> None:
        """Marks a block as done, when its features are on the disk; rows that cannot be read have none."""
        self._values.flush()
        self._done[crop, rows.start // _BLOCK] = 1
        self._done.flush()

    def taken(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The entry with the features of a batch's rows and crops."""
        places = batch["index"].numpy(), (batch[EPOCH] % self.crops).numpy()
        return {self.frozen.entry: torch.from_numpy(self._values[places])}


def keys_to_keep(recipe: "Recipe", method: Method, views: tuple[View, ...], streaming: bool) -> frozenset[str]:
    """The batch keys of the views whose features are to be kept, and which a loader then has not to cut.

    Raises:
        RecipeError: There are none, or their crops do not come again.
    """
    if not recipe.train.cache_features:
        return frozenset()
    frozen = method.frozen_features()
    if not frozen:
        raise RecipeError(
            f"train.cache_features: method '{recipe.method.name}' has no frozen encoder here whose features could be kept: set it to false"
        )
    if streaming:
        raise RecipeError(
            "train.cache_features needs rows that have numbers, which those of a stream have not: set data.streaming=false"
        )
    named = {view.name: view for view in views}
    for view in views:
        if view.key not in frozen:
            continue
        source = named[view.crop_of or view.name]
        if source.repeat_after is None:
            raise RecipeError(
                f"train.cache_features keeps the features of so many crops of an image as views.{source.name}.repeat_after says, and it is "
                "null: set it, to 8 for example"
            )
        if any(getattr(view, name) for name in _DISTORTIONS) or (
            view.jitter and any(getattr(view, name) for name in _COLORS)
        ):
            raise RecipeError(
                f"train.cache_features keeps the features of view '{view.name}', whose colors are drawn anew in every epoch: set its "
                f"{', '.join((*_COLORS, *_DISTORTIONS))} to 0"
            )
    return frozenset(frozen)


def keep_features(
    recipe: "Recipe",
    accelerator: Accelerator,
    method: Method,
    views: tuple[View, ...],
    loader: TrainLoader,
    augmentation: ColorAugmentation,
) -> Callable[[dict], dict]:
    """Computes what is missing of the features; all processes call this together, and each computes a part.

    Args:
        recipe: The recipe.
        accelerator: Precision and processes.
        method: On its device.
        views: The views in use.
        loader: Reads the rows; its batches are then without the views of these features.
        augmentation: Normalizes the crops.

    Returns:
        What puts the features into a batch of the loader.

    Raises:
        RecipeError: They find no room.
    """
    found = []
    for key, frozen in method.frozen_features().items():
        own = [view for view in views if view.key == key]
        named = {view.name: view for view in views}
        (crops, *others) = {named[view.crop_of or view.name].repeat_after for view in own}
        if others:
            raise RecipeError(
                f"train.cache_features: the views of {key} have different values of repeat_after: give them one"
            )
        facts = {
            "version": _VERSION,
            "frozen": frozen.fingerprint,
            "crops": _crop_facts(own, views),
            "detail": repr(detail_of(views)),  # of decoded JPEGs
            **({"window": list(recipe.data.window)} if recipe.data.window else {}),
            **({"channels": recipe.data.channels} if recipe.data.other_channels else {}),
            **({"largest": loader.largest} if loader.largest else {}),
            "seed": recipe.train.seed,
            "normalization": [augmentation.mean, augmentation.std],
            "precision": accelerator.mixed_precision,
            "rows": [loader.rows.num_rows, loader.rows.fingerprint()],
        }
        name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
        folder = Path(datasets.config.HF_DATASETS_CACHE) / _FOLDER / name
        kept = KeptFeatures(folder, frozen, loader.rows.num_rows, crops, sum(view.count for view in own))
        kept.open()
        if accelerator.is_main_process and not (folder / "facts.json").exists():
            write_json(folder / "facts.json", facts)
        for first, step in ((accelerator.process_index, accelerator.num_processes), (0, 1)):
            # The second time what another machine has computed, and this one does not see.
            blocks = kept.missing()[first::step]
            if blocks:
                _compute(kept, blocks, key, accelerator, loader, augmentation)
            accelerator.wait_for_everyone()
        found.append(kept)
    return partial(_completed, found)


def _crop_facts(own: list[View], views: tuple[View, ...]) -> list[dict[str, Any]]:
    """What the crops of some views follow from, beside the data and the seed."""
    named, numbers = {view.name: view for view in views}, numbers_of(views)
    sources = [named[view.crop_of or view.name] for view in own]
    return [
        {name: getattr(source, name) for name in ("scale", "ratio", "horizontal_flip", "vertical_flip", "repeat_after")}
        | {
            name: value for name in ("rotate", "unaugmented") if (value := getattr(source, name))
        }  # others stay where they are
        | {"size": view.size, "interpolation": view.interpolation, "numbers": numbers[source.name].tolist()}
        for view, source in zip(own, sources)
    ]


def _completed(kept: list[KeptFeatures], batch: dict[str, Any]) -> dict[str, Any]:
    for features in kept:
        batch |= features.taken(batch)
    return {name: value for name, value in batch.items() if name != EPOCH}


@torch.no_grad()
def _compute(
    kept: KeptFeatures,
    blocks: list[tuple[int, range]],
    key: str,
    accelerator: Accelerator,
    loader: TrainLoader,
    augmentation: ColorAugmentation,
) -> None:
    total = sum(len(rows) for _, rows in blocks)
    told = f"computing the features of {kept.crops} crops of each image ({kept.bytes / 1e6:,.0f} MB in {kept.folder})"
    with LongTask(told, total) as task, accelerator.autocast():
        for crop, rows in blocks:
            batch = loader.crops(list(rows), crop, key)
            if batch is not None:
                pixels = augmentation(batch, accelerator.device)[key]
                kept.put(crop, batch["index"].tolist(), kept.frozen.compute(pixels))
            kept.finish(crop, rows)
            task.update(len(rows))
