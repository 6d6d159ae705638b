"""The model card that a run writes beside the encoder."""

import inspect
from importlib.resources import files
from typing import Any, NamedTuple

from huggingface_hub import ModelCard, ModelCardData
from transformers import PreTrainedModel

from ..encoders.families import family_of
from ..encoders.features import feature_size
from ..evaluation.counts import titles_by_numbers, told_counts, told_overlap, told_series
from ..evaluation.registry import figures_of
from ..methods.registry import installed
from ..recipe import Recipe
from ..recipe.published import Replaced, published_values
from ..recipe.tasks import evaluation_tasks
from ..recipe.writing import as_yaml
from ..training.build import Training
from ..training.build_method import published_size
from ..training.collapse import features_collapsed
from ..training.cut_captions import told_cut_captions
from ..training.early_stopping import NOTE as STOPPING
from ..training.environment import describe_environment
from ..training.loss_range import constant_loss
from .citation import citation
from .facts import base_models, evaluated_on_hub, hub_data, relation, run_facts, takes_labels
from .license import told_license
from .other_tasks import told_classifier, told_processor
from .result import named_scores
from .tables import CARD, model_index, score_table, table_remarks
from .teachers import passed_on, told_teacher
from .told import (
    told_amount,
    told_data,
    told_early_stopping,
    told_nothing,
    told_setups,
    told_source,
    told_start,
    told_unfinished,
    told_versions,
)
from .usage import usage
from .verdict import concluding

_NOT_EVALUATED = "This export was not evaluated: `hfcontrast evaluate` with this folder does it."
PREDICTIONS = "predictions.png"  # the method's predictions for a few images, if it has any
NEIGHBORS = "neighbors.png"
CURVES = "curves.png"
_PIPELINE_TOKENS = 64
_POOLER_NOTE = (
    "Use the features above, not the `pooler_output` of this model: it is not what was trained and evaluated."
)


class Neighbors(NamedTuple):
    """What the image of nearest neighbors shows.

    Attributes:
        images: Test images.
        nearest: Neighbors of each.
        gallery: Train images that these were found among.
    """

    images: int
    nearest: int
    gallery: int


def build_card(training: Training, notes: dict[str, Any], ratio: float, evaluated_on: str) -> ModelCard:
    """Writes the card of a finished run.

    Args:
        training: The run.
        notes: What :func:`~hfcontrast.training.loop.train` returned, with the scores of ``raw_pixels`` beside it.
        ratio: Share of the resized image that the processor's crop keeps.
        evaluated_on: The data that was evaluated on, as the user knows it.
    """
    recipe, encoder = training.recipe, training.method.export_encoder()
    name, pairs = training.output.name, training.captions is not None
    timm = family_of(encoder).processor_in_config
    facts, public = run_facts(training, notes), published_values(recipe)
    saw_labels = takes_labels(training)
    kind = "contrastive" if pairs else "supervised" if saw_labels else "self-supervised"
    data = ModelCardData(
        license=recipe.publish.license or passed_on(facts["teachers"]),
        library_name="timm" if timm else "transformers",
        pipeline_tag="zero-shot-image-classification" if pairs else "image-feature-extraction",
        tags=["hfcontrast", kind + "-learning", recipe.method.name, *recipe.publish.tags],
        model_name=name,
        base_model=base_models(facts) or None,
        base_model_relation=relation(facts),
        datasets=hub_data(facts) or None,
        eval_results=model_index(
            evaluated_on,
            notes.get("trained", {}),
            notes.get("measured_on") or {},
            notes.get("chance", {}),
            evaluated_on_hub(recipe),
        )
        or None,
    )
    card = ModelCard.from_template(
        data,
        template_str=files("hfcontrast.publishing").joinpath("card_template.md").read_text(encoding="utf-8"),
        name=name,
        repo=name,
        license=told_license(data.license),
        timm=timm,
        two_towers=pairs,
        source=told_source(facts["data"]),
        labels="with" if saw_labels else "without",
        method_text=inspect.cleandoc(type(training.method).__doc__ or ""),
        citation=citation(recipe.method.name) if plugin_of(recipe.method.name) is None else None,
        **_encoder_text(training, encoder, ratio),
        **_evaluation_text(training, notes, evaluated_on, facts["data"]["labels"]),
        **_training_text(training, notes, facts, public),
    )
    return ModelCard(public.scrubbed(card.content), ignore_metadata_errors=False)


def _encoder_text(training: Training, encoder: PreTrainedModel, ratio: float) -> dict[str, Any]:
    """The card's description of the encoder and its use."""
    size, pairs = published_size(training.recipe, training.views), training.captions is not None
    lines = usage(encoder, size)
    return {
        "architecture": getattr(encoder.config, "architecture", None) or encoder.config.model_type,
        "parameters": f"{sum(p.numel() for name, p in encoder.named_parameters() if '.lora_' not in name):,}",
        "feature_size": feature_size(encoder),
        "features": lines.features,
        "reads_pixels": "pixel_values" in lines.features,
        "model_arguments": lines.arguments,
        "image_tower": lines.image_tower,
        "piped": lines.pipeline,
        "classifier": lines.classifier,
        "loading_arguments": ", trust_remote_code=True" if getattr(type(encoder), "_auto_class", None) else "",
        "pooler_note": _POOLER_NOTE if lines.other_pooler and not pairs else "",
        "other_tasks": [] if pairs else [*filter(None, (told_classifier(encoder), told_processor(encoder)))],
        "size": size,
        "window": training.recipe.data.window,
        "channels": len(training.mean),
        "resize": round(size / ratio),
        "padding": "max_length" if pairs and training.captions.pad_to_max else "longest",
        "max_length": training.captions.max_length if pairs else None,
        "text_width": _text_width(encoder, training.captions.max_length) if pairs else None,
    }


