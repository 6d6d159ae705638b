"""kNN accuracy: weighted k-nearest-neighbor classification of frozen features (Wu et al., 2018, section 3.4; DINO's protocol)."""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from .protocol import LABELS, TRAIN, Evaluator, Figure, Scores, Settings

if TYPE_CHECKING:
    from torch import Tensor

K, TEMPERATURE = 20, 0.07  # DINO's
_VOTES = 1 << 26  # held at once: test images times classes


def knn_accuracy(
    train: "Tensor",
    train_labels: "Tensor",
    test: "Tensor",
    test_labels: "Tensor",
    k: int = K,
    temperature: float = TEMPERATURE,
) -> float:
    """Top-1 accuracy of the k most similar train features, each with the weight exp(cosine similarity / temperature).

    Args:
        train: (N, D) features of the training images.
        train_labels: (N,) classes, 0 and up; rows with a negative one have none and are left out, as rows with features that are not finite.
        test: (M, D) features of the test images; a row that is not finite counts as wrong.
        test_labels: (M,), in the same way.
        k: Number of neighbors; all train features when they are fewer.
        temperature: Temperature of the weights.

    Returns:
        A share in [0, 1].

    Raises:
        ValueError: No train row, or no test row, has a label.
    """
    import torch  # not before it is needed: recipes are checked by the settings below
    from torch.nn import functional as F

    from .finite import finite_train, wrong_test

    train, train_labels = finite_train(train[train_labels >= 0], train_labels[train_labels >= 0])
    test, test_labels = wrong_test(test, test_labels, train_labels)
    test, test_labels = test[test_labels >= 0], test_labels[test_labels >= 0]
    if not len(train) or not len(test):
        raise ValueError(f"kNN needs labeled rows: there are {len(train)} train rows and {len(test)} test rows")
    with torch.no_grad():
        train, test = F.normalize(train.float(), dim=1), F.normalize(test.float(), dim=1)
        classes, train_classes = train_labels.unique(return_inverse=True)  # labels may be any numbers, such as 2 ** 40
        k = min(k, len(train))
        correct = 0
        rows = max(min(1024, _VOTES // len(classes)), 1)
        for part, labels in zip(test.split(rows), test_labels.split(rows)):
            similarity, neighbors = (part @ train.T).topk(k, dim=1)
            votes = torch.zeros(len(part), len(classes), device=part.device)
            # Relative to the nearest neighbor: the vote is the same, and no exponential overflows at a low temperature.
            weights = ((similarity - similarity[:, :1]) / temperature).exp()
            votes.scatter_add_(1, train_classes[neighbors], weights)
            correct += int((classes[votes.argmax(dim=1)] == labels).sum())
    return correct / len(test)


class KNNSettings(Settings):
    """Settings of the kNN accuracy."""

    k: Annotated[int, Field(ge=1)] = Field(
        K, description="Nearest train features that each test image is classified by."
    )
    temperature: Annotated[float, Field(gt=0)] = Field(
        TEMPERATURE, description="A neighbor has the weight exp(cosine similarity / temperature)."
    )


class KNN(Evaluator):
    """Classification of each test image by the k train images whose frozen features are most similar."""

    name = "knn"
    needs = frozenset({TRAIN, LABELS})
    settings_class = KNNSettings
    figures = (Figure("accuracy", "kNN accuracy", headline=True),)
    in_runs = of_pixels = True
    order = 10
    caveat = (
        "kNN understates masked image modeling and predictive pretext tasks (MAE, ...): these are evaluated by linear probe and "
        "fine-tuning."
    )
    task_name = "k-nearest-neighbor classification of frozen features"

    def evaluate(self, encoder, rows, settings):
        from .features import computing_device, on_device

        train, train_labels, test, labels = on_device(computing_device(encoder), *rows.labeled_features(encoder))
        accuracy = knn_accuracy(train, train_labels, test, labels, settings.k, settings.temperature)
        counts = {"k": min(settings.k, int((train_labels >= 0).sum()))}
        return Scores({"accuracy": accuracy}, counts=counts, chance={"accuracy": rows.chance})

    def explain(self, settings, names):
        return f"kNN: k-nearest neighbors (k = {settings.k}, or all where they are fewer; cosine similarity weighted with temperature {settings.temperature})."

    def conditions(self, settings):
        return [settings.k, settings.temperature]

    def reported_settings(self, settings):
        return {"k": settings.k}
