"""Weights that are no numbers: found before anything is evaluated, embedded or published with them."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

_STATISTICS = ("running_mean", "running_var")


def not_finite(weights: nn.Module | Mapping[str, Tensor]) -> str | None:
    """The tensors with NaN or infinite numbers, as the end of a sentence: ``head.weight and 2 more of 150 tensors have NaN``.

    A buffer that is neither a parameter nor a running statistic may be infinite, as masks of attention are, but not NaN.

    Args:
        weights: A module, or tensors by name, which are then taken for parameters. Sharded ones: what this process has.

    Returns:
        None where all are numbers.
    """
    if isinstance(weights, nn.Module):
        buffers = {name: value for name, value in weights.named_buffers() if not name.endswith(_STATISTICS)}
        strict = dict(weights.named_parameters()) | dict(weights.named_buffers())
        strict = {name: value for name, value in strict.items() if name not in buffers}
    else:
        strict, buffers = dict(weights), {}
    wrong = _wrong(strict.items(), torch.isfinite) + _wrong(buffers.items(), lambda value: ~torch.isnan(value))
    if not wrong:
        return None
    more = f" and {len(wrong) - 1:,} more" if len(wrong) > 1 else ""
    verb = "have" if len(wrong) > 1 else "has"
    return f"{wrong[0]}{more} of {len(strict) + len(buffers):,} tensors {verb} numbers that are NaN or infinite"


@torch.no_grad()
def _wrong(tensors: Iterable[tuple[str, Tensor]], good) -> list[str]:
    """Names of the tensors of which not every number is good; one transfer from a device."""
    names, flags = [], []
    for name, value in tensors:
        value = getattr(value, "to_local", lambda value=value: value)()
        if value.is_floating_point() and not value.is_meta and value.numel():
            names.append(name)
            flags.append(~good(value.detach()).all())
    if not flags:
        return []
    home = flags[0].device
    return [name for name, bad in zip(names, torch.stack([flag.to(home) for flag in flags]).tolist()) if bad]
