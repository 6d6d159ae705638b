"""Layout: which splits and classes the folders of a listing stand for.

The folders directly below the place are splits only where all of them have names of splits. A folder that is alone, without images
beside it, is passed through: ``photos/images/cat`` is as ``photos/cat``. The first folder below a split is the class, whatever the
depth of the image; images beside the class folders have none.
"""

import re
from collections.abc import Callable, Collection, Iterable, Sequence, Set
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from hfcontrast.data.sources.folders.listing import Listing

TRAIN = "train"
_WORDS = {
    TRAIN: ("train", "training"),
    "validation": ("validation", "valid", "dev", "val", "validate"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SIGN = r"[-._ 0-9]"  # what the name of a split may have beside the word, as in train2017 or my_train
_NAMED = 5  # at most in a sentence


@dataclass(frozen=True)
class Split:
    """The images of one split.

    Attributes:
        folders: The folders that it is made of, relative to the place, with their slash.
        rows: (N,) the numbers of its files.
        labels: (N,) int64, the class of each, -1 where it has none; None where none has one.
    """

    folders: tuple[str, ...]
    rows: np.ndarray
    labels: np.ndarray | None


@dataclass(frozen=True)
class Layout:
    """What the folders of a listing stand for.

    Attributes:
        splits: By name: ``train``, ``validation`` and ``test``, as far as there are such.
        classes: The names of the classes by label; empty where there are none.
        sentences: What is to be said of it.
        told: Which folders are its splits, in words; empty where none is.
    """

    splits: dict[str, Split]
    classes: list[str]
    sentences: tuple[str, ...]
    told: str = ""


def split_named(folder: str) -> tuple[str, int, int] | None:
    """The split that a folder's name stands for, and the folder's rank among those of one split; None where it is no split's."""
    for rank, pattern in enumerate(
        ("{}", "{}" + _SIGN + ".*", ".*" + _SIGN + "{}", ".*" + _SIGN + "{}" + _SIGN + ".*")
    ):
        for split, words in _WORDS.items():
            for number, word in enumerate(words):
                if re.fullmatch(pattern.format(word), folder, re.IGNORECASE | re.DOTALL):
                    return split, number, rank
    return None


def layout_of(listing: Listing) -> Layout:
    """Finds the splits and classes in the folders of a listing."""
    tree = _Tree(listing.folders[number] for number in np.unique(listing.folder_of))
    base = tree.pass_through("", until=tree.has_splits)
    children = tree.children(base)
    if not tree.has_splits(base):
        whole = _Part(tree, ("",), np.arange(len(listing)))
        return _labeled(listing, {TRAIN: whole}, _half_named(f"{listing.place}/{base}", children))
    ranked: dict[str, list[tuple[int, int, str]]] = {split: [] for split in _WORDS}
    for child in children:
        split, number, rank = split_named(child) or (TRAIN, 0, 0)
        ranked[split].append((number, rank, f"{base}{child}/"))
    parts = {}
    for split, found in ranked.items():
        if found:
            folders = tuple(folder for *_, folder in sorted(found))
            rows = np.concatenate([_rows_below(listing, folder) for folder in folders])
            parts[split] = _Part(tree, folders, rows)
    told = "; ".join(f"{split} is {', '.join(part.folders)}" for split, part in parts.items())
    named = {f"{folder[len(base) :].partition('/')[0]}" for folder in listing.folders if folder.startswith(base)}
    if empty := sorted(name for name in named - {"", *children} if split_named(name) is not None):
        told += f"; {', '.join(f'{base}{name}/' for name in empty)} {'holds' if len(empty) == 1 else 'hold'} no images"
    told = f"the folders of {listing.place} are its splits: {told}"
    sentences = [told]
    if beside := len(listing) - sum(len(part.rows) for part in parts.values()):
        images = "images" if beside > 1 else "image"
        sentences.append(f"{beside} {images} beside the folders of the splits of {listing.place} not used")
    return replace(_labeled(listing, parts, sentences), told=told)


def layout_of_named(listing: Listing, splits: dict[str, np.ndarray]) -> Layout:
    """Finds the classes where the files of each split are named.

    Args:
        listing: The files.
        splits: The numbers of the files of each split.
    """
    parts = {}
    for split, rows in splits.items():
        tree = _Tree(listing.folders[number] for number in np.unique(listing.folder_of[rows]))
        parts[split] = _Part(tree, ("",), rows)
    return _labeled(listing, parts, [])


class _Tree:
    """The folders with images in or below them."""

    def __init__(self, folders: Iterable[str]):
        self._direct = set(folders)
        self._children: dict[str, dict[str, None]] = {}
        for folder in sorted(self._direct):
            while folder:
                parent, _, name = folder[:-1].rpartition("/")
                above = f"{parent}/" if parent else ""
                known = self._children.setdefault(above, {})
                if name in known:
                    break
                known[name] = None
                folder = above

    def children(self, folder: str) -> Collection[str]:
        return self._children.get(folder, {}).keys()

    def has_splits(self, folder: str) -> bool:
        children = self.children(folder)
        return bool(children) and all(split_named(child) is not None for child in children)

    def pass_through(self, folder: str, until: Callable[[str], bool]) -> str:
        """The first folder from here on that is not alone with one folder in it, or fulfills a condition."""
        while folder not in self._direct and len(self.children(folder)) == 1 and not until(folder):
            folder += f"{next(iter(self.children(folder)))}/"
        return folder


class _Part(NamedTuple):
    """A split whose classes are yet to be found."""

    tree: _Tree
    folders: tuple[str, ...]
    rows: np.ndarray

    def bases(self, known: Set[str] = frozenset()) -> list[str]:
        """The folders whose subfolders are classes: a folder that is alone is none, unless its name is a known class's."""

        def has_known(folder: str) -> bool:
            return not known.isdisjoint(self.tree.children(folder))

        return [self.tree.pass_through(folder, has_known) for folder in self.folders]

    def classes(self, bases: Iterable[str]) -> set[str]:
        return {name for base in bases for name in self.tree.children(base)}


def _labeled(listing: Listing, parts: dict[str, _Part], sentences: list[str]) -> Layout:
    """The layout of splits, with their classes."""
    alone = {split: part.classes(part.bases()) for split, part in parts.items()}
    bases = {  # of a split that may have one class only, which others have too
        split: part.bases(set().union(*(classes for other, classes in alone.items() if other != split)))
        for split, part in parts.items()
    }
    classes = {split: part.classes(bases[split]) for split, part in parts.items()}
    first = next(iter(parts), TRAIN)
    own = classes.get(first, set())
    names = sorted(own) + sorted(set().union(*classes.values()) - own)
    if len(names) < 2:
        return Layout({s: Split(part.folders, part.rows, None) for s, part in parts.items()}, [], tuple(sentences))
    found = {}
    for split, part in parts.items():
        labels = _labels(listing, part.rows, bases[split], names)
        without, count = int((labels < 0).sum()), len(labels)
        found[split] = Split(part.folders, part.rows, labels if without < count else None)
        of = f"split {split} of {listing.place}"
        if without:
            lie, have = ("lies", "has") if without == 1 else ("lie", "have")
            sentences.append(f"{without} of {count} images in {of} {lie} in no class folder and {have} no label")
        if further := sorted(classes[split] - own):
            more = f" and {len(further) - _NAMED} more" * (len(further) > _NAMED)
            sentences.append(f"{of} has classes that {first} has not: {', '.join(further[:_NAMED])}{more}")
    return Layout(found, names, tuple(sentences))


def _labels(listing: Listing, rows: np.ndarray, bases: Sequence[str], names: Sequence[str]) -> np.ndarray:
    numbers = {name: number for number, name in enumerate(names)}
    of_folder = np.full(len(listing.folders), -1, dtype=np.int64)
    for number, folder in enumerate(listing.folders):
        for base in bases:
            if folder.startswith(base) and folder != base:
                of_folder[number] = numbers.get(folder[len(base) :].partition("/")[0], -1)
    return of_folder[listing.folder_of[rows]]


def _rows_below(listing: Listing, folder: str) -> np.ndarray:
    inside = np.array([other.startswith(folder) for other in listing.folders])
    return np.flatnonzero(inside[listing.folder_of])


def _half_named(place: str, children: Collection[str]) -> list[str]:
    """A sentence where some folders have names of splits, but not all."""
    named = [child for child in children if split_named(child) is not None]
    if not named:
        return []
    others = [child for child in children if child not in named]
    what = "folder" if len(named) == 1 else "folders"
    are = "class, not a split" if len(named) == 1 else "classes, not splits"
    return [
        f"the {what} {', '.join(named[:_NAMED])} of {place} {'is a' if len(named) == 1 else 'are'} {are}: beside it there is "
        f"{', '.join(others[:_NAMED])}"
    ]
