"""Distillation of a released encoder into another one, on images without labels: SimReg and SEED.

SimReg: Regression as a Simple Yet Effective Tool for Self-supervised Knowledge Distillation. Navaneet, Koohpayegani, Tejankar,
Pirsiavash, 2021, arXiv:2201.05131. SEED: Self-supervised Distillation for Visual Representation. Fang, Wang, Wang, Zhang, Yang, Liu,
2021, arXiv:2101.04731. Details that the papers leave open are those of the authors' code (UCDvision/simreg, jacobswan1/SEED).

Deviations from the papers:
- The teacher sees the student's large crop at its own size, without color augmentation, so that its features are those of the
  image (as "consistent teaching", Beyer et al., 2021, arXiv:2106.05237); in SimReg both see different crops by default, in SEED one
  crop with one augmentation. The student's small crops are those of DINO's multi-crop; the teacher sees none.
- The pooled features of the teacher are compared; SEED compares the outputs of its teacher's own projection head, of 128 dimensions,
  which released encoders do not have, and maps the student there by a head of two layers without normalization.
- Both losses can be added, with weights, and compare centered or standardized features where asked to.
- The queue may have any size; the authors' is a multiple of the batch. The teacher's temperature is the paper's; the default of
  SEED's code is 10^-4.
- SimReg's hidden layers have biases before their normalization, where they have no effect; here they have none.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...encoders.released import ReleasedEncoder, open_released
from ...errors import ArgumentError, CheckpointError, RecipeError
from ...losses import feature_regression, seed_loss
from ...nn import MLPHead, Queue, all_mean
from ...view import View
from ..base import FrozenFeatures, Method, MethodOutput, Progress
from .config import DistillConfig

_IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
_EPSILON = 1e-5  # of the variance, as in batch normalization
_COLOR = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "grayscale": 0.2}


class Distill(Method):
    """Distillation (SimReg, Navaneet et al., 2021, arXiv:2201.05131; SEED, Fang et al., 2021, arXiv:2101.04731) of a released encoder.

    A student of any architecture predicts the features of a frozen teacher from crops and from smaller parts of them, by a head that
    is discarded afterwards (SimReg's regression), or has the similarities to other images that the teacher has (SEED), or both.
    The student is published; the teacher's weights are no part of it, nor of a checkpoint.
    """

    config_class = DistillConfig
    needs_colors = True  # as its teacher does
    views = (
        View(name="view", size=224, scale=(0.2, 1.0), **_COLOR),
        View(name="local", key="local_pixel_values", count=2, size=96, scale=(0.05, 0.2), **_COLOR),
        View(name="teacher", key="teacher_pixel_values", size=224, crop_of="view"),
    )
    view_encoders = {"teacher": "teacher"}
    min_images = 1
    min_images_normalized = 3
    collapse_advice = "lower optim.lr, or take another teacher: a student follows one whose features are all alike"

    def __init__(self, config: DistillConfig):
        super().__init__(config)
        self._teacher: ReleasedEncoder | None = None
        self._compared = False
        if config.teacher_dim is None:  # else it is loaded again, and the teacher is opened when it is needed
            self._open_teacher()
        self.projector = _projector(self.feature_size, config)
        self.queue = Queue(config.queue_size, config.teacher_dim) if config.relational_weight else None
        self.register_buffer("teacher_fingerprint", torch.zeros(2, dtype=torch.long))
        self.post_init()

    def reset_parameters(self) -> None:
        """No teacher has been seen."""
        nn.init.zeros_(self.teacher_fingerprint)

    def _open_teacher(self) -> ReleasedEncoder:
        config = self.config
        try:
            teacher = open_released(config.teacher)
        except ArgumentError as error:
            raise RecipeError(f"method.teacher: {error}") from error.__cause__
        if config.teacher_dim not in (None, teacher.feature_size):
            raise RecipeError(
                f"method.teacher: {teacher.name!r} has {teacher.feature_size} features, and teacher_dim is {config.teacher_dim}: "
                "leave it out, the teacher says it"
            )
        config.teacher_dim = teacher.feature_size
        if config.teacher_mean is None or config.teacher_std is None:
            if teacher.normalization is not None:
                own = teacher.normalization.mean, teacher.normalization.std
            else:
                own = config.image_mean or _IMAGENET[0], config.image_std or _IMAGENET[1]
            config.teacher_mean, config.teacher_std = map(list, own)
        self._teacher = teacher
        return teacher

    @property
    def teacher(self) -> ReleasedEncoder:
        """The teacher, opened when it is needed first."""
        return self._teacher or self._open_teacher()

    def embed(
        self,
        pixel_values: Tensor,
        teacher_pixel_values: Tensor | None = None,
        local_pixel_values: Tensor | None = None,
        teacher_features: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Large crops (B, T, C, H, W), the teacher's (B, T, C, H', W') and small ones (B, L, C, h, w) to features.

        Args:
            pixel_values: The student's large crops.
            teacher_pixel_values: The teacher's; None where there are its features.
            local_pixel_values: The student's small crops, if it has some.
            teacher_features: (B, T, D') the teacher's features, where they were computed before.

        Returns:
            ``student`` (B, T + L, D) and ``teacher`` (B, T, D').

        Raises:
            RecipeError: There is nothing of the teacher.
        """
        features = self.encode(pixel_values)
        if local_pixel_values is not None:
            features = torch.cat([features, self.encode(local_pixel_values)], dim=1)
        if teacher_features is None:
            if teacher_pixel_values is None:
                raise RecipeError("views.teacher.count is 0, and distillation needs what the teacher sees: 1 or more")
            teacher_features = self.teach(teacher_pixel_values)
        return {"student": features, "teacher": teacher_features}

    def teach(self, pixel_values: Tensor) -> Tensor:
        """The teacher's features (B, T, D') of crops (B, T, C, H', W') that are normalized as the student's."""
        config, teacher = self.config, self.teacher
        own = config.image_mean or _IMAGENET[0], config.image_std or _IMAGENET[1]
        if own != (config.teacher_mean, config.teacher_std):
            mean, std, wanted_mean, wanted_std = (
                pixel_values.new_tensor(values)[:, None, None]
                for values in (*own, config.teacher_mean, config.teacher_std)
            )
            pixel_values = pixel_values * (std / wanted_std) + (mean - wanted_mean) / wanted_std
        return teacher(pixel_values.flatten(0, 1)).unflatten(0, pixel_values.shape[:2])

    def objective(self, embeddings: dict[str, Tensor]) -> MethodOutput:
        """The weighted sum of both losses, in the mean over pairs of a student's crop and a teacher's.

        A large crop is paired with the teacher's view of it, a small one with all of the teacher's.
        """
        config = self.config
        predictions = self.projector(embeddings["student"]).float()
        targets = adjusted(embeddings["teacher"].float(), config.targets)
        student, teacher = paired(predictions, targets)
        loss, metrics = torch.zeros((), device=student.device), {}
        if config.regression_weight:
            metrics["regression"] = feature_regression(student, teacher, config.normalize)
            loss = loss + config.regression_weight * metrics["regression"]
        if self.queue is not None:
            temperatures = config.student_temperature, config.teacher_temperature
            metrics["relational"] = seed_loss(student, teacher, self.queue.rows, *temperatures)
            loss = loss + config.relational_weight * metrics["relational"]
        metrics["similarity"] = F.cosine_similarity(student, teacher, dim=-1).mean()
        return MethodOutput(
            loss=loss,
            metrics={name: value.detach() for name, value in metrics.items()},
            state={"keys": targets.detach().flatten(0, 1)},
            embeddings=F.normalize(predictions.detach(), dim=-1),
        )

    def frozen_features(self) -> dict[str, FrozenFeatures]:
        """The teacher's."""
        config = self.config
        own = self.teacher.fingerprint(), config.teacher_mean, config.teacher_std
        fingerprint = f"{own[0]} {own[1]} {own[2]} of {config.image_mean} {config.image_std}"
        return {"teacher_pixel_values": FrozenFeatures("teacher_features", self.teach, config.teacher_dim, fingerprint)}

    def learned_from(self) -> list[ReleasedEncoder]:
        """The teacher."""
        return [self.teacher]

    def before_step(self, progress: Progress) -> None:
        """Before the first step of a start: whether the teacher is the one that the training was begun with.

        Raises:
            CheckpointError: It has other weights.
        """
        if self._compared:
            return
        self._compared = True
        digest = bytes.fromhex(self.teacher.fingerprint().rpartition(":")[2])
        own = torch.frombuffer(bytearray(digest), dtype=torch.long).to(self.teacher_fingerprint.device)
        if self.teacher_fingerprint.any() and not torch.equal(own, self.teacher_fingerprint):
            raise CheckpointError(
                f"method.teacher: {self.teacher.name!r} has other weights than the teacher that this training was begun with: name "
                "that one, wherever it lies now, or choose another train.output to start over"
            )
        self.teacher_fingerprint.copy_(own)

    def after_step(self, outputs: list[MethodOutput], progress: Progress) -> None:
        """Enqueues the teacher's features of the batch."""
        if self.queue is not None:
            for output in outputs:
                self.queue.enqueue(output.state["keys"])


def adjusted(features: Tensor, targets: str) -> Tensor:
    """The teacher's features (B, T, D) as they are compared, by their statistics over the global batch (see ``DistillConfig.targets``)."""
    if targets == "features":
        return features
    mean = all_mean(features.mean(dim=(0, 1)))
    if targets == "centered":
        return features - mean
    variance = all_mean((features - mean).square().mean(dim=(0, 1)))
    return (features - mean) * (variance + _EPSILON).rsqrt()


def paired(predictions: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The pairs of a step, as rows: the first T predictions with the targets of their own crops, the others with all targets.

    Args:
        predictions: (B, T + L, D).
        targets: (B, T, D).

    Returns:
        (B * (T + L * T), D) each.

    Raises:
        RecipeError: There are fewer predictions than targets.
    """
    own = targets.shape[1]
    if predictions.shape[1] < own:
        raise RecipeError(
            f"distillation pairs a teacher's crop with the student's view of it, and there are {own} of the teacher's and "
            f"{predictions.shape[1]} of the student's: views.teacher.count is that of views.view"
        )
    small = predictions[:, own:]
    student = torch.cat([predictions[:, :own], small.repeat_interleave(own, dim=1)], dim=1)
    teacher = torch.cat([targets, targets.repeat(1, small.shape[1], 1)], dim=1)
    return student.flatten(0, 1), teacher.flatten(0, 1)


def _projector(width: int, config: DistillConfig) -> nn.Module:
    """The head, (..., D) to (..., D')."""
    hidden, output = config.hidden_dim or 2 * width, config.teacher_dim
    build: dict[str, Callable[[], nn.Module]] = {
        "deep": lambda: nn.Sequential(MLPHead(width, hidden, width), MLPHead(width, hidden, output)),
        "mlp": lambda: MLPHead(width, hidden, output),
        "linear": lambda: MLPHead(width, output),
    }
    return build[config.projector]()
