"""Trains the runs of a comparison, one after another or several at once, and updates its table after each."""

import signal
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from ..atomic import make_folder
from ..errors import HFContrastError, RecipeError
from ..lock import held
from ..paths import local_path
from .plan import PlannedRun, finished_result, former_result, pixels_evaluated, plan
from .processes import Processes, first_error, training_command
from .table import grid_file, print_table, summarize, write_table


def compare(
    recipes: Sequence[str | Path],
    overrides: Sequence[str] = (),
    output: str | Path = "outputs/compare",
    seeds: Sequence[int] = (),
    common: str | Path | None = None,
    jobs: int = 1,
    grid: bool = False,
) -> int:
    """Trains every recipe with the same overrides, and writes ``table.md`` and ``table.json``.

    Started again with the same arguments, it skips finished runs and resumes interrupted ones. Runs that are now to be evaluated
    by a linear probe or fine-tuning too are evaluated again, without being trained.

    Args:
        recipes: Recipe files.
        overrides: `key.path=value` settings that go before every file's.
        output: Folder of the comparison, with one folder a run in it.
        seeds: Seeds to train each recipe with; none: its own.
        common: A file with what all recipes share; None takes for each the ``common.yaml`` beside it, if there is one.
        jobs: Runs trained at once, for a device that one run leaves idle; what they print goes to their ``run.log`` alone where
            it is more than one. Their images/s are then those of a shared device.
        grid: Whether every pair of recipes is trained too, with the settings of both, and the figures are drawn as heat maps,
            ``grid_FIGURE.png``.

    Returns:
        0; 1 where a run has failed (the others are trained all the same); 128 + the number of the signal that stopped it.

    Raises:
        RecipeError: A recipe cannot be used, or the folder cannot be made; nothing was trained.
    """
    output = Path(local_path(str(output)))
    runs = plan(recipes, overrides, output, seeds, common, grid)
    try:
        make_folder(output)
    except OSError as error:
        raise RecipeError(
            f"--output: nothing can be written to {output} ({error.strerror}): choose another folder"
        ) from error
    with held(output, "--output"):
        return train_all(runs, overrides, output, jobs, grid)


def train_all(
    runs: Sequence[PlannedRun], overrides: Sequence[str], output: Path, jobs: int = 1, grid: bool = False
) -> int:
    """Trains the runs that are not finished, and writes the table after each; returns the exit code of :func:`compare`."""
    pixels = Pixels(runs)
    started: list[PlannedRun] = []

    def train(number: int, run: PlannedRun) -> None:
        if not processes.stopped_by:
            started.append(run)
            say(f"[{number}/{len(runs)}] {run.name}, seed {run.seed}: {run.folder}")
            complete(run, pixels, processes)

    with Processes(jobs) as processes, ThreadPoolExecutor(jobs) as pool:
        numbered = {pool.submit(train, number, run): run for number, run in enumerate(runs, start=1)}
        for done in as_completed(numbered):
            done.result()
            if (run := numbered[done]).result is not None and jobs > 1:
                say(f"{run.name}, seed {run.seed}: finished")
            if not processes.stopped_by:  # then it is written once, at the end
                write_table(summarize(runs, overrides, grid), output)
    print_table(summary := summarize(runs, overrides, grid))
    write_table(summary, output)
    files = ["table.md", "table.json", *(grid_file(one) for one in summary.get("grids", ()))]
    say(f"Written: {', '.join(str(output / file) for file in files)}")
    if processes.stopped_by:
        left = sum(run.result is None for run in runs)
        name = signal.Signals(processes.stopped_by).name
        stopped = "; ".join(f"{run.name}, seed {run.seed}" for run in started if run.result is None and not run.error)
        say(
            f"stopped by {name}{' in ' * bool(stopped)}{stopped}; {left} of {len(runs)} runs are not finished: the same "
            "command resumes"
        )
        return 128 + processes.stopped_by
    return 1 if any(run.error for run in runs) else 0


class Pixels:
    """Which run evaluates raw pixels, for all runs that share this baseline: the first of them that is trained."""

    def __init__(self, runs: Sequence[PlannedRun]):
        self.runs = runs
        self._evaluating: dict[str, PlannedRun] = {}
        self._lock = threading.Lock()

    def left_to_others(self, run: PlannedRun) -> bool:
        """Whether a finished run or one in progress evaluates them; else this one is noted as the one that does."""
        with self._lock:
            if pixels_evaluated(run, self.runs) or run.pixels() in self._evaluating:
                return True
            self._evaluating[run.pixels()] = run
            return False

    def end(self, run: PlannedRun) -> None:
        """Notes that a run has ended: a failed one leaves raw pixels to the next."""
        with self._lock:
            if self._evaluating.get(run.pixels()) is run:
                del self._evaluating[run.pixels()]


def complete(run: PlannedRun, pixels: Pixels, processes: Processes) -> None:
    """Trains a run to its end, unless it is finished already, and notes its result or its error.

    A finished run that is to be evaluated by more than it was is started too: it resumes from its last checkpoint.
    """
    try:
        run.result = finished_result(run)
    except HFContrastError as error:
        run.error = str(error).splitlines()[0]
        say(f"error: {run.error}")
        return
    if run.result is not None:
        say("finished before")
        return
    former = former_result(run)
    if former is not None:
        say("trained before; evaluated again, as more is asked for")
    arguments = run.arguments
    own_pixels = former is not None and "raw_pixels" in former["scores"]
    if run.recipe.eval.baselines is True and not own_pixels and pixels.left_to_others(run):
        arguments.append("eval.baselines=encoder")
    run.folder.mkdir(parents=True, exist_ok=True)
    command = training_command(arguments, run.recipe.train.device)
    code, text = processes.run(command, run.folder / "run.log")
    if code == 0:
        run.result = finished_result(run)
    pixels.end(run)
    if run.result is None and not processes.stopped_by:
        run.error = first_error(code, text)
        say(f"failed: {run.error}; all that it printed: {run.folder / 'run.log'}")


def say(text: str) -> None:
    """Prints a line where the runs print theirs, at once."""
    print(text, file=sys.stderr, flush=True)
