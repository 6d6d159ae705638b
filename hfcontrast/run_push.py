"""A run's pushes to the Hub: at its end, and where ``publish.push_strategy`` says so at every checkpoint, in the background."""

import copy
import shutil
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object

from .atomic import temporary, write_text
from .errors import HFContrastError, HubError
from .hub import passes
from .progress import LongTask
from .publishing.card import build_card
from .publishing.export import save_published
from .publishing.push import command_to_push, open_repository, push
from .publishing.pushed_files import files_to_push
from .publishing.told import UNFINISHED
from .training.build import Training

_COPIED = ("recipe.yaml", "environment.json")  # of the output folder, to the encoder of a checkpoint


class RunPush:
    """Pushes the encoder of a run. An upload that fails is a warning: it never ends the run.

    The first process uploads; the others only take part in gathering sharded weights.

    Args:
        training: The run; its recipe has ``publish.push_to``.
        processor: The image processor that is published.
        ratio: Share of the resized image that the processor's crop keeps.
    """

    def __init__(self, training: Training, processor: Any, ratio: float):
        self.training, self.processor, self.ratio = training, processor, ratio
        self.repository = str(training.recipe.publish.push_to)
        self.private = training.recipe.publish.private
        self._upload: threading.Thread | None = None

    def begin(self) -> None:
        """Creates the repository before the first step, and arranges for the pushes of checkpoints.

        Raises:
            HubError: It cannot be written to. Only that the Hub cannot be reached now is a warning, as it may be at the end.
        """
        found: str | None = None
        if self.training.accelerator.is_main_process:
            try:
                open_repository(self.repository, self.private)
            except HubError as error:
                if passes(error.__cause__):
                    self._warn(f"{error}; the run pushes to {self.repository} when it can")
                else:
                    found = f"publish.push_to: {error}"
        if first := next((text for text in gather_object([found]) if text), None):
            raise HubError(first)
        if self.training.recipe.publish.push_strategy == "every_save":
            self.training.checkpoints.saved = self.at_checkpoint

    def at_checkpoint(self, step: int, notes: dict[str, Any]) -> None:
        """Pushes the encoder as it is now, in the background, unless the push before it still goes on; called by all processes.

        Args:
            step: Steps done.
            notes: The run's.
        """
        accelerator = self.training.accelerator
        if gather_object([self._upload is not None and self._upload.is_alive()])[0]:
            return
        whole = accelerator.get_state_dict(self.training.model)
        if not accelerator.is_main_process:
            return
        folder = temporary(self.training.output / "push")
        try:
            with LongTask("exporting the encoder"):
                self._export(folder, step, notes, whole)
        except (HFContrastError, OSError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            self._warn(f"step {step:,} is not pushed: {error}")
            return
        arguments = (folder, f"Step {step:,} of {self.training.total_steps:,}")
        self._upload = threading.Thread(target=self._in_background, args=arguments, daemon=True)
        self._upload.start()

    def at_end(self) -> None:
        """Pushes what the run has published, on the first process; says what came of it."""
        if not self.training.accelerator.is_main_process:
            return
        output = self.training.output
        with LongTask(f"pushing to {self.repository}"):
            if self._upload is not None:
                self._upload.join()
            try:
                print(f"Pushed: {self._push(output, 'The encoder at the end of its training')}")
            except HFContrastError as error:
                again = command_to_push(output, self.repository, self.private)
                self._warn(
                    f"{self.repository} has not been pushed to: {error}; the run is complete, and `{again}` pushes it"
                )

    def _export(self, folder: Path, step: int, notes: dict[str, Any], whole: dict[str, Any]) -> None:
        training = copy.copy(self.training)
        training.length = replace(training.length, steps=step, stopped=None)
        save_published(training, self.processor, self.ratio, folder, whole)
        unfinished = {**notes, "evaluation": {}, UNFINISHED: self.training.total_steps}
        write_text(folder / "README.md", str(build_card(training, unfinished, self.ratio, "")))
        for name in _COPIED:
            shutil.copy(training.output / name, folder / name)

    def _in_background(self, folder: Path, message: str) -> None:
        try:
            self._push(folder, message)
        except Exception as error:  # nothing that happens here may end the training
            self._warn(f"{message.lower()} is not pushed to {self.repository}: {error}; the run goes on")
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _push(self, folder: Path, message: str) -> str:
        from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

        shown = not are_progress_bars_disabled()
        disable_progress_bars()
        try:
            files = files_to_push(folder, self.repository, recipe=self.training.recipe)
            return push(files, self.repository, private=self.private, message=message)
        finally:
            if shown:
                enable_progress_bars()

    @staticmethod
    def _warn(text: str) -> None:
        print(f"warning: {text}", file=sys.stderr)
