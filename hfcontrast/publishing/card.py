"""The model card that a run writes beside the encoder."""

import inspect
from importlib.resources import files
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import PreTrainedModel

from ..encoders.families import family_of
from ..encoders.features import feature_size
from ..evaluation.counts import told_counts
from ..recipe import Recipe
from ..recipe.sections import ZeroShotTask
from ..training.build import Training
from ..training.build_method import published_size
from ..training.environment import describe_environment
from ..training.loss_range import constant_loss
from .usage import usage

# What a run is judged by: the heading of its column, and the task as the Hub's model index has it.
ACCURACIES = {
    "knn_accuracy": ("kNN accuracy", "k-nearest-neighbor classification of frozen features"),
    "linear_accuracy": ("linear probe", "linear classification of frozen features"),
    "finetune_accuracy": ("fine-tuning", "classification by the fine-tuned encoder"),
}
ZERO_SHOT = "zero_shot_"
PREDICTIONS = "predictions.png"  # what the method makes of a few pictures, where it has something to show
_PIPELINE_TOKENS = 64
_WIDEST = 4  # scores beside each other
RETRIEVAL = {
    f"{direction}_r{k}": (f"{heading} R@{k}", "retrieval")
    for direction, heading in (("image_to_text", "image→text"), ("text_to_image", "text→image"))
    for k in (1, 5, 10)
}
_FORMATS = ("imagefolder", "parquet", "webdataset", "arrow", "json", "csv")
_POOLER_NOTE = (
    "Use the features above, not `pooler_output`, where this model has one: it is not what was trained and evaluated."
)


def build_card(training: Training, notes: dict[str, Any], ratio: float, evaluated_on: str) -> ModelCard:
    """Writes the card of a finished run.

    Args:
        training: The run.
        notes: What :func:`~hfcontrast.training.loop.train` returned, with the scores of ``raw_pixels`` beside it.
        ratio: Share of the resized image that the processor's crop keeps.
        evaluated_on: The data that was judged on, as the user knows it.
    """
    recipe, method = training.recipe, training.method
    encoder = method.export_encoder()
    size, timm = published_size(recipe, training.views), family_of(encoder).processor_in_config
    name = training.output.name
    columns, rows = score_table(notes, released=training.weights is not None)
    lines = usage(encoder, size)
    saw_labels = "labels" in inspect.signature(type(method).objective).parameters and training.rows.labeled
    pairs = training.captions is not None
    kind = "contrastive" if pairs else "supervised" if saw_labels else "self-supervised"
    data = ModelCardData(
        license=recipe.publish.license,
        library_name="timm" if timm else "transformers",
        pipeline_tag="zero-shot-image-classification" if pairs else "image-feature-extraction",
        tags=["hfcontrast", kind + "-learning", recipe.method.name, *recipe.publish.tags],
        model_name=name,
        base_model=[name for name in recipe.released_weights if not Path(name).exists()] or None,  # names on the Hub
        eval_results=_results(evaluated_on, notes.get("trained", {})) or None,
    )
    return ModelCard.from_template(
        data,
        template_str=files("hfcontrast.publishing").joinpath("card_template.md").read_text(encoding="utf-8"),
        name=name,
        repo=name,
        architecture=getattr(encoder.config, "architecture", None) or encoder.config.model_type,
        parameters=f"{sum(p.numel() for name, p in encoder.named_parameters() if '.lora_' not in name):,}",
        feature_size=feature_size(encoder),
        data=data_name(recipe),
        labels="with" if saw_labels else "without",
        starts_from="; ".join((training.weights or "").splitlines()),
        method_text=inspect.getdoc(type(method)),
        features=lines.features,
        model_arguments=lines.arguments,
        image_tower=lines.image_tower,
        piped=lines.pipeline,
        loading_arguments=", trust_remote_code=True" if getattr(type(encoder), "_auto_class", None) else "",
        pooler_note="" if lines.pooled or pairs else _POOLER_NOTE,
        timm=timm,
        size=size,
        resize=round(size / ratio),
        two_towers=pairs,
        padding="max_length" if pairs and training.captions.pad_to_max else "longest",
        max_length=training.captions.max_length if pairs else None,
        text_arguments=_text_arguments(encoder, training.captions.max_length) if pairs else "",
        predictions=PREDICTIONS if (training.output / PREDICTIONS).exists() else None,
        constant_loss=constant_loss(notes, training.total_steps),
        columns=columns,
        scores=rows,
        linear_probe="linear_accuracy" in notes.get("trained", {}),
        finetuning=recipe.eval.finetuning if "finetune_accuracy" in notes.get("trained", {}) else None,
        zero_shot=_templates(recipe, notes.get("trained", {})),
        retrieval="image_to_text_r1" in notes.get("trained", {}),
        k=recipe.eval.knn_k,
        temperature=recipe.eval.knn_temperature,
        evaluated_on=evaluated_on,
        counts=told_counts(notes["evaluation"]),
        steps=f"{training.total_steps:,}",
        batch_size=recipe.train.batch_size,
        processes=training.accelerator.num_processes,
        precision={"no": "fp32"}.get(training.accelerator.mixed_precision, training.accelerator.mixed_precision),
        recipe=recipe.to_yaml(),
        versions=", ".join(f"{package} {version}" for package, version in describe_environment().items()),
    )


