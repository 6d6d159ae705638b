"""Where the curves go: metrics.jsonl always, Accelerate's trackers when asked for."""

import json
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from ..atomic import write_text
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

    def start(self, settings, run_name: str, recipe: dict[str, Any], step: int, total_steps: int) -> None:
        """Opens the trackers, and drops the lines that a run continued at ``step`` writes again.

        These are the lines after it, and the final evaluation, which follows the last checkpoint.

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
        kept = [values for line in lines if (values := _parsed(line)) and values["step"] <= step]
        if step == total_steps:
            kept = [values for values in kept if "eval" not in values or values["step"] < step]
        write_text(self.file, "".join(json.dumps(values) + "\n" for values in kept))

    def log(self, values: dict[str, Any], step: int) -> None:
        """Logs values after ``step`` optimizer steps."""
        if not self.accelerator.is_main_process:
            return
        with self.file.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        self.accelerator.log(_flat(values, separator="/"), step=step)


def missing_packages(trackers: list[str]) -> list[str]:
    """Packages of the chosen trackers that are not installed."""
    from importlib.util import find_spec

    return [_PACKAGES[name] for name in trackers if find_spec(_PACKAGES[name]) is None]


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        return json.loads(line)
    except ValueError:  # the last line of a killed run can be half a line
        return None


def _flat(values: dict[str, Any], prefix: str = "", separator: str = ".") -> dict[str, Any]:
    flat = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}{separator}", separator))
        else:
            flat[prefix + key] = value if isinstance(value, int | float | str | bool) else str(value)
    return flat