def _evaluation_text(
    training: Training, notes: dict[str, Any], evaluated_on: str, labels: str | None
) -> dict[str, Any]:
    """The card's description of the evaluation."""
    released = training.weights is not None
    columns, rows = score_table(notes, released)
    return {
        "predictions": PREDICTIONS if notes["evaluation"] and (training.output / PREDICTIONS).exists() else None,
        "neighbors": NEIGHBORS if notes.get("neighbors") else None,
        "neighbors_of": notes.get("neighbors"),
        "unfinished": told_unfinished(notes, training.total_steps),
        "constant_loss": constant_loss(notes, training.total_steps),
        "collapsed": features_collapsed(notes),
        "trained_on": notes["evaluation"].get("trained_on"),
        "overlap": " ".join(
            filter(None, (told_overlap(notes["evaluation"], labels), told_series(notes["evaluation"])))
        ),
        "nothing": told_nothing(notes["evaluation"], labels) if notes["evaluation"] else _NOT_EVALUATED,
        "columns": columns,
        "scores": rows,
        "remarks": [
            *table_remarks(notes),
            *concluding(notes, named_scores(notes, released), labels),
        ],
        "explained": explained(training.recipe, notes.get("trained", {}), notes.get("counts", {})),
        "evaluated_on": evaluated_on,
        "counts": told_counts(notes["evaluation"]) if notes["evaluation"] else "",
    }


def _training_text(
    training: Training, notes: dict[str, Any], facts: dict[str, Any], public: Replaced
) -> dict[str, Any]:
    """The card's description of the training."""
    batch_size = training.recipe.train.batch_size
    return {
        "cut_off": told_cut_captions(training, notes),
        "started": told_start(facts["start"], training.captions is not None),
        "started_from": facts["start"],
        "taught": [told_teacher(teacher) for teacher in facts["teachers"]],
        "steps": f"{training.total_steps:,}",
        "length": " ".join([training.length.history(), *told_early_stopping(notes.get(STOPPING))]).strip(),
        "batch_size": batch_size,
        "setups": told_setups(facts["setups"]),
        "trained_on_data": told_data(facts["data"], training.total_steps, batch_size),
        "curves": CURVES if notes["evaluation"] and (training.output / CURVES).exists() else None,
        "learned_from": told_amount(facts["data"], [view.size for view in training.views]),
        "conditions": _conditions(training.recipe, facts, public),
        "recipe": as_yaml(public.values),
        "versions": told_versions(facts["setups"], describe_environment()),
    }


def _conditions(recipe: Recipe, facts: dict[str, Any], public: Replaced) -> str:
    """What is to be there for a run to be repeated, as the end of a sentence; mostly nothing."""
    found = []
    if package := plugin_of(recipe.method.name):
        found.append(f"with {package}, which the method comes with")
    if facts["data"]["kind"] == "memory":
        found.append("with the data set that was open in Python, by `load_recipe(RECIPE, dataset=...)`")
    if keys := public.keys():
        named = " and ".join(f"`{key}`" for key in keys)
        found.append(f"with paths of yours in {named}, where names stand for those of the machine that trained")
    return f", {', '.join(found)}" if found else ""


def plugin_of(method: str) -> str | None:
    """The package that a method comes with; None for those of hfcontrast."""
    distribution = installed()[method].distribution
    if distribution == "hfcontrast":
        return None
    return f"the package `{distribution}`" if distribution else "the module"


def _text_width(encoder: PreTrainedModel, max_length: int) -> int | None:
    """What a zero-shot pipeline has to be told: it pads texts for SigLIP to 64 tokens, whatever the model's length; else None."""
    return max_length if family_of(encoder).pads_texts and max_length != _PIPELINE_TOKENS else None


def explained(recipe: Recipe, scores: dict[str, float], counts: dict[str, dict[str, Any]]) -> list[str]:
    """How the figures of a card's table were computed, as their evaluators describe it, and on how many images.

    Args:
        recipe: The recipe of the run.
        scores: Of the trained encoder.
        counts: The numbers behind them.
    """
    sentences = []
    for evaluator, settings in evaluation_tasks(recipe.eval).values():
        figures = {
            key: figure
            for key, (own, figure) in figures_of(scores).items()
            if own is evaluator and CARD in figure.shown_in
        }
        if figures:
            names = [
                figure.name.replace("*", key.removeprefix(evaluator.key_of(figure)[:-1]))
                for key, figure in figures.items()
            ]
            told = titles_by_numbers({key: figure.title for key, figure in figures.items()}, counts)
            parts = [*told] if len(told) < 2 else [f"{', '.join(titles)}: {text}" for text, titles in told.items()]
            sentences.append(
                evaluator.explain(settings, names) + (f" Measured on {'; '.join(parts)}." if parts else "")
            )
    return sentences
