"""The base class of a recipe's sections, and types of numbers."""

from collections.abc import Iterator
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from .renamed import renamed_field

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A group of settings: unknown names are refused and no value is converted, except whole numbers to numbers."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    def __getattr__(self, name: str) -> Any:
        if new := renamed_field(name, type(self).model_fields):
            return getattr(self, new)
        return super().__getattr__(name)  # type: ignore[misc]  # pydantic's, which says that there is no such attribute

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """Yields (field, message) for settings that are valid alone but contradict each other."""
        return iter(())

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        if found := list(self.contradictions()):
            raise PydanticCustomError(
                "contradiction", "{text}", {"text": "; ".join(t for _, t in found), "found": found}
            )
        return self


def given(section: Section) -> set[str]:
    """What the user has set in a section.

    A recipe that a run has written down names every setting; of that one, what is not the default.
    """
    fields = type(section).model_fields
    names = set(section.model_fields_set)
    if names >= set(fields):
        return {name for name in names if getattr(section, name) != fields[name].get_default(call_default_factory=True)}
    return names
