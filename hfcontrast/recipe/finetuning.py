"""The settings of fine-tuning as an evaluation, within the section `eval`."""

from typing import Annotated, Any

from pydantic import Field, ValidationError
from pydantic_core import PydanticCustomError

from .section_base import Count, NotNegative, Positive, Section, Share
from .wording import did_you_mean, mismatch, show


class FineTuneSection(Section):
    """How an encoder is fine-tuned to judge it; the same fields as ``hfcontrast.evaluation.finetune.FineTuning``."""

    epochs: Count = Field(30, description="Passes over the labeled images; more of them where label_share is small.")
    lr: Positive = Field(1e-3, description="Peak learning rate of AdamW, whatever the batch size.")
    weight_decay: NotNegative = Field(0.05, description="Weight decay, but of norms, biases, tokens and positions.")
    batch_size: Count = Field(64, description="Images of a step, over all processes.")
    warmup: Share = Field(0.1, description="Share of the steps over which the learning rate rises; then a cosine to 0.")
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.1, description="Share of the target that all classes get."
    )
    crop: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.125, description="Largest shift of an image in each direction, as a share of its side."
    )
    flip: Share = Field(0.5, description="Probability of mirroring an image.")
    label_share: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="Share of each class's images that is used, at least one; the same ones for every encoder."
    )
    seed: int = Field(0, ge=0, description="Seed of the classifier, the order, the augmentation and that choice.")
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        description="Factor on the learning rate from each of the encoder's layers to the one below; null: one rate for all.",
    )


def read_finetuning(value: Any) -> Any:
    """Reads ``eval.finetune``, so that an error names the setting within it."""
    if isinstance(value, bool | FineTuneSection):
        return value
    fields, problems = FineTuneSection.model_fields, []
    if not isinstance(value, dict):
        problems = [("finetune", f"expected true, false or a mapping such as {{epochs: 30}}, got {show(value)}")]
    else:
        try:
            return FineTuneSection.model_validate(value)
        except ValidationError as error:
            for item in error.errors(include_url=False, include_input=False):
                name = str(item["loc"][0])
                text = f"unknown key{did_you_mean(name, fields)}"
                if name in fields:
                    text = mismatch(value[name], fields[name].annotation, fields[name].metadata)
                problems.append(("finetune", f"{name}: {text}"))
    text = "; ".join(text for _, text in problems)
    raise PydanticCustomError("contradiction", "{text}", {"text": text, "found": problems})
