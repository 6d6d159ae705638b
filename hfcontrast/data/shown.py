"""Values of rows as messages show them: a text of a whole image would fill the screen."""

_LONGEST, _KEPT = 300, 60  # characters


def shown(text: str) -> str:
    """A text as it is, or the beginning of a long one with how many characters it has."""
    return text if len(text) <= _LONGEST else f"{text[:_KEPT]}... ({len(text):,} characters)"
