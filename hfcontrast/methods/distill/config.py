"""The settings of distillation."""

import math
from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict

from ..base import MethodConfig, Phase


@strict
class DistillConfig(MethodConfig):
    """Configuration of distillation.

    Args:
        teacher: The frozen teacher, an encoder of images of any kind: a folder or a name on the Hub (of a model with two towers
            its image tower is taken), or with a revision ``{pretrained: NAME, revision: ...}``. ``{model_type: ...}`` is an
            architecture with random weights, always the same ones. A resumed run may name another place of the same weights.
        projector: Head from the student's features to the teacher's: "deep" with four layers (SimReg), "mlp" with one hidden layer,
            or "linear".
        hidden_dim: Width of the hidden layers of "deep" (its second one is as wide as the features) and "mlp"; None takes twice the
            student's feature width, as SimReg does.
        regression_weight: Weight of the squared distance to the teacher's features (SimReg); 0: without it.
        targets: What of the teacher's features both losses compare: "features", as the papers do; "centered", without their mean over
            the global batch, where all of them are much alike (as those of random weights are); or "standardized", divided by their
            standard deviation too.
        normalize: Whether the regression compares unit vectors, as SimReg does, or the features themselves.
        relational_weight: Weight of SEED's loss, which compares similarities to a queue of the teacher's features; 0: without it and
            without a queue.
        queue_size: Number K of features in the queue: those of the newest images.
        student_temperature: SEED's temperature of the student's similarities, above 0.
        teacher_temperature: SEED's temperature of the teacher's similarities, above 0.
        teacher_dim: Width of the teacher's features; None: read from the teacher.
        teacher_mean: What the teacher's images are normalized by; None: read from its image processor, else the data's mean.
        teacher_std: The standard deviation to it.
        image_mean: Mean of each color that the views are normalized by; None: the data's.
        image_std: The standard deviation to it.
    """

    model_type = "hfcontrast_distill"
    places: ClassVar[tuple[str, ...]] = ("teacher",)

    teacher: str | dict[str, Any] | None = None
    projector: Literal["deep", "mlp", "linear"] = "deep"
    hidden_dim: int | None = None
    targets: Literal["features", "centered", "standardized"] = "features"
    regression_weight: float | int = 1.0
    normalize: bool = True
    relational_weight: float | int = 0.0
    queue_size: int = 65536
    student_temperature: float | int = 0.2
    teacher_temperature: float | int = 0.01
    teacher_dim: int | None = None
    teacher_mean: list[float | int] | None = None
    teacher_std: list[float | int] | None = None
    image_mean: list[float | int] | None = None
    image_std: list[float | int] | None = None

    def validate_teacher(self):
        """There is no student without a teacher."""
        if not self.teacher:
            raise ValueError(
                "teacher is missing: name a released encoder, a folder or a name on the Hub such as facebook/dinov2-small"
            )

    def validate_temperatures(self):
        """Temperatures divide."""
        for name in ("student_temperature", "teacher_temperature"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a number above 0")

    def validate_weights(self):
        """One of the losses is there."""
        for name in ("regression_weight", "relational_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 or more")
        if not self.regression_weight and not self.relational_weight:
            raise ValueError("regression_weight and relational_weight are both 0: nothing would be learned")

    def validate_queue_size(self):
        """The queue has places."""
        if self.queue_size < 1:
            raise ValueError(f"queue_size is {self.queue_size}, expected 1 or more")

    def training_phases(self, steps_per_epoch: int, batch_size: int) -> list[Phase]:
        """The step at which the queue is full."""
        if not self.relational_weight:
            return []
        size = self.queue_size
        otherwise = "some features that similarities are compared to remain random vectors"
        return [Phase("method.queue_size", size, math.ceil(size / batch_size), otherwise)]
