"""Linear probe: multinomial logistic regression on frozen features.

Protocol (that of Kornblith et al., 2019, and of CLIP, Radford et al., 2021, section 3.2, on a coarser grid of strengths):
features of undistorted images, each dimension standardized by the train features; cross-entropy with an L2 penalty on the weights,
minimized by full-batch L-BFGS; the strength of the penalty is the one that classifies a held-out fifth of the train features best,
after which all of them are fitted with it. The test features decide nothing. There is no random draw.

The tables of most self-supervised papers train the same linear layer by SGD on randomly cropped and flipped images with a
tuned learning rate, which gives somewhat higher figures: compare figures of one protocol only.
"""

from typing import Annotated

from pydantic import Field

from .protocol import LABELS, TRAIN, Evaluator, Figure, Scores, Settings

STRENGTHS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
_COMPUTATION = ("choose_strength", "fit", "linear_accuracy", "loss_and_gradient")


def __getattr__(name: str):  # the computation imports torch, which a recipe's check by the settings below does not need
    if name in _COMPUTATION:
        from . import logistic_regression

        return getattr(logistic_regression, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class LinearSettings(Settings):
    """Settings of the linear probe."""

    strengths: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        STRENGTHS, min_length=1, description="L2 penalties to choose from, on a held-out fifth of the train features."
    )


class LinearProbe(Evaluator):
    """Accuracy of a linear classifier (multinomial logistic regression) that is fitted to frozen features of the train images."""

    name = "linear"
    needs = frozenset({TRAIN, LABELS})
    settings_class = LinearSettings
    figures = (Figure("accuracy", "linear probe", headline=True),)
    thorough = of_pixels = True
    order = 20
    task_name = "linear classification of frozen features"

    def evaluate(self, encoder, rows, settings):
        from .features import computing_device, on_device
        from .logistic_regression import linear_accuracy

        train, train_labels, test, labels = on_device(computing_device(encoder), *rows.labeled_features(encoder))
        accuracy = linear_accuracy(train, train_labels, test, labels, settings.strengths)
        return Scores({"accuracy": accuracy}, chance={"accuracy": rows.chance})

    def explain(self, settings, names):
        return (
            "Linear probe: logistic regression on standardized features of undistorted images, its L2 penalty chosen on a held-out "
            "fifth of the training images."
        )

    def reported_settings(self, settings):
        return {}