def _text_arguments(encoder: PreTrainedModel, max_length: int) -> str:
    """What a zero-shot pipeline has to be told: it pads the texts of a SigLIP to 64 tokens, whatever the model takes."""
    padded = family_of(encoder).pads_texts and max_length != _PIPELINE_TOKENS
    return f', tokenizer_kwargs={{"max_length": {max_length}}}' if padded else ""


def _templates(recipe: Recipe, scores: dict[str, float]) -> dict[str, str]:
    """The prompts of each zero-shot task that was judged."""
    tasks = recipe.eval.zero_shot if recipe.eval.zero_shot is not None else [ZeroShotTask()]
    named = {task.task or task.label_column or "label": task.templates for task in tasks}
    return {
        task: ", ".join(f'"{template}"' for template in templates)
        for task, templates in named.items()
        if ZERO_SHOT + task in scores
    }


def data_name(recipe: Recipe) -> str:
    """What the training data is called: its name on the Hub, or the last part of the folder or pattern that was given."""
    settings = recipe.data
    local = settings.data_dir or settings.data_files
    if isinstance(local, str) and settings.path in _FORMATS:
        return f"{settings.path} {Path(local).name}"
    return Path(settings.path).name if Path(settings.path).exists() else settings.path


def score_table(notes: dict[str, Any], released: bool = False) -> tuple[list[str], list[list[str]]]:
    """The table of results: its columns, and rows for raw pixels, the encoder before the training, the trained one.

    There is no row without scores. With more than four kinds of scores these are the rows, and the encoders the columns.

    Args:
        notes: Of the run.
        released: Whether it began with released weights: its encoder is then no untrained one at the start.
    """
    judged = {
        "raw pixels": notes.get("raw_pixels"),
        "starting point" if released else "untrained encoder": notes.get("untrained"),
        "trained encoder": notes.get("trained"),
    }
    kinds = score_kinds([scores for scores in judged.values() if scores])
    judged = {name: scores for name, scores in judged.items() if scores and any(kind in scores for kind in kinds)}
    rows = [[name, *(_percent(scores.get(kind)) for kind in kinds)] for name, scores in judged.items()]
    columns = ["features", *(kinds[kind][0] for kind in kinds)]
    if len(kinds) > _WIDEST:  # many scores of few encoders read better below each other
        columns, *rows = map(list, zip(columns, *rows))
    return columns, rows


def score_kinds(found: list[dict[str, float]]) -> dict[str, tuple[str, str]]:
    """What is shown of some scores: by the score's name, the heading of its column and the task, as the Hub calls it."""
    tasks = dict.fromkeys(name for scores in found for name in scores if name.startswith(ZERO_SHOT))
    named = {name: (f"zero-shot {name.removeprefix(ZERO_SHOT)}", "zero-shot image classification") for name in tasks}
    known = ACCURACIES | named | RETRIEVAL
    return {kind: known[kind] for kind in known if any(kind in scores for scores in found)}


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _results(data: str, scores: dict[str, float]) -> list[EvalResult]:
    return [
        EvalResult(
            task_type=_TASK_TYPES.get(task, "image-classification"),
            task_name=task,
            dataset_type=data,
            dataset_name=data,
            metric_type="recall" if kind in RETRIEVAL else "accuracy",
            metric_name=name,
            metric_value=round(scores[kind], 4),
        )
        for kind, (name, task) in score_kinds([scores]).items()
    ]


_TASK_TYPES = {"zero-shot image classification": "zero-shot-image-classification", "retrieval": "image-text-retrieval"}
