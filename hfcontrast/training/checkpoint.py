"""Checkpoints: written atomically, resumed from exactly, rotated only after the new one is complete."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import gather_object

from ..atomic import commit_folder, remove_unfinished, temporary, write_text, writing
from ..errors import NO_TENSORS, CheckpointError, OutputError, is_pickled
from .checkpoint_files import (
    STATE,
    check_files,
    read_loader_state,
    read_random_states,
    read_state,
    restore_random_states,
    sealed,
    write_loader_state,
    write_state,
)

_PREFIX = "step_"


class Checkpoints:
    """The checkpoints of one run, one folder each: ``step_000400``.

    A checkpoint holds the model with all its buffers (teacher, center, queue), the optimizer, the gradient scaler, the
    random states, each process's position in the data and the run's own notes. It is written under a temporary name, flushed
    to the disk and renamed, so that a folder with its final name is always complete. Every file has a checksum, which is compared
    before anything is resumed from; nothing is unpickled.

    Args:
        folder: Where they live; made when the first is saved.
        accelerator: Whose prepared model and optimizer are saved.
        keep: How many of the newest are kept.

    Attributes:
        beside: Writes further files into the folder of a checkpoint, on the first process.
        saved: Called by all processes with the step and the notes when a checkpoint is complete behind which the run goes on.
    """

    def __init__(self, folder: Path, accelerator: Accelerator, keep: int):
        self.folder = folder
        self.accelerator = accelerator
        self.keep = keep
        self.beside: Callable[[Path], None] | None = None
        self.saved: Callable[[int, dict[str, Any]], None] | None = None

    def newest(self) -> Path | None:
        """The checkpoint with the most steps; it was complete when it got its name, so that one that lacks a file is damaged."""
        return max(self.folder.glob(f"{_PREFIX}*"), default=None)

    def save(self, step: int, loader_state: dict[str, Any], notes: dict[str, Any]) -> Path:
        """Saves the state after ``step`` optimizer steps; called by all processes together.

        Args:
            step: Optimizer steps done.
            loader_state: This process's position in the data.
            notes: What the run itself has to remember; JSON.
        """
        final = self.folder / f"{_PREFIX}{step:09d}"
        unfinished = temporary(final, shared=True)
        try:
            then = "resumes from the checkpoint before it" if self._complete() else "starts over"
            with writing(str(final), f"free some space; the same command then {then}", whatever=True):
                self._write(unfinished, final, step, loader_state, notes)
        except OutputError:
            shutil.rmtree(unfinished, ignore_errors=True)  # half a checkpoint is only in the way
            raise
        self.accelerator.wait_for_everyone()
        return final

    def _write(self, unfinished: Path, final: Path, step: int, loader_state: dict[str, Any], notes: dict[str, Any]):
        accelerator = self.accelerator
        if accelerator.is_main_process:
            self.folder.mkdir(exist_ok=True)  # its own folder exists, or was removed
            remove_unfinished(self.folder)
            unfinished.mkdir()
        accelerator.wait_for_everyone()
        accelerator.save_state(str(unfinished))
        write_loader_state(unfinished, accelerator.process_index, loader_state)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            if self.beside:
                self.beside(unfinished)
            write_state(unfinished, {"step": step, "num_processes": accelerator.num_processes, "notes": notes})
            commit_folder(unfinished, final)
            for old in sorted(self._complete())[: -self.keep]:
                shutil.rmtree(old)

    def load(self, checkpoint: Path) -> tuple[int, dict[str, Any] | None, dict[str, Any]]:
        """Restores the prepared model, the optimizer and the random states.

        Returns:
            Steps done, this process's position in the data (None when the number of processes has changed) and the notes.

        Raises:
            CheckpointError: It is damaged, or does not fit what is trained now.
        """
        process, random_states, loader_state, checked = self.accelerator.process_index, None, None, False
        with self._together(checkpoint):
            state = read_state(checkpoint)
            if self.accelerator.is_main_process:
                checked = check_files(checkpoint, state)
            if state["num_processes"] == self.accelerator.num_processes:
                loader_state = read_loader_state(checkpoint, process)
            if process < state["num_processes"]:  # one that is new has its own seed
                random_states = read_random_states(checkpoint, process)
        with self._together(checkpoint, damaged=not checked):
            self.accelerator.load_state(str(checkpoint))
            if random_states is not None:
                restore_random_states(random_states)
        return state["step"], loader_state, state["notes"]

    @contextlib.contextmanager
    def _together(self, checkpoint: Path, damaged: bool = True) -> Iterator[None]:
        """Raises on all processes what has happened to one, so that none waits for it.

        Args:
            checkpoint: What is read.
            damaged: Whether it may be damaged; else it does not fit.
        """
        found: str | None = None
        cause: Exception | None = None
        try:
            yield
        except Exception as error:  # anything that libraries raise for a damaged file
            cause, found = error, str(_unreadable(checkpoint, error) if damaged else _unfitting(checkpoint, error))
        first = next((message for message in gather_object([found]) if message), None)
        if first is not None:
            raise CheckpointError(first) from cause

    def notes(self, checkpoint: Path) -> dict[str, Any]:
        """The notes of a checkpoint, of which nothing is restored.

        Raises:
            CheckpointError: They cannot be read.
        """
        try:
            return read_state(checkpoint)["notes"]
        except (OSError, ValueError) as error:
            raise _unreadable(checkpoint, error) from error

    def replace_notes(self, checkpoint: Path, notes: dict[str, Any]) -> None:
        """Replaces the notes of a checkpoint atomically; called by all processes together."""
        if self.accelerator.is_main_process:
            write_text(checkpoint / STATE, sealed(read_state(checkpoint) | {"notes": notes}))
        self.accelerator.wait_for_everyone()

    def _complete(self) -> list[Path]:
        return [path for path in self.folder.glob(f"{_PREFIX}*") if (path / STATE).exists()]


def _unreadable(checkpoint: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{checkpoint} cannot be resumed from ({_in_short(error)}); remove this folder to resume from the checkpoint before it"
    )


def _unfitting(checkpoint: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{checkpoint} is complete, but does not fit what is built now ({_in_short(error)}): a library, a plugin or the data has "
        "changed since; go back to what it was written with, or choose another train.output"
    )


def _in_short(error: Exception) -> str:
    if is_pickled(error):
        return NO_TENSORS
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}{'...' * (len(text) > 300)}"
