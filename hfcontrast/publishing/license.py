"""What a card says of the license of the weights."""


def told_license(license: str | None) -> str:
    """A sentence on the license of the weights.

    Args:
        license: As the Hub calls it, such as ``apache-2.0``; None where none is stated.
    """
    if license is None:
        return "No license is stated for these weights: without one nobody else has the right to use them, so ask who trained them."
    return f"The license of these weights is `{license}`."
