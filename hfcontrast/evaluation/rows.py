"""Rows for evaluation: which are held out, how their images are prepared, and on which device; used by runs and commands."""

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..data.aligned_labels import numbered_as
from ..data.label_numbers import LabelNumbers
from ..data.sources import Rows
from ..encoders.two_towers import is_two_towers
from ..errors import DataError
from .batches import Batches
from .chance import of_classes
from .counts import behind, class_count, label_counts, nonfinite_counts, unknown_counts, unknown_labels
from .data_sets import DataSet
from .features import RawPixels, all_objects, extract_features, join_processes
from .finite import finite, wrong_test
from .inputs import image_transform
from .needs import Described, further_columns, meant, named, require  # noqa: F401 (other modules import them from here)
from .other_rows import OtherRows
from .protocol import CAPTIONS, CLASS_NAMES, LABELS, NEEDS, TEXT_TOWER, TRAIN, Chance, NothingToEvaluate
from .retrieval import caption_batches
from .shared_rows import without_test_rows
from .tuned import Tuned

MakeBatches = Callable[..., Batches]


class EvaluationRows:
    """The images that evaluators are given, prepared as the model's own processor does.

    Features of an encoder are computed once for all evaluators within :meth:`remembering`.

    Args:
        test: Gives this process's share of the test images as batches of (pixel_values, labels): :class:`.batches.Batches`.
        train: The same of the train images, which classifiers are fitted to; None where there are none.
        make: Makes batches of rows, as those were made.
        source: Where the test rows come from, as arguments of ``load_rows``.
        split: Their split; None where a fifth of the train rows was held out.
        tokenizer: The model's tokenizer, or a processor that has one; None without texts.
        batch_size: Images encoded at once.

    Attributes:
        tuned: What of the encoder is fine-tuned.
        shared: How many train rows were left out as they are test rows.
        data: What the test rows are; see :meth:`call`.
        counts: How many images the last evaluation had, and what was left out; see :mod:`.counts`.
        numbers: How many images were handed out since :meth:`begin`: the numbers behind the figures of one evaluator.
        chance: The accuracy of classifying the test images by the most frequent class, once their labels are known.
    """

    def __init__(
        self,
        test: Callable[..., Any],
        train: Callable[..., Any] | None = None,
        *,
        make: MakeBatches | None = None,
        source: Mapping[str, Any] | None = None,
        split: str | None = None,
        tokenizer: Any = None,
        batch_size: int = 64,
    ):
        self.test: Any = test
        self.train: Any = train
        self.make, self.source, self.split = make, dict(source or {}), split
        self.tokenizer, self.batch_size = tokenizer, batch_size
        self.tuned = Tuned()
        self.shared = 0
        self.data: DataSet | None = None
        self.counts: dict[str, Any] = {}
        self.begin()
        self._features: dict[str, tuple[Tensor, Tensor]] | None = None
        self._others = OtherRows(make, self.source, split)

    @property
    def test_rows(self) -> Rows | None:
        """The test rows, all of them; None where bare batches were given."""
        return getattr(self.test, "all_rows", None)

    def lacks(self, needs: Collection[str], encoder: Any) -> list[str]:
        """What of some needs (see :data:`.protocol.NEEDS`) these rows and this encoder do not have.

        Args:
            needs: The needs.
            encoder: The encoder.
        """
        rows = self.test_rows
        there = {
            TRAIN: self.train is not None,
            LABELS: rows is None or rows.labeled,
            CLASS_NAMES: rows is not None and bool(rows.class_names),
            CAPTIONS: rows is not None and rows.captions is not None,
            TEXT_TOWER: self.tokenizer is not None and is_two_towers(encoder),
        }
        columns = () if rows is None else rows.columns
        known = [need for need in NEEDS if need in needs and not there[need]]
        return known + [need for need in further_columns(needs) if need not in columns]

    @contextlib.contextmanager
    def remembering(self) -> Iterator[None]:
        """Caches features in the context, of one encoder whose weights do not change."""
        self._features = {}
        try:
            yield
        finally:
            self._features = None

    def begin(self) -> None:
        """Begins an evaluator: what is handed out is counted from here on."""
        self.numbers: dict[str, int] = {}
        self.labeled = self.kept = 0  # test images with a label, and those of them that test_features handed out
        self.chance: Chance | None = None

    @property
    def remembered(self) -> bool:
        """Whether the features of the test images are there already."""
        return bool(self._features) and "test" in self._features

    def test_features(self, encoder: PreTrainedModel) -> tuple[Tensor, Tensor]:
        """Features (M, D) and labels (M,), below 0 where there is none, of the test images of all processes; on the CPU.

        Images whose features are not finite are left out. Of an evaluator that needs labels they count as wrong nevertheless: what
        it measures as a share of the images it has is made a share of all.

        Raises:
            DataError: No image has finite features.
        """
        features, labels = self._of("test", encoder, self.test)
        if "train_images" not in self.counts:
            self.counts["test_images"] = len(labels)
        good = self._finite("test", features)
        self.labeled, self.kept = int((labels >= 0).sum()), int((labels[good] >= 0).sum())
        self.numbers |= behind("test", len(labels), self.test)
        return (features, labels) if good.all() else (features[good], labels[good])

    def train_features(self, encoder: PreTrainedModel) -> tuple[Tensor, Tensor]:
        """The same of the train images; near-duplicates of test images have the label -1, as if they had none."""
        return self._train(*self._of("train", encoder, self.train))

    def _train(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Those of the train images whose features are finite."""
        good = self._finite("train", features)
        if not good.all():
            features, labels = features[good], labels[good]
        self.numbers |= behind("train", int((labels >= 0).sum()) or len(labels), self.train)
        return features, labels

    def labeled_features(self, encoder: PreTrainedModel) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Features and labels of the train images, then of the test images.

        Train images whose features are not finite are left out. Such test images have features of zeros and a class that no train
        image has, so that a classifier counts them as wrong.

        Raises:
            NothingToEvaluate: No image of the ones or the others has a label.
            DataError: No image of the ones or the others has finite features.
        """
        test, labels = self._of("test", encoder, self.test)
        bad = int((~self._finite("test", test)).sum())
        self.numbers |= behind("test", int((labels >= 0).sum()) or len(labels), self.test)
        train, all_train_labels = self._of("train", encoder, self.train)
        train, train_labels = self._train(train, all_train_labels)
        left_out = int(join_processes(torch.tensor([getattr(self.train, "left_out", 0)])).sum())
        self.counts = label_counts(labels, all_train_labels, left_out)
        self.counts |= {"shared_rows": self.shared, "test_classes": class_count(labels)}
        self.counts["train_images"] = int((train_labels >= 0).sum())
        self.counts |= nonfinite_counts(bad, len(all_train_labels) - len(train_labels))
        self.count_unknown(labels, train_labels)
        test, labels = wrong_test(test, labels, train_labels)
        counted = [int((found >= 0).sum()) for found in (train_labels, labels)]
        if left_out and not counted[0] and counted[1]:
            raise NothingToEvaluate(
                f"all {left_out:,} labeled images of {named(self.train, 'the train rows')} are near-duplicates of test images: "
                "choose another split to evaluate on, or other train rows"
            )
        if not all(counted):
            raise NothingToEvaluate(
                f"there are labels for {counted[0]:,} images of {named(self.train, 'the train rows')} and {counted[1]:,} of "
                f"{named(self.test, 'the test rows')}: classification needs some of both"
            )
        return train, train_labels, test, labels

    def count_unknown(self, labels: Tensor, train_labels: Tensor) -> None:
        """Counts the test images whose class no train image has, and notes what chance is; every process must call it.

        Args:
            labels: (M,) of the test images of all processes.
            train_labels: (N,) of the train images, or of their classes.
        """
        self.chance = of_classes(labels, name := self.class_names().name)
        if bool((train_labels >= 0).any()) and len(unknown := unknown_labels(labels, train_labels)):
            self.counts |= unknown_counts(unknown, name)

    def class_names(self) -> LabelNumbers:
        """The names of the test images' classes by their numbers; every process must call it."""
        names = LabelNumbers() if self.test_rows is None else self.test_rows.labels
        met = {number: name for known in all_objects(names.met) for number, name in known.items()}
        return replace(names, met=met)

    def captioned(self) -> Callable[[], Iterator[tuple[Tensor, list[list[str]]]]]:
        """Gives this process's share of the test images as batches of pixel values and the captions of each image."""
        return partial(caption_batches, self.test.rows, self.test.transform, self.batch_size)

    def others(self, own: Mapping[str, Any], split: str | None = None) -> tuple[Rows, Batches]:
        """Rows of another split or data set and their batches, prepared in the same way; see :meth:`.other_rows.OtherRows.open`."""
        return self._others.open(own, split)

    def data_of(self, own: Mapping[str, Any], split: str | None = None) -> DataSet | None:
        """What :meth:`others` gives rows of; None where these are the test rows."""
        return self._others.data_of(own, split)

    def call(self, data: DataSet, name: Callable[..., str]) -> None:
        """Names the data: what the test rows are, and a function that gives the names of others (see :func:`.data_sets.data_set_of`)."""
        self.data, self._others.name = data, name

    def _finite(self, which: str, features: Tensor) -> Tensor:
        """(N,) whether the features of an image are finite; counts those that are not.

        Raises:
            DataError: None are.
        """
        good = finite(features)
        self.counts.pop(f"nonfinite_{which}_images", None)  # of another encoder
        if not good.any():
            rows = named(getattr(self, which), f"the {which} rows")
            raise DataError(
                f"the encoder's features of all {len(good):,} images of {rows} have numbers that are NaN or infinite"
            )
        wrong = nonfinite_counts(**{which: int((~good).sum())})
        self.counts |= wrong
        self.numbers |= wrong
        return good

    def _of(self, which: str, encoder: PreTrainedModel | RawPixels, batches: Callable) -> tuple[Tensor, Tensor]:
        if self._features is None:
            return extract_features(encoder, batches())
        if which not in self._features:
            self._features[which] = extract_features(encoder, batches())
        return self._features[which]


def prepared_rows(
    train: Rows | None,
    test: Rows,
    processor: Any,
    *,
    size: int,
    batch_size: int,
    max_train: int | None,
    max_test: int | None,
    keep: bool = True,
    **options: Any,
) -> EvaluationRows:
    """Rows as evaluators are given them.

    Args:
        train: What classifiers are fitted to; None where there is nothing. Test rows, and near-duplicates of test images, are left out.
        test: What is evaluated on. Its classes get the numbers of the train rows' classes of the same names; its other classes have numbers
            that no train row has, and so count as wrong.
        processor: The model's own processor, or its image processor.
        size: Side of the images that it makes, in pixels.
        batch_size: Images encoded at once.
        max_train: Train rows that are used at most, drawn from all of them (see ``share_out``); None: all.
        max_test: Test rows, in the same way.
        keep: Whether small data are kept in memory as pixels, as they are read again and again.
        options: See :class:`EvaluationRows`.

    Raises:
        NothingToEvaluate: All train rows are test rows.
    """

    def make(rows: Rows, limit: int | None = max_test, **more: Any) -> Batches:
        made = Batches(rows, limit, transform=image_transform(processor), batch_size=batch_size, size=size, **more)
        made.keep = made.keep and keep
        return made

    shared, trains = 0, None
    if train is not None:
        train, shared = without_test_rows(train, test)
        test = numbered_as(train, test)
    tests = make(test)
    if train is not None:
        trains = make(train, max_train, tests=tests)
    found = EvaluationRows(tests, trains, make=make, batch_size=batch_size, **options)
    found.shared = shared
    return found
