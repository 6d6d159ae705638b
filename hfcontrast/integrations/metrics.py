"""Metrics of a step, as the training loop logs them: means over micro-batches and processes."""

from collections.abc import Sequence

import torch

from ..methods.base import MethodOutput
from ..nn.distributed import all_mean


def mean_metrics(outputs: Sequence[MethodOutput]) -> dict[str, float]:
    """Means of the metrics over the micro-batches of all processes, which call this together; empty where there are none.

    Args:
        outputs: Of one step; all have the same metrics.
    """
    names = sorted(outputs[0].metrics or {}) if outputs else []
    if not names:
        return {}
    rows = [torch.stack([output.metrics[name].float() for name in names]) for output in outputs]
    return dict(zip(names, all_mean(torch.stack(rows).mean(dim=0)).tolist()))
