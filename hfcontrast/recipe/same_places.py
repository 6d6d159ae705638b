"""Two recipes that name the same files by other paths, such as a relative and an absolute one."""

import os
from typing import TYPE_CHECKING, Any

from ..encoders.config import Backbone
from ..paths import is_address, local_path

if TYPE_CHECKING:
    from .recipe import Recipe


def with_paths_of(old: "Recipe", new: "Recipe") -> "Recipe":
    """A recipe with the paths of another one, where both name the same files of this machine; what is named otherwise stays."""
    renamed = old.model_copy(deep=True)
    renamed.data.path = _of_same(old.data.path, new.data.path)
    of_both = renamed.data.path == new.data.path
    base = local_path(str(new.data.path)) if of_both and os.path.isdir(local_path(str(new.data.path))) else ""
    renamed.data.data_dir = _of_same(old.data.data_dir, new.data.data_dir, base)
    inside = os.path.join(base, new.data.data_dir or "")
    renamed.data.data_files = _of_same(old.data.data_files, new.data.data_files, inside)
    renamed.text.tokenizer = _of_same(old.text.tokenizer, new.text.tokenizer)
    before, now = old.backbone.written, new.backbone.written
    if isinstance(before, dict) and isinstance(now, dict) and before.get("pretrained") and now.get("pretrained"):
        renamed.backbone = Backbone.read({**before, "pretrained": _of_same(before["pretrained"], now["pretrained"])})
    return renamed


def _of_same(old: Any, new: Any, base: str = "") -> Any:
    """The new path, pattern, or list or mapping of these, where it names what the old one does; else the old one."""
    if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
        return {name: _of_same(old[name], new[name], base) for name in new}
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [_of_same(before, now, base) for before, now in zip(old, new, strict=True)]
    if not (isinstance(old, str) and isinstance(new, str)) or old == new or is_address(old) or is_address(new):
        return old
    places = [os.path.realpath(os.path.join(base, local_path(path, base))) for path in (old, new)]
    top = places[1].partition("*")[0].rpartition("/")[0] if "*" in places[1] else places[1]
    return new if places[0] == places[1] and os.path.exists(top) else old
