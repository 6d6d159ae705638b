"""Checkpoints: whole or absent, continued from exactly, rotated only after the new one is whole."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from ..atomic import UNFINISHED, commit_folder, remove_unfinished, write_json
from ..errors import CheckpointError

_PREFIX = "step_"
_STATE = "run.json"


class Checkpoints:
    """The checkpoints of one run, one folder each: ``step_000400``.

    A checkpoint holds the model with all its buffers (teacher, centre, queue), the optimizer, the gradient scaler, the
    random states, each process's position in the data and the run's own notes. It is written under a temporary name, flushed
    to the disk and renamed, so that a folder with its final name is always whole.

    Args:
        folder: Where they live; made when the first is saved.
        accelerator: Whose prepared model and optimizer are saved.
        keep: How many of the newest are kept.
    """

    def __init__(self, folder: Path, accelerator: Accelerator, keep: int):
        self.folder = folder
        self.accelerator = accelerator
        self.keep = keep

    def newest(self) -> Path | None:
        """The whole checkpoint with the most steps."""
        return max(self._all(), default=None)

    def save(self, step: int, loader_state: dict[str, Any], notes: dict[str, Any]) -> Path:
        """Saves the state after ``step`` optimizer steps; called by all processes together.

        Args:
            step: Optimizer steps done.
            loader_state: This process's position in the data.
            notes: What the run itself has to remember; JSON.
        """
        final = self.folder / f"{_PREFIX}{step:09d}"
        unfinished = self.folder / f"{UNFINISHED}{final.name}"
        accelerator = self.accelerator
        if accelerator.is_main_process:
            remove_unfinished(self.folder)
            unfinished.mkdir(parents=True)
        accelerator.wait_for_everyone()
        accelerator.save_state(str(unfinished))
        torch.save(loader_state, unfinished / f"loader_{accelerator.process_index}.pt")
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            state = {"step": step, "num_processes": accelerator.num_processes, "notes": notes}
            (unfinished / _STATE).write_text(json.dumps(state, indent=2))
            commit_folder(unfinished, final)
            for old in sorted(self._all())[: -self.keep]:
                shutil.rmtree(old)
        accelerator.wait_for_everyone()
        return final

    def load(self, checkpoint: Path) -> tuple[int, dict[str, Any] | None, dict[str, Any]]:
        """Restores the prepared model, the optimizer and the random states.

        Returns:
            Steps done, this process's position in the data (None when the number of processes has changed) and the notes.

        Raises:
            CheckpointError: It cannot be read.
        """
        try:
            state = json.loads((checkpoint / _STATE).read_text())
            same_processes = state["num_processes"] == self.accelerator.num_processes
            loader = checkpoint / f"loader_{self.accelerator.process_index}.pt"
            loader_state = torch.load(loader, weights_only=False) if same_processes else None
            self.accelerator.load_state(str(checkpoint))
        except Exception as error:  # whatever a damaged file raises in the libraries that read it
            raise _unreadable(checkpoint, error) from error
        return state["step"], loader_state, state["notes"]

    def notes(self, checkpoint: Path) -> dict[str, Any]:
        """The notes of a checkpoint, of which nothing is restored.

        Raises:
            CheckpointError: They cannot be read.
        """
        try:
            return json.loads((checkpoint / _STATE).read_text())["notes"]
        except (OSError, ValueError, KeyError) as error:
            raise _unreadable(checkpoint, error) from error

    def replace_notes(self, checkpoint: Path, notes: dict[str, Any]) -> None:
        """Replaces the notes of a checkpoint, at once and whole; called by all processes together."""
        if self.accelerator.is_main_process:
            state = json.loads((checkpoint / _STATE).read_text()) | {"notes": notes}
            write_json(checkpoint / _STATE, state)
        self.accelerator.wait_for_everyone()

    def _all(self) -> list[Path]:
        return [path for path in self.folder.glob(f"{_PREFIX}*") if (path / _STATE).exists()]


def _unreadable(checkpoint: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{checkpoint} cannot be continued from ({type(error).__name__}: {error}); remove this folder to go on from "
        "the checkpoint before it"
    )
