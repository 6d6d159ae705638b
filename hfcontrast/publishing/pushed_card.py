"""The card as it is uploaded: with the repository's name, and without what is not uploaded."""

import re
from typing import Any

from huggingface_hub import ModelCard

from ..errors import OutputError
from .license import told_license

CARD = "README.md"
_FOLDER = re.compile(r"^`([^`\n]+)` stands for the folder with these files[^\n]*\n\n?", re.M)
_OF_IMAGES = ("Predictions", "Nearest neighbors")  # sections with images of the data
_SECTION = r"^## {}\n.*?(?=^## |\Z)"


def pushed_card(text: str, repository: str, images: bool, license: str | None = None) -> tuple[str, str | None]:
    """A card for a repository of the Hub.

    Args:
        text: The card in the folder of a run, where the name of that folder stands for the repository; or any other.
        repository: ``USER/NAME``.
        images: Whether the images of the data that the card shows are uploaded too; without them their sections are left out.
        license: What the card is to state; None: what it states.

    Returns:
        The card, and the license that it states.

    Raises:
        OutputError: Its metadata cannot be read.
    """
    try:
        card = ModelCard(text, ignore_metadata_errors=False)
    except (ValueError, TypeError) as error:
        told = " ".join(str(error).split())[:300]
        raise OutputError(
            f"the metadata of {CARD}, between the lines of ---, cannot be read ({told}): repair them"
        ) from error
    data: Any = card.data
    body = card.text
    if license is not None and license != data.license:
        body = body.replace(told_license(data.license), told_license(license))
        data.license = license
    own = repository.partition("/")[2]
    if data.get("model_name"):
        data.model_name = own
    if named := _FOLDER.search(body):
        body = _FOLDER.sub("", body, count=1)
        body = _named(body, named[1], repository)
        body = body.replace(f"# {named[1]}\n", f"# {own}\n", 1)
    if not images:
        for title in _OF_IMAGES:
            body = re.sub(_SECTION.format(title), "", body, flags=re.M | re.S)
    card.text = body
    return (card.content if data.to_dict() else body), data.license


def _named(body: str, folder: str, repository: str) -> str:
    """Lines of Python with the repository in the place of the folder."""
    name = re.escape(folder)
    body = re.sub(rf'(?<=[(=])"{name}"', f'"{repository}"', body)
    body = body.replace(f'"local-dir:{folder}"', f'"hf-hub:{repository}"')
    body = body.replace(f"backbone.pretrained={folder} ", f"backbone.pretrained={repository} ")
    return body.replace(", or `hf-hub:` once it is on the Hub.", ".")
