"""The model card that a run writes beside the encoder."""

import inspect
from importlib.resources import files
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..nn.encoder import feature_expression, feature_size
from ..recipe import Recipe
from ..training.environment import describe_environment
from ..training.method import published_size
from ..training.setup import Training

_FORMATS = ("imagefolder", "parquet", "webdataset", "arrow", "json", "csv")
_POOLER_NOTE = (
    "The architecture's own pooler has weights that no loss has trained: plain `AutoModel` adds it with random weights and says so. "
    "Use the features above, not `pooler_output`."
)


def build_card(training: Training, notes: dict[str, Any], ratio: float, evaluated_on: str) -> ModelCard:
    """Writes the card of a finished run.

    Args:
        training: The run.
        notes: What :func:`~hfcontrast.training.loop.train` returned, with ``raw_pixels`` beside it.
        ratio: Share of the resized image that the processor's crop keeps.
        evaluated_on: The data that was judged on, as the user knows it.
    """
    recipe, method = training.recipe, training.method
    encoder = method.export_encoder()
    size, timm = published_size(recipe, training.views), hasattr(encoder, "timm_model")
    accuracy = notes.get("trained", {}).get("knn_accuracy")
    name = training.output.name
    data = ModelCardData(
        license=recipe.publish.license,
        library_name="timm" if timm else "transformers",
        pipeline_tag="image-feature-extraction",
        tags=["hfcontrast", "self-supervised-learning", recipe.method.name, *recipe.publish.tags],
        model_name=name,
        eval_results=None if accuracy is None else [_result(evaluated_on, accuracy)],
    )
    return ModelCard.from_template(
        data,
        template_str=files("hfcontrast.publishing").joinpath("card_template.md").read_text(encoding="utf-8"),
        name=name,
        repo=name,
        architecture=getattr(encoder.config, "architecture", None) or encoder.config.model_type,
        parameters=f"{sum(p.numel() for p in encoder.parameters()):,}",
        feature_size=feature_size(encoder),
        data=data_name(recipe),
        method_text=inspect.getdoc(type(method)),
        features=feature_expression(encoder),
        loading_arguments=", trust_remote_code=True" if getattr(type(encoder), "_auto_class", None) else "",
        pooler_note=_POOLER_NOTE if getattr(encoder, "pooler", True) is None else "",
        timm=timm,
        size=size,
        resize=round(size / ratio),
        scores=score_rows(notes),
        k=recipe.eval.knn_k,
        temperature=recipe.eval.knn_temperature,
        evaluated_on=evaluated_on,
        steps=f"{training.total_steps:,}",
        batch_size=recipe.train.batch_size,
        processes=training.accelerator.num_processes,
        precision={"no": "fp32"}.get(training.accelerator.mixed_precision, training.accelerator.mixed_precision),
        recipe=recipe.to_yaml(),
        versions=", ".join(f"{package} {version}" for package, version in describe_environment().items()),
    )


def data_name(recipe: Recipe) -> str:
    """What the training data is called: its name on the Hub, or the last part of the folder or pattern that was given."""
    settings = recipe.data
    local = settings.data_dir or settings.data_files
    if isinstance(local, str) and settings.path in _FORMATS:
        return f"{settings.path} {Path(local).name}"
    return Path(settings.path).name if Path(settings.path).exists() else settings.path


def score_rows(notes: dict[str, Any]) -> list[tuple[str, str]]:
    """Rows of the table of results: raw pixels, the untrained encoder, the trained one; empty without labels."""
    rows = [
        ("raw pixels", notes.get("raw_pixels")),
        ("untrained encoder", notes.get("untrained", {}).get("knn_accuracy")),
        ("trained encoder", notes.get("trained", {}).get("knn_accuracy")),
    ]
    return [(name, f"{100 * value:.1f} %") for name, value in rows if value is not None]


def _result(data: str, accuracy: float) -> EvalResult:
    return EvalResult(
        task_type="image-classification",
        task_name="k-nearest-neighbour classification of frozen features",
        dataset_type=data,
        dataset_name=data,
        metric_type="accuracy",
        metric_name="kNN accuracy",
        metric_value=round(accuracy, 4),
    )
