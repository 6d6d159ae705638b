"""The machine that a run is planned for: what computes, how much memory it has, and how many processes share the work."""

import os
from dataclasses import dataclass

from ..data.cache import cpus_of_this_process


@dataclass(frozen=True)
class Machine:
    """What a run has to compute on.

    Attributes:
        device: ``cpu``, ``cuda`` or ``mps``.
        name: Of the GPU.
        memory: Of the GPU in bytes; None of a CPU.
        cores: CPU cores of each process.
        processes: How many processes train together.
    """

    device: str
    name: str = ""
    memory: int | None = None
    cores: int = 1
    processes: int = 1

    def describe(self) -> str:
        """In words."""
        processes = f", {self.processes} processes" if self.processes > 1 else ""
        if self.device == "cpu":
            each = " each" if self.processes > 1 else ""
            return f"no GPU, {self.cores} CPU core{'s' * (self.cores != 1)}{each}{processes}"
        memory = f" with {self.memory / 2**30:.0f} GiB" if self.memory else ""
        return f"{self.name or self.device}{memory}{processes}"


def this_machine(device: str = "auto") -> Machine:
    """The machine that this process runs on.

    Args:
        device: As ``train.device`` of a recipe.
    """
    import torch

    found = device
    if device not in ("cpu", "cuda", "mps"):  # a mistyped one is refused with the recipe
        found = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if found != "cuda" or not torch.cuda.is_available():
        return Machine(found, cores=cpus_of_this_process(), processes=processes)
    known = torch.cuda.get_device_properties(0)
    return Machine("cuda", known.name, known.total_memory, cpus_of_this_process(), processes)
