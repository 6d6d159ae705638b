"""The settings of the optimizer and its schedules, the section `optim`."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from . import timm_optimizers
from .section_base import NotNegative, Positive, Section, given


def scaled_lr(lr: float, rule: str, global_batch: int) -> float:
    """Peak learning rate for a global batch, from a base rate.

    Args:
        lr: Base rate.
        rule: "linear": lr * batch / 256 (Goyal et al., 2017); "sqrt": lr * sqrt(batch) (SimCLR, appendix B.1); "none".
        global_batch: Samples of one optimizer step over all processes and accumulation.
    """
    scaled: dict[str, float] = {"linear": lr * global_batch / 256, "sqrt": lr * global_batch**0.5, "none": lr}
    return scaled[rule]


class OptimSection(Section):
    """How the weights are changed."""

    name: (
        Literal["adamw", "lars", "sgd"]
        | Annotated[str, Field(pattern="^timm/.", description="timm/NAME of timm's optimizers")]
    ) = Field("adamw", description="The optimizer: adamw, lars, sgd, or one of timm's, such as timm/lion or timm/muon.")
    lr: Positive = Field(
        1e-3,
        description="Peak learning rate, before scale_lr: with linear that of a global batch of 256 samples, with sqrt of one.",
    )
    scale_lr: Literal["linear", "sqrt", "none"] = Field(
        "linear",
        description="How the peak follows from the global batch: lr * batch / 256 (linear), lr * sqrt(batch) (sqrt, as in SimCLR), or "
        "lr whatever the batch (none).",
    )
    min_lr: NotNegative = Field(
        0.0, description="Learning rate at the end of a cosine schedule, never scaled; at most the scaled peak."
    )
    warmup_epochs: NotNegative = Field(0.0, description="Epochs over which the learning rate rises from 0 to its peak.")
    warmup_steps: Annotated[int, Field(ge=0)] | None = Field(
        None, description="The same in optimizer steps, instead of warmup_epochs."
    )
    warmup_share: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None,
        description="The same as a share of all steps, as many as the run had first: for a run whose length train.minutes decides.",
    )
    schedule: Literal["cosine", "constant", "drops"] = Field(
        "cosine", description="The learning rate after the warm-up; drops: constant between the epochs of lr_drops."
    )
    lr_drops: list[Positive] = Field(
        [], description="Epochs at which the learning rate is multiplied by lr_drop_factor."
    )
    lr_drop_factor: Positive = Field(0.1, description="What each drop leaves of the learning rate.")
    weight_decay: NotNegative = Field(0.0, description="Weight decay at the start.")
    weight_decay_end: NotNegative | None = Field(
        None, description="Weight decay at the end, reached along a cosine; null: constant."
    )
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.9, description="Momentum of sgd and lars, and of timm's optimizers that have one."
    )
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        (0.9, 0.999),
        description="Decay of adamw's averages of the gradient and of its square; of timm's optimizers too, which have their own "
        "defaults.",
    )
    eps: Positive = Field(
        1e-8, description="Added to adamw's denominator; of timm's optimizers too, which have their own defaults."
    )
    trust_coefficient: Positive = Field(0.001, description="Lars: each layer's step as a share of its weights' norm.")
    options: dict[str, Any] = Field(
        {}, description="Further settings of one of timm's optimizers, by name, such as {caution: true} of timm/lion."
    )
    clip_grad_norm: Positive | None = Field(None, description="Largest norm of the gradient; null: not clipped.")
    clip_each: bool = Field(False, description="Clip each parameter's gradient by its own norm, as DINO does.")
    decay_norm_and_bias: bool = Field(False, description="Apply weight decay (and lars) to norms and biases too.")
    no_decay: list[str] = Field(
        [],
        description="What else has no weight decay (nor lars): class_token, register_tokens, mask_token, positions, "
        "relative_positions, probe, embeddings (of words), or parts of parameters' names such as head.weight.",
    )
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        description="Factor on the learning rate from each of the encoder's layers to the one below, down to the patch embedding, as in "
        "DINOv2 and in the fine-tuning of BEiT and MAE; null: one rate for all.",
    )
    patch_embed_lr_mult: Positive | None = Field(
        None, description="Further factor on the learning rate of the patch embedding, 0.2 in DINOv2; null: none."
    )

    freeze_encoder_steps: Annotated[int, Field(ge=0)] = Field(
        0,
        description="Optimizer steps in the beginning in which the encoder is frozen, batch statistics and dropout included, and only the "
        "heads are trained, for released weights: heads start at random, and their first gradients would undo them.",
    )

    def peak_lr(self, global_batch: int) -> float:
        """The peak learning rate for so many samples a step."""
        return scaled_lr(self.lr, self.scale_lr, global_batch)

    def contradictions(self) -> Iterator[tuple[str, str]]:
        used = {"warmup_epochs": self.warmup_epochs > 0, "warmup_steps": self.warmup_steps is not None}
        names = [name for name, its in (used | {"warmup_share": self.warmup_share is not None}).items() if its]
        if len(names) > 1:
            yield names[1], f"{names[1]} and {names[0]} are both set: keep one of them"
        if (self.schedule == "drops") != bool(self.lr_drops):
            missing = "lr_drops" if self.schedule == "drops" else "schedule"
            yield missing, "schedule: drops and lr_drops, the epochs of the drops, go together: give both or neither"
        if self.clip_each and self.clip_grad_norm is None:
            yield "clip_each", "clip_each needs the largest norm: set clip_grad_norm, e.g. 3.0"
        if timm_optimizers.is_timm(self.name):
            yield from timm_optimizers.problems(self, given(self))
        elif self.options:
            yield "options", f"options are for timm's optimizers, and optim.name is {self.name}: leave them out"

    @model_validator(mode="after")
    def _take_own_defaults(self) -> "OptimSection":
        """For timm's optimizers, settings that are not given take the optimizer's defaults: the resolved recipe lists them."""
        if timm_optimizers.is_timm(self.name) and not self.model_fields_set >= set(type(self).model_fields):
            for name, value in timm_optimizers.accepted(self.name).fields.items():
                if name not in self.model_fields_set:
                    self.__dict__[name] = value
        return self
