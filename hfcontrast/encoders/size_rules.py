"""Sizes of images that an architecture's own tokens allow, where its code fails over others in the middle of a computation."""

from transformers import PreTrainedModel

from .family import stages


def swin_windows(encoder: PreTrainedModel, size: int) -> str | None:
    """What is wrong with images of a size for Swin, whose windows may not be larger than the map of its last stage.

    Its biases of relative positions are of whole windows.
    """
    config = encoder.config
    patch, window = config.patch_size, config.window_size
    if not isinstance(patch, int) or not isinstance(window, int):
        return None
    stride = patch * 2 ** (len(stages(config) or [1]) - 1)
    side = -(-size // stride)
    if side >= window:
        return None
    return (
        f"its windows are of {window} x {window} patches, and at {size} px its last stage has {side} x {side}: take images of at least "
        f"{window * stride} px, or a window_size of at most {side} (fewer depths or a smaller patch_size leave more patches)"
    )


def hiera_units(encoder: PreTrainedModel, size: int) -> str | None:
    """What is wrong with images of a size for Hiera, whose patches are pooled within units of several patches."""
    config = encoder.config
    unit = config.patch_stride[0] * config.masked_unit_size[0]
    if size % unit == 0:
        return None
    smaller, larger = size // unit * unit, (size // unit + 1) * unit
    return (
        f"its units are of {unit} px: use a multiple, such as {smaller or larger} or {larger if smaller else 2 * unit}"
    )


def at_least(side: int, encoder: PreTrainedModel, size: int) -> str | None:
    """What is wrong with images of a size where the last map of a smaller one is smaller than what is pooled."""
    return None if size >= side else f"it takes images of at least {side} px"
