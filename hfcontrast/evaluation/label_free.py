"""What can be said of features without labels: neighbors that two augmentations share, RankMe, alignment and uniformity."""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from .protocol import Chance, Evaluator, Figure, NothingToEvaluate, Scores, Settings

if TYPE_CHECKING:
    from torch import Tensor

K, IMAGES = 10, 1024
_SHOWN = frozenset({"card", "compare"})


class LabelFreeSettings(Settings):
    """Settings of the evaluation without labels."""

    k: Annotated[int, Field(ge=1)] = Field(K, description="Nearest neighbors that are compared.")
    images: Annotated[int, Field(ge=3)] = Field(IMAGES, description="Test images that are used at most.")


class LabelFree(Evaluator):
    """Share of the k nearest neighbors of an image that two augmentations of all images agree on; RankMe; alignment and uniformity.

    No figure here needs a label, and none says whether features tell apart what matters to you: an encoder that only knows how bright
    an image is can have good ones. They are compared with those of the encoder before the training.
    """

    name = "label-free"
    settings_class = LabelFreeSettings
    figures = (
        Figure("neighbor_agreement", "neighbors shared by two views", headline=True, shown_in=_SHOWN),
        Figure("rankme", "RankMe", "number", None, low=0.9, digits=1, shown_in=_SHOWN),
        Figure("alignment", "alignment", "number", None, low=0.0, high=4.0, digits=3, shown_in=_SHOWN),
        Figure("uniformity", "uniformity", "number", None, high=0.0, low=-8.0, digits=3, shown_in=_SHOWN),
    )
    in_runs = without_labels = True
    order = 55
    task_name = "consistency of frozen features under augmentation"

    def evaluate(self, encoder, rows, settings):
        from ..losses.uniformity import alignment, uniformity
        from ..nn.collapse import rankme
        from .two_views import features_of_views

        first, second = features_of_views(encoder, rows, settings.images)
        if len(first) < 3:
            raise NothingToEvaluate(
                f"neighbors are compared among at least 3 images with finite features, here there are {len(first)}"
            )
        k = min(settings.k, len(first) - 2)
        figures = {
            "neighbor_agreement": neighbor_agreement(first, second, k),
            "rankme": rankme(first),
            "alignment": float(alignment(first, second)),
            "uniformity": float(uniformity(first)),
        }
        by_chance = {"neighbor_agreement": Chance(k / (len(first) - 1))}
        return Scores(figures, counts={"images": len(first), "k": k}, chance=by_chance)

    def explain(self, settings, names):
        return (
            f"Without labels: each of at most {settings.images:,} test images is cropped to 50 to 100 % of its area, mirrored and changed in brightness and contrast "
            f"twice; of its {settings.k} nearest neighbors (cosine similarity) among the first views and among the second ones, the share in both is "
            "the agreement of neighbors. RankMe (Garrido et al., 2023, equation 1: exp of the entropy of the singular values' shares) counts the directions that the features "
            "use; alignment is the squared distance of two views, uniformity the log of the mean Gaussian potential of all pairs (Wang and Isola, 2020)."
        )


def neighbor_agreement(first: "Tensor", second: "Tensor", k: int) -> float:
    """The share of its k nearest neighbors by one view of all images that an image has by another view of all images too.

    Args:
        first: (N, D) features of one view of each image.
        second: (N, D) features of another view.
        k: How many neighbors, below N.

    Returns:
        A share in [0, 1]; k / (N - 1) for features that say nothing.
    """
    import torch

    first_neighbors, neighbors = (_neighbors(features, k, view) for view, features in enumerate((first, second)))
    shared = torch.zeros(len(first), len(first), dtype=torch.bool).scatter_(1, first_neighbors, True)
    return float(shared.gather(1, neighbors).float().mean())


def _neighbors(features: "Tensor", k: int, view: int) -> "Tensor":
    """(N, k) the nearest neighbors of each row; equally similar ones in an order of their own, which two views do not share."""
    import torch

    from ..nn.random import sample_uniform
    from .ranks import TOLERANCE, unit

    similarity = unit(features) @ unit(features).T
    similarity += TOLERANCE * sample_uniform(torch.arange(len(features)), len(features), view)
    return similarity.fill_diagonal_(-2.0).topk(k, dim=1).indices
