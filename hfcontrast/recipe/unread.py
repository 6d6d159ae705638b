"""Settings of a recipe that have no effect, because another setting makes them unused."""

from .recipe import Recipe
from .section_base import given
from .timm_optimizers import is_timm

_OPTIMIZERS = {"momentum": ("sgd", "lars"), "betas": ("adamw",), "eps": ("adamw",), "trust_coefficient": ("lars",)}
_SCHEDULES = {"min_lr": "cosine", "lr_drop_factor": "drops"}


def unread_settings(recipe: Recipe, captions: bool) -> list[str]:
    """One sentence for each.

    Args:
        recipe: The recipe.
        captions: Whether its method learns from captions.
    """
    optim, text, eval_ = given(recipe.optim), given(recipe.text), given(recipe.eval)
    found = {}
    for name, optimizers in _OPTIMIZERS.items():
        if name in optim and recipe.optim.name not in optimizers and not is_timm(recipe.optim.name):  # refused there
            found["optim", name] = f"optim.name is {recipe.optim.name}; it is for {' and '.join(optimizers)}"
    for name, schedule in _SCHEDULES.items():
        if name in optim and recipe.optim.schedule != schedule:
            found["optim", name] = f"optim.schedule is {recipe.optim.schedule}; it is for {schedule}"
    decays = recipe.optim.weight_decay or recipe.optim.weight_decay_end
    if recipe.optim.no_decay and not decays and recipe.optim.name != "lars":
        found["optim", "no_decay"] = "optim.weight_decay is 0"
    if "shuffle_block" in given(recipe.data) and not recipe.data.streaming:
        found["data", "shuffle_block"] = "data.streaming is false: rows that are not a stream are shuffled as a whole"
    if not captions:
        reason = f"method '{recipe.method.name}' learns from images alone"
        found |= {("text", name): reason for name in sorted(text)}
        found |= {("eval", name): reason for name in ("retrieval", "zero_shot") if name in eval_}
        if "caption_column" in given(recipe.data):
            found["data", "caption_column"] = reason
    elif recipe.text.tokenizer is not None:
        reason = "text.tokenizer names a tokenizer that is trained already"
        found |= {("text", name): reason for name in ("vocab_size", "training_captions") if name in text}
    if recipe.early_stopping.every is None:
        reason = "early_stopping.every is null: nothing is measured"
        found |= {("early_stopping", name): reason for name in sorted(given(recipe.early_stopping) - {"every"})}
    if not recipe.track.to:
        reason = "track.to names no tracker"
        found |= {("track", name): reason for name in ("project", "run_name") if name in given(recipe.track)}
    return [
        f"{section}.{name} is {shown(getattr(getattr(recipe, section), name))} and has no effect: {reason}"
        for (section, name), reason in found.items()
    ]


def shown(value: object) -> object:
    """A value as recipes have it, without settings that are null."""
    if isinstance(value, dict):
        return {name: shown(inner) for name, inner in value.items() if inner is not None}
    return [shown(inner) for inner in value] if isinstance(value, list | tuple) else value
