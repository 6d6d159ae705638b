"""The check that several processes compute what one would."""

from typing import Any, cast

import torch
from torch import Tensor

from ..methods.base import Method, Progress
from ..nn.batch_norm import synchronize_batch_norm
from ..training.step import OptimizerStep
from .draws import drawn_by_a_step, nothing_dropped
from .process_group import run_together
from .samples import ROUNDING
from .violation import ContractViolation, require


def check_processes(method: Method, batch: dict[str, Tensor], processes: int = 2, tolerance: float = 1e-4) -> None:
    """Several processes have the loss, the gradients and the state after the step of one process on the whole batch.

    Batch normalization is synchronized, as in the training; dropout, whose masks differ between processes, is turned off.
    Compared up to float32 rounding: differences up to
    ``tolerance`` of a tensor's largest value, or of a tenth of the largest value of all (a gradient that is zero in theory,
    as that of a bias before batch normalization, is all rounding).
    """
    arguments = (type(method), method.config, method.state_dict(), batch)
    results = run_together(_step_of_a_share, arguments, processes)
    alone = _one_step(_restored(type(method), method.config, method.state_dict()), batch)
    loss = sum(result["loss"] for result in results) / processes
    found = f"{processes} processes have the loss {loss}, one has {alone['loss']}"
    if abs(loss - alone["loss"]) > tolerance * max(abs(alone["loss"]), 1.0):
        raise ContractViolation(found + because(method, batch))
    for kind in ("gradients", "state"):
        largest = max(float(value.abs().max()) for value in alone[kind].values())
        for name, expected in alone[kind].items():
            for number, result in enumerate(results):
                found = result[kind][name]
                limit = max(tolerance * max(float(expected.abs().max()), largest / 10), ROUNDING)
                difference = float((found - expected).abs().max())
                require(difference <= limit, f"process {number} of {processes}: {kind} of {name} differ by {difference:.2e} from those of one process (at most {limit:.2e})")  # fmt: skip


def _step_of_a_share(
    method_class: type[Method], config, state: dict[str, Tensor], batch: dict[str, Tensor], number: int, processes: int
) -> dict[str, Any]:
    local = {name: value.chunk(processes)[number] for name, value in batch.items()}
    return _one_step(_restored(method_class, config, state), local)


def _restored(method_class: type[Method], config, state: dict[str, Tensor]) -> Method:
    method = cast(Method, synchronize_batch_norm(method_class(config)).train())
    method.load_state_dict(state)
    return method


def _one_step(method: Method, batch: dict[str, Tensor]) -> dict[str, Any]:
    """Loss, gradients averaged over processes as DistributedDataParallel does, and the state after a step."""
    gradients: dict[str, Tensor] = {}

    def keep(_step: int) -> None:
        gradients.update((name, p.grad.clone()) for name, p in method.named_parameters() if p.grad is not None)

    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    step = OptimizerStep(method, torch.optim.SGD(trained, lr=0.1), on_gradients=keep)
    torch.manual_seed(0)
    with nothing_dropped(method):
        loss = step([batch], Progress(7, 10, 5)).loss.item()
    state = {name: value.float() for name, value in method.state_dict().items()}
    return {"loss": loss, "gradients": gradients, "state": state}


def because(method: Method, batch: dict[str, Tensor]) -> str:
    """The end of a message where a step draws from a global generator; empty where it does not."""
    drawn = drawn_by_a_step(method, batch)
    return f": {drawn}" if drawn else ""
