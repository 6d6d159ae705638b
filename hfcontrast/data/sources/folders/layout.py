"""Layout: which splits and classes the folders of a listing stand for.

The folders directly below the place are splits only where all of them have names of splits. A folder that is alone, without images
beside it, is passed through: ``photos/images/cat`` is as ``photos/cat``. The first folder below a split is the class, whatever the
depth of the image; images beside the class folders have none.
"""

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

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
    """

    splits: dict[str, Split]
    classes: list[str]
    sentences: tuple[str, ...]


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
        splits = {TRAIN: (("",), np.arange(len(listing)))}
        return _labeled(listing, splits, {TRAIN: tree}, _half_named(f"{listing.place}/{base}", children))
    named: dict[str, list[tuple[int, int, str]]] = {split: [] for split in _WORDS}
    for child in children:
        split, *rank = split_named(child) or (TRAIN, 0, 0)
        named[split].append((*rank, f"{base}{child}/"))
    splits = {}
    for split, ranked in named.items():
        if ranked:
            folders = tuple(folder for *_, folder in sorted(ranked))
            splits[split] = (folders, np.concatenate([_rows_below(listing, folder) for folder in folders]))
    told = "; ".join(f"{split} is {', '.join(folders)}" for split, (folders, _) in splits.items())
    sentences = [f"the folders of {listing.place} are its splits: {told}"]
    if beside := len(listing) - sum(len(rows) for _, rows in splits.values()):
        sentences.append(
            f"{beside} image{'s' * (beside > 1)} beside the folders of the splits of {listing.place} not used"
        )
    return _labeled(listing, splits, dict.fromkeys(splits, tree), sentences)


def layout_of_named(listing: Listing, splits: dict[str, np.ndarray]) -> Layout:
    """Finds the classes where the files of each split are named.

    Args:
        listing: The files.
        splits: The numbers of the files of each split.
    """
    trees = {
        split: _Tree(listing.folders[number] for number in np.unique(listing.folder_of[rows]))
        for split, rows in splits.items()
    }
    return _labeled(listing, {split: (("",), rows) for split, rows in splits.items()}, trees, [])


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


def _labeled(
    listing: Listing,
    splits: dict[str, tuple[tuple[str, ...], np.ndarray]],
    trees: dict[str, _Tree],
    sentences: list[str],
) -> Layout:
    """The layout of splits whose classes are yet to be found."""
    bases = {
        split: [trees[split].pass_through(folder, lambda _: False) for folder in folders]
        for split, (folders, _) in splits.items()
    }
    # A split may have one class only: its folder is no wrapper where others have that class too.
    classes = {split: {c for base in found for c in trees[split].children(base)} for split, found in bases.items()}
    known = set().union(*classes.values())
    for split, (folders, _) in splits.items():
        tree = trees[split]
        bases[split] = [tree.pass_through(f, lambda at, t=tree: bool(known & set(t.children(at)))) for f in folders]
        classes[split] = {name for base in bases[split] for name in tree.children(base)}
    first = next(iter(splits), TRAIN)
    own = classes.get(first, set())
    names = sorted(own) + sorted(set().union(*classes.values()) - own)
    if len(names) < 2:
        return Layout({s: Split(folders, rows, None) for s, (folders, rows) in splits.items()}, [], tuple(sentences))
    found = {}
    for split, (folders, rows) in splits.items():
        labels = _labels(listing, rows, bases[split], names)
        without = int((labels < 0).sum())
        found[split] = Split(folders, rows, labels if without < len(rows) else None)
        if without:
            sentences.append(
                f"{without} of {len(rows)} images in split {split} of {listing.place} lie in no class folder and have no label"
            )
        if further := sorted(classes[split] - own):
            more = f" and {len(further) - _NAMED} more" * (len(further) > _NAMED)
            sentences.append(
                f"split {first} of {listing.place} has no class {', '.join(further[:_NAMED])}{more}, which split {split} has"
            )
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
    return [
        f"{place} is one split, train, and {', '.join(named[:_NAMED])} no split in it: {', '.join(others[:_NAMED])} "
        "beside it is none"
    ]
