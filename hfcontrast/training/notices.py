"""Notices before the first step: phases that a run is too short for, and settings that have no effect."""

from ..checksums import is_older
from ..data.image_reader import largest_of
from ..data.rows import Rows
from ..encoders.config import TIMM, Backbone
from ..encoders.layers import KINDS, named_kinds
from ..methods.base import Method
from ..methods.contract.arguments import needs_captions
from ..methods.contract.calling import phases_of
from ..methods.contract.freezing import frozen_phases
from ..recipe import Recipe
from ..recipe.unread import unread_settings
from ..recipe.unread_views import unread_views
from ..recipe.views import check_recipe_views
from ..view import View
from .build import Training
from .engines import launched_alone
from .same_data import DATA
from .schedules import schedule_phases


def notices(training: Training) -> list[str]:
    """One sentence for each setting that has no effect in this run, and for each phase that the run is too short for."""
    found = unread_settings(training.recipe, needs_captions(type(training.method)))
    method_class = type(training.method)
    found += unread_views(method_class.views, check_recipe_views(method_class, training.recipe.views)[0])
    found += small_cache(training.recipe, training.views)
    found += launched_alone() + unused_tags(training.recipe.backbone)
    if (newest := training.checkpoints.newest()) is not None:
        noted = training.checkpoints.notes(newest).get(DATA) or {}
        found += incomparable_rows(training.rows, noted.get("fingerprint"))
    found += missing_kinds(training.method, training.recipe.optim.no_decay)
    found += unlike_released(training.method, training.views)
    return found if training.length.pending else found + phases_missed_in(training)


def phases_missed_in(training: Training) -> list[str]:
    """One sentence for each phase that a run, whose length is known, is too short for."""
    return missed_phases(training.recipe, training.method, training.total_steps, training.loader.steps_per_epoch)


def small_cache(recipe: Recipe, views: tuple[View, ...]) -> list[str]:
    """A sentence where images are made smaller than the views that are cut from them."""
    size, largest = recipe.data.cache_size, max(view.size for view in views)
    if not isinstance(size, int) or size >= largest:
        return []
    return [
        f"data.cache_size is {size}, and views have {largest} px: all of them are enlarged from fewer pixels, and are blurred; "
        f"data.cache_size=auto takes {largest_of(views)}"
    ]


def unused_tags(backbone: Backbone) -> list[str]:
    """One sentence for each architecture of timm that is named with the tag of released weights, which are not loaded so."""
    found = []
    for where, part in (("backbone", backbone), ("backbone.vision", backbone.vision)):
        name = str(part.fields.get("architecture", "")) if part is not None and part.model_type == TIMM else ""
        if name.partition(".")[2]:
            found.append(
                f"{where} names an architecture, timm/{name}, and starts at random: to start from the weights of that name write "
                f"{where}={{pretrained: timm/{name}}}"
            )
    return found


def unlike_released(method: Method, views: tuple[View, ...]) -> list[str]:
    """One sentence for each view whose size is not that of the released encoder that gets it, or whose encoder has random weights."""
    found = []
    for view in views:
        if view.name not in method.view_encoders:
            continue
        encoder = getattr(method, method.view_encoders[view.name])
        if not encoder.released:
            found.append(
                f"view '{view.name}' is encoded by {encoder.name!r} with random weights: what is learned from it is little"
            )
        elif encoder.normalization and encoder.normalization.size != view.size:
            found.append(
                f"views.{view.name}.size is {view.size}, and {encoder.name!r} was released for {encoder.normalization.size} px: its "
                "features of another size may be worse (smaller ones are faster)"
            )
    return found


def incomparable_rows(rows: Rows, before: str | None = None) -> list[str]:
    """A sentence where it is not known whether a resumed run has the rows that it was begun on.

    So it is of a stream that was open in Python, and of a run of an earlier version.

    Args:
        rows: What it has now.
        before: The fingerprint that its checkpoint has of those it was begun on.
    """
    same = f"make sure that the rows of {rows.description} are the same, in the same order, and have the same labels"
    if rows.streaming and rows.files is None:
        return [
            f"the rows of a stream that was open in Python cannot be compared with those that this run was begun on: {same}"
        ]
    if is_older(before) and not rows.description.startswith("builtin/"):  # which are always the same
        return [
            "this checkpoint was written by an earlier version of hfcontrast, whose fingerprint of rows and labels cannot be compared: "
            f"{same}; where a folder is read otherwise now, data.data_files lists its files as they were"
        ]
    return []


def missing_kinds(method: Method, wanted: list[str]) -> list[str]:
    """One sentence for each kind of parameters in ``optim.no_decay`` that the method has none of."""
    missing = [kind for kind in wanted if kind in KINDS and kind not in named_kinds(method).values()]
    return [f"optim.no_decay has {kind}, and has no effect there: the model has none" for kind in missing]


def missed_phases(recipe: Recipe, method: Method, total_steps: int, steps_per_epoch: int) -> list[str]:
    """One sentence for each phase, of the method and of the schedules, that a training of so many steps never comes to."""
    phases = [
        *frozen_phases(method, steps_per_epoch),
        *phases_of(method, steps_per_epoch, recipe.train.batch_size),
        *schedule_phases(recipe.optim, steps_per_epoch),
    ]
    return [sentence for phase in phases if (sentence := phase.missed(total_steps))]
