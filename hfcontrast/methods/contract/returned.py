"""Checks of the output of every step, for what would fail elsewhere or be logged wrongly."""

from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...errors import PluginError

if TYPE_CHECKING:
    from ..base import MethodOutput

# Names in a log line beside a method's metrics.
RESERVED = ("loss", "step", "epoch", "lr", "images_per_second", "waiting", "embedding_std", "embedding_rank", "eval")


def check_returned(output: "MethodOutput", expected: type, where: str) -> None:
    """Checks the result of ``objective``.

    Args:
        output: What it returned.
        expected: ``MethodOutput``.
        where: The method's name in messages.

    Raises:
        PluginError: Something in it is wrong.
    """
    if not isinstance(output, expected):
        raise PluginError(f"{where}: objective() returned {type(output).__name__}, expected MethodOutput(loss=...)")
    loss = output.loss
    if not isinstance(loss, Tensor) or loss.ndim != 0:
        raise PluginError(f"{where}: the loss must be a scalar tensor, and is {_kind(loss)}")
    if not isinstance(output.metrics or {}, dict):
        raise PluginError(f"{where}: metrics is {_kind(output.metrics)}, expected a dict of scalar tensors by name")
    for name, value in (output.metrics or {}).items():
        if name in RESERVED or not isinstance(name, str):
            raise PluginError(f"{where}: a metric is called {name!r}, which the log reserves: choose another name")
        if not isinstance(value, Tensor) or value.ndim != 0:
            raise PluginError(
                f"{where}: metrics[{name!r}] is {_kind(value)}, expected a scalar tensor (x.mean().detach(), without .item())"
            )
        if value.device != loss.device:
            raise PluginError(f"{where}: metrics[{name!r}] is on {value.device}, and the loss on {loss.device}")
    if output.embeddings is not None and (not isinstance(output.embeddings, Tensor) or output.embeddings.ndim < 2):
        raise PluginError(
            f"{where}: the output's embeddings are {_kind(output.embeddings)}, expected (B, ..., D) for diagnostics"
        )


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"Tensor of shape {tuple(value.shape)}"
    return "None" if value is None else f"{type(value).__name__} {value!r:.40}"
