"""Settings of a recipe's views that have no effect, because the operation that they are of is switched off."""

from collections.abc import Sequence

from ..view import View

# What each field is a part of: it is read only where the other one is not 0. Strengths of the color jitter are none: recipes share them,
# and switch it off beside them.
_PARTS = {
    "blur_sigma": "blur",
    "noise_std": "noise",
    "solarize_threshold": "solarize",
    "cutout_size": "cutout",
}
_STRENGTHS = ("brightness", "contrast", "saturation", "hue")
_CROPS = ("scale", "ratio", "horizontal_flip", "vertical_flip", "rotate")


def unread_views(own: Sequence[View], views: Sequence[View]) -> list[str]:
    """One sentence for each field that a recipe changes and no view that has the change reads.

    Args:
        own: The method's views.
        views: The same views with the recipe's changes, in the same order.
    """
    causes: dict[str, dict[str, str | None]] = {}  # by field and view
    for before, view in zip(own, views, strict=True):
        if not view.count:
            continue
        for field in (*_PARTS, *_CROPS, "jitter"):
            if getattr(before, field) != (value := getattr(view, field)) and value != 0:  # which changes nothing
                causes.setdefault(field, {})[view.name] = _cause(view, field)
    return [
        f"views.{name}.{field} is {_value(views, name, field)} and has no effect: {cause}"
        for field, by_view in causes.items()
        if all(by_view.values())
        for name, cause in by_view.items()
    ]


def _cause(view: View, field: str) -> str | None:
    """Why a field of a view is not read; None where it is."""
    where = f"views.{view.name}"
    if 0 < view.count <= view.unaugmented:
        return f"{where}.unaugmented is {view.unaugmented}, so that no crop is augmented"
    if view.crop_of is not None and field in _CROPS:
        return f"{where}.crop_of is {view.crop_of}, whose crops these are"
    if field == "jitter" and not any(getattr(view, name) for name in _STRENGTHS):
        return f"{', '.join(_STRENGTHS)} are 0"
    operation = _PARTS.get(field)
    return f"{where}.{operation} is 0" if operation and not getattr(view, operation) else None


def _value(views: Sequence[View], name: str, field: str) -> object:
    value = getattr(next(view for view in views if view.name == name), field)
    return list(value) if isinstance(value, tuple) else value
