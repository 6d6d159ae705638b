"""A data set that is already open, in place of its name in a recipe."""

from collections.abc import Mapping
from typing import Any

from ..errors import RecipeError

PREFIX = "memory/"  # how such a name begins


class InMemory(str):
    """What a recipe says of an open data set, with the data set.

    Attributes:
        dataset: A ``datasets`` data set, map-style or streaming, or a mapping from splits to such.
    """

    dataset: Any

    def __new__(cls, dataset: Any) -> "InMemory":
        one = next(iter(dataset.values())) if isinstance(dataset, dict) else dataset
        columns = ", ".join(one.column_names or []) if hasattr(one, "column_names") else ""
        text = super().__new__(cls, f"{PREFIX}{type(dataset).__name__}({columns})")
        text.dataset = dataset
        return text

    def __reduce__(self) -> tuple[type["InMemory"], tuple[Any]]:
        return InMemory, (self.dataset,)


def is_dataset(value: Any) -> bool:
    """Whether a value is an open data set of ``datasets``, or its splits; ``datasets`` is not imported for that."""
    of_datasets = any(kind.__module__.partition(".")[0] == "datasets" for kind in type(value).__mro__)
    return of_datasets and (hasattr(value, "features") or isinstance(value, dict))


def check_dataset(value: Any) -> None:
    """Checks that a value is an open data set, or a mapping from splits to such.

    Raises:
        RecipeError: It is something else.
    """
    splits = isinstance(value, dict) and len(value) > 0 and all(map(is_dataset, value.values()))
    if not (splits or is_dataset(value)):
        raise RecipeError(
            f"dataset is a {type(value).__name__}, expected Dataset, DatasetDict, IterableDataset or IterableDatasetDict"
        )


def as_text(path: str | None) -> str | None:
    """A name as a plain text, without a data set."""
    return None if path is None else str(path)


def named_datasets(recipe: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, InMemory]]:
    """The settings with names for open data sets, and these by section."""
    held = {
        name: InMemory(recipe[name]["path"])
        for name in ("data", "eval")
        if isinstance(recipe.get(name), Mapping) and is_dataset(recipe[name].get("path"))
    }
    return {**recipe, **{name: {**recipe[name], "path": str(path)} for name, path in held.items()}}, held
