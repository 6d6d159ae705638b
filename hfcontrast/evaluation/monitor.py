"""What an encoder has gained and lost since the start of a training, on a fifth of the training images."""

from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from ..errors import DataError
from ..losses.uniformity import alignment, uniformity
from ..nn.collapse import rankme
from .knn import knn_accuracy
from .label_free import K, neighbor_agreement
from .protocol import NothingToEvaluate
from .rows import EvaluationRows
from .two_views import features_of_views

_FEWEST = 8  # images


class Monitor:
    """Measures encoders on the same images again and again, and compares their neighbors with those of the first.

    Args:
        rows: A fifth of the training images as test rows, and the others as train rows where they are to classify it.
        images: How many of the fifth are used.
        device: Where neighbors are looked for.
    """

    def __init__(self, rows: EvaluationRows, images: int):
        self.rows, self.images = rows, images
        self.labeled = rows.train is not None
        self._start: Tensor | None = None

    def begin(self, encoder: PreTrainedModel) -> None:
        """Remembers the features of the start; every process must call it.

        Raises:
            NothingToEvaluate: There are too few images.
        """
        self._start = self.rows.test_features(encoder)[0]
        if len(self._start) < _FEWEST:
            raise NothingToEvaluate(
                f"early_stopping measures on a fifth of the training images, which has {len(self._start)} here: at least {_FEWEST} are needed"
            )

    def __call__(self, encoder: PreTrainedModel) -> dict[str, float]:
        """The figures of an encoder; empty where its features are not finite. Every process must call it.

        Returns:
            ``knn`` (with labels), ``view_agreement``, ``shared_with_start``, ``rankme``, ``alignment`` and ``uniformity``.
        """
        assert self._start is not None, "begin() comes first"
        figures: dict[str, Any] = {}
        try:
            with self.rows.remembering():
                features, _ = self.rows.test_features(encoder)
                if self.labeled:
                    figures["knn"] = knn_accuracy(*self.rows.labeled_features(encoder))
            first, second = features_of_views(encoder, self.rows, self.images)
        except NothingToEvaluate:
            raise
        except DataError:
            return {}
        if not len(features) == len(first) == len(self._start):
            return {}
        k = min(K, len(features) - 2)
        return figures | {
            "view_agreement": neighbor_agreement(first, second, k),
            "shared_with_start": neighbor_agreement(self._start, features, k),
            "rankme": rankme(features),
            "alignment": float(alignment(first, second)),
            "uniformity": float(uniformity(features)),
        }
