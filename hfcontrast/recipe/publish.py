"""The section of a recipe on what is published, and where to."""

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from .section_base import Section

_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


class PublishSection(Section):
    """What the published encoder says about itself and how its processor prepares images."""

    license: str | None = Field(None, description="License of the weights, as the Hub calls it, e.g. apache-2.0.")
    tags: list[str] = Field([], description="Tags on the card, beside those that hfcontrast sets.")
    push_to: str | None = Field(
        None, description="Repository on the Hub, USER/NAME, that the encoder is pushed to; null: it stays on the disk."
    )
    push_strategy: Literal["end", "every_save"] = Field(
        "end", description="When it is pushed: at the end, or at every checkpoint too, in the background."
    )
    private: bool | None = Field(
        None,
        description="Whether a repository that push_to creates is private; null: as its owner has set it, public for most.",
    )
    images: bool | None = Field(
        None,
        description="Push the images that show examples of the data with their nearest neighbors; null: only those of built-in data, as "
        "others may be private; false: do not make the former either.",
    )
    image_size: Annotated[int, Field(ge=2)] | None = Field(
        None, description="Side of the images, in pixels; null: that of the first view."
    )
    resize_ratio: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="Share of the resized image that the center crop keeps; null: 0.875 from 128 px on, else 1."
    )

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if self.push_to is None:
            for name in ("push_strategy", "private"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    yield name, f"push_to is missing, which says where to: publish.{name} does nothing without it"
        elif not _REPOSITORY.fullmatch(self.push_to):
            yield "push_to", f"the name of a repository is USER/NAME, such as me/flowers-dino, not {self.push_to!r}"
