"""Where the curves go: metrics.jsonl always, Accelerate's trackers when asked for."""

import json
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from ..errors import RecipeError

_PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "trackio": "trackio"}


class Tracking:
    """Writes one line of JSON for every log, and hands the same numbers to the trackers. Acts on the main process only.

    Args:
        file: ``metrics.jsonl``.
        accelerator: Owner of the trackers.
    """

    def __init__(self, file: Path, accelerator: Accelerator):
        self.file = file
        self.accelerator = accelerator

    def start(self, settings, run_name: str, recipe: dict[str, Any], step: int) -> None:
        """Opens the trackers, and drops lines after ``step``: a continued run writes them again.

        Raises:
            RecipeError: A tracker's package is not installed.
        """
        if settings.to:
            try:
                self.accelerator.init_trackers(
                    settings.project,
                    config=_flat(recipe),
                    init_kwargs={"wandb": {"name": run_name}, "trackio": {"name": run_name}},
                )
            except (ImportError, ValueError) as error:
                raise RecipeError(f"track.to: a tracker of {settings.to} cannot be started: {error}") from error
        if not self.accelerator.is_main_process:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        kept = [line for line in lines if _step_of(line) is not None and _step_of(line) <= step]
        self.file.write_text("".join(line + "\n" for line in kept))

    def log(self, values: dict[str, Any], step: int) -> None:
        """Logs values after ``step`` optimizer steps."""
        if not self.accelerator.is_main_process:
            return
        with self.file.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        self.accelerator.log(values, step=step)


def missing_packages(trackers: list[str]) -> list[str]:
    """Packages of the chosen trackers that are not installed."""
    from importlib.util import find_spec

    return [_PACKAGES[name] for name in trackers if find_spec(_PACKAGES[name]) is None]


def _step_of(line: str) -> int | None:
    try:
        return json.loads(line).get("step")
    except ValueError:  # the last line of a killed run can be half a line
        return None


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value if isinstance(value, int | float | str | bool) else str(value)
    return flat
