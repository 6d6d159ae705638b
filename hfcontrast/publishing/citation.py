"""What to cite for a method: the entry of BibTeX on its page in ``model_cards``."""

import re

from ..recipe.named import shipped_folder

FOLDER = "model_cards"  # of a clone; in the wheel it is in the package
_BIBTEX = re.compile(r"^```bibtex\n(.*?)^```", re.M | re.S)


def citation(method: str) -> str | None:
    """The entries of BibTeX for a method that comes with this package; None for any other.

    Args:
        method: Its name.
    """
    folder = shipped_folder(FOLDER)
    page = folder / f"{method}.md" if folder else None
    if page is None or not page.is_file():
        return None
    return "\n".join(_BIBTEX.findall(page.read_text(encoding="utf-8"))).strip() or None
