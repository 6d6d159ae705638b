"""Trains the runs of a comparison one after another and updates its table after each."""

import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from ..atomic import make_folder
from ..errors import HFContrastError, RecipeError
from ..lock import held
from ..paths import local_path
from .plan import PlannedRun, finished_result, former_result, pixels_evaluated, plan
from .processes import Processes, first_error, training_command
from .table import print_table, summarize, write_table


def compare(
    recipes: Sequence[str | Path],
    overrides: Sequence[str] = (),
    output: str | Path = "outputs/compare",
    seeds: Sequence[int] = (),
    common: str | Path | None = None,
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

    Returns:
        0; 1 where a run has failed (the others are trained all the same); 128 + the number of the signal that stopped it.

    Raises:
        RecipeError: A recipe cannot be used, or the folder cannot be made; nothing was trained.
    """
    output = Path(local_path(str(output)))
    runs = plan(recipes, overrides, output, seeds, common)
    try:
        make_folder(output)
    except OSError as error:
        raise RecipeError(
            f"--output: nothing can be written to {output} ({error.strerror}): choose another folder"
        ) from error
    with held(output, "--output"):
        return train_all(runs, overrides, output)


def train_all(runs: Sequence[PlannedRun], overrides: Sequence[str], output: Path) -> int:
    """Trains the runs that are not finished, and writes the table after each; returns the exit code of :func:`compare`."""
    with Processes() as processes:
        for number, run in enumerate(runs, start=1):
            say(f"[{number}/{len(runs)}] {run.name}, seed {run.seed}: {run.folder}")
            complete(run, runs, processes)
            write_table(summarize(runs, overrides), output)
            if processes.stopped_by:
                break
    print_table(summary := summarize(runs, overrides))
    write_table(summary, output)
    say(f"Written: {output / 'table.md'}, {output / 'table.json'}")
    if processes.stopped_by:
        left = sum(run.result is None for run in runs)
        name = signal.Signals(processes.stopped_by).name
        say(
            f"stopped by {name} in {run.name}, seed {run.seed}; {left} of {len(runs)} runs are not finished: the same "
            "command resumes"
        )
        return 128 + processes.stopped_by
    return 1 if any(run.error for run in runs) else 0


def complete(run: PlannedRun, runs: Sequence[PlannedRun], processes: Processes) -> None:
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
    if run.recipe.eval.baselines is True and not own_pixels and pixels_evaluated(run, runs):
        arguments.append("eval.baselines=encoder")
    run.folder.mkdir(parents=True, exist_ok=True)
    command = training_command(arguments, run.recipe.train.device)
    code, text = processes.run(command, run.folder / "run.log")
    if code == 0:
        run.result = finished_result(run)
    if run.result is None and not processes.stopped_by:
        run.error = first_error(code, text)
        say(f"failed: {run.error}; all that it printed: {run.folder / 'run.log'}")


def say(text: str) -> None:
    """Prints a line where the runs print theirs, at once."""
    print(text, file=sys.stderr, flush=True)
