"""The files of a checkpoint: each has a checksum, and none is unpickled when it is read."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import load

from ..atomic import json_text, without_nan
from ..checksums import checksum, checksum_of_file, is_older

STATE = "run.json"
_CHECKSUM, _FILES = "checksum", "files"


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Writes ``run.json`` in a folder that has no name yet, with the checksums of all that is there and its own."""
    state = state | {_FILES: {name: checksum_of_file(folder / name) for name in _names(folder)}}
    (folder / STATE).write_text(sealed(state), encoding="utf-8")


def sealed(state: dict[str, Any]) -> str:
    """A state as JSON, with a checksum of it."""
    state = {name: without_nan(value) for name, value in state.items() if name != _CHECKSUM}
    return json_text(state | {_CHECKSUM: _checksum_of(state)}, indent=2)


def read_state(folder: Path) -> dict[str, Any]:
    """What ``run.json`` holds.

    Raises:
        OSError: It is not there.
        ValueError: It is damaged.
    """
    state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    if not isinstance(state, dict) or not {"step", "num_processes", "notes"} <= state.keys():
        raise ValueError(f"{STATE} is damaged")
    own = state.pop(_CHECKSUM, None)
    # Checkpoints of earlier versions have none, or another.
    if own is not None and not is_older(own) and own != _checksum_of(state):
        raise ValueError(f"{STATE} is damaged: its checksum is another one")
    return state


def check_files(folder: Path, state: dict[str, Any]) -> bool:
    """Compares every file with the checksum that it was written with.

    Returns:
        Whether all could be compared: checkpoints of earlier versions have no checksums, or others.

    Raises:
        OSError: A file is missing or cannot be read.
        ValueError: A file is damaged.
    """
    for name, expected in state.get(_FILES, {}).items():
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{name} is missing")
        if not is_older(expected) and checksum_of_file(folder / name) != expected:
            raise ValueError(f"{name} is damaged: its checksum is another one")
    return _FILES in state and not any(map(is_older, state[_FILES].values()))


def write_loader_state(folder: Path, process: int, state: dict[str, Any]) -> None:
    """Writes a process's position in the data."""
    (folder / f"loader_{process}.json").write_text(json.dumps(state), encoding="utf-8")


def read_loader_state(folder: Path, process: int) -> dict[str, Any]:
    """A process's position in the data; older versions wrote it by ``torch.save``."""
    file = folder / f"loader_{process}.json"
    if file.exists():
        return json.loads(file.read_text(encoding="utf-8"))
    return torch.load(folder / f"loader_{process}.pt", weights_only=True)


def read_random_states(folder: Path, process: int) -> dict[str, Any]:
    """The random states that ``Accelerator.save_state`` wrote for a process.

    Raises:
        OSError: They are not there.
        Exception: They cannot be read, or hold something else.
    """
    states = load(folder / f"random_states_{process}.pkl")
    missing = {"random_state", "numpy_random_seed", "torch_manual_seed"} - states.keys()
    if missing:
        raise ValueError(f"random_states_{process}.pkl lacks {', '.join(sorted(missing))}")
    return states


def restore_random_states(states: dict[str, Any]) -> None:
    """Sets the random states; ``Accelerator.load_state`` does too, but passes over in silence what it cannot set."""
    random.setstate(states["random_state"])
    np.random.set_state(states["numpy_random_seed"])
    torch.set_rng_state(states["torch_manual_seed"])
    if torch.cuda.is_available():  # as many as both machines have
        for device, value in zip(range(torch.cuda.device_count()), states.get("torch_cuda_manual_seed", [])):
            torch.cuda.set_rng_state(value, device)


def _names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _checksum_of(state: dict[str, Any]) -> str:
    # Through JSON once: what was a tuple or a number as a key is then what a reader finds.
    return checksum(json.dumps(json.loads(json.dumps(state)), sort_keys=True).encode())
