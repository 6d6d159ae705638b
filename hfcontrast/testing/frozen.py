"""The check that frozen parameters are not updated for as long as declared, and are updated afterwards."""

import copy

import torch
from torch import Tensor

from ..methods.base import Method, Progress
from ..methods.contract.freezing import declared_frozen, named_parameters
from ..training.step import OptimizerStep
from .violation import require


def check_frozen(method: Method, batch: dict[str, Tensor]) -> None:
    """``frozen`` names modules or parameters that are trained; no step updates them before the declared end, and one does after
    it."""
    declared = declared_frozen(method)
    if not declared:
        return
    method = copy.deepcopy(method)
    parts = {name: [p for _, p in named_parameters(method, name)] for name in declared}
    for name, parameters in parts.items():
        require(
            any(parameter.requires_grad for parameter in parameters),
            f"frozen() names {name!r}, which is never trained (requires_grad_(False)): leave it out",
        )
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    before: dict[str, list[Tensor]] = {}

    def keep(
        _step: int,
    ) -> None:  # after before_step(), which may move them itself, as where prototypes are made unit vectors
        before.update({name: [value.detach().clone() for value in values] for name, values in parts.items()})

    step = OptimizerStep(method, torch.optim.AdamW(trained, lr=0.01, weight_decay=0.1), on_gradients=keep)
    end = max(frozen.end(1) for frozen in declared.values())
    for done in sorted({0, *(frozen.end(1) - 1 for frozen in declared.values()), end}):
        progress = Progress(done, end + 1)
        step([batch], progress)
        moved = [name for name, values in parts.items() if not all(map(torch.equal, before[name], values))]
        for name in moved:
            last = declared[name].end(1)
            require(
                not declared[name].holds(progress),
                f"{name} is frozen until step {last}, and step {done + 1} updates it",
            )
    require(bool(moved), f"frozen() names {', '.join(parts)}, and none of it is updated after step {end}")
