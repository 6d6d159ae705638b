"""A run by a checked recipe: trains, evaluates and publishes an encoder."""

import sys
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from rich.table import Table

from .atomic import write_text, writing
from .console import plain_console
from .errors import RecipeError
from .evaluation.counts import titles_by_numbers, told_counts, told_overlap, told_series
from .lock import release
from .paths import quoted
from .progress import LongTask
from .publishing.card import PREDICTIONS, build_card
from .publishing.export import save_published
from .publishing.facts import takes_labels
from .publishing.result import FILE, build_result, named_scores, training_speed, write_result
from .publishing.tables import card_figures, score_table, table_remarks
from .publishing.told import told_early_stopping, told_nothing
from .publishing.usage import usage
from .publishing.verdict import verdict_of, without_classes
from .recipe import Recipe
from .run_budget import seconds_for_pixels, told_left_out
from .run_early_stopping import build_early_stopping
from .run_evaluation import OpenedRows, build_evaluation
from .run_figures import write_figures
from .run_overlap import trained_on
from .run_push import RunPush
from .run_visualization import write_predictions
from .signals import AT_ANY_TIME, stopping_at_once
from .training.build import Training, build_training
from .training.build_method import published_size
from .training.channel_statistics import told_channels
from .training.collapse import features_collapsed
from .training.cut_captions import told_cut_captions
from .training.early_stopping import NOTE as STOPPING
from .training.engines import own_states
from .training.loop import AFTER, BEFORE, train
from .training.loss_range import constant_loss
from .training.meter import WAITING
from .training.notices import notices
from .training.output_folder import missing_folders, remove_empty
from .training.precision import about_precision
from .training.record import precision_of


def run_training(recipe: Recipe) -> dict[str, Any]:
    """Runs a recipe to the end; returns the run's notes (accuracies, speed).

    Raises:
        HFContrastError: With one clear sentence.
        Interrupted: A signal came; the run is saved.
    """
    if recipe.train.output is None:
        raise RecipeError(
            "train.output: name the folder for what the run leaves; a recipe that is not a file has no name to call it by"
        )
    datasets.utils.logging.set_verbosity(datasets.utils.logging.CRITICAL)  # it logs errors that it then raises
    transformers.utils.logging.disable_progress_bar()  # of saving and loading; the training has its own
    joined = torch.distributed.is_available() and torch.distributed.is_initialized()
    output = Path(recipe.train.output)
    new = missing_folders(output)
    try:
        with own_states(), stopping_at_once(AT_ANY_TIME):
            return _run(recipe, leave=not joined)
    finally:
        release(output)
        remove_empty(new)  # of a run that was refused


def _run(recipe: Recipe, leave: bool) -> dict[str, Any]:
    """Runs a recipe; ``leave``: the processes part in the end, as they have joined for this run only."""
    with stopping_at_once(BEFORE):
        opened = OpenedRows(recipe)
        training = build_training(recipe, opened)
        if training.weights:
            training.accelerator.print(training.weights)
        if told := about_precision(recipe, precision_of(training)):
            training.accelerator.print(told)
        training.accelerator.print(training.augmentation.describe(training.accelerator.device))
        if told := told_channels(recipe, training.mean, training.std):
            training.accelerator.print(told)
        if training.loader.about_cache:
            training.accelerator.print(training.loader.about_cache)
        for sentence in notices(training):
            training.accelerator.print(f"warning: {sentence}", file=sys.stderr)
        if training.accelerator.is_main_process:
            (training.output / FILE).unlink(missing_ok=True)  # until this run, too, is finished
        evaluation, evaluated_on, processor, ratio = build_evaluation(training, opened)
        stopping = build_early_stopping(training, opened, processor)
        pushes = RunPush(training, processor, ratio) if recipe.publish.push_to else None
        if pushes:
            pushes.begin()
    notes = train(training, evaluation, stopping)
    notes["evaluation"], notes["counts"] = evaluation.counts, evaluation.numbers
    notes["chance"], notes["chance_answers"] = evaluation.chance, evaluation.answers
    overlap = {
        "trained_on": trained_on(training, opened.found, notes.get(STOPPING)),
        "test_rows": opened.found.test.num_rows,
    }
    notes["evaluation"] = {**notes["evaluation"], **overlap}
    notes["measured_on"] = evaluation.measured_on
    with stopping_at_once(AFTER):
        if recipe.eval.baselines is True:
            limit = seconds_for_pixels(training)
            notes["raw_pixels"] = evaluation.raw_pixels(training.accelerator.device, limit)
            for line in told_left_out(evaluation):
                training.accelerator.print(line)
        write_predictions(training, evaluation.rows.test.rows)
        notes["neighbors"] = write_figures(training, evaluation.rows, opened.found, processor)
        advice = "free some space; the same command then evaluates and publishes"
        with writing(str(training.output), advice), LongTask("exporting the encoder"):
            publish(training, notes, processor, ratio, evaluated_on)
        if pushes:
            pushes.at_end()
    for tracker in training.accelerator.trackers:
        tracker.finish()
    if leave:
        training.accelerator.state.destroy_process_group()
    return notes


def publish(training: Training, notes: dict[str, Any], processor: Any, ratio: float, evaluated_on: str) -> None:
    """Writes the encoder, its card, the whole method and the figures, and says what came of the run."""
    accelerator, output = training.accelerator, training.output
    whole = accelerator.get_state_dict(training.model)
    if not accelerator.is_main_process:
        return
    save_published(training, processor, ratio, output, whole)
    write_text(output / "README.md", str(build_card(training, notes, ratio, evaluated_on)))
    write_result(build_result(training, notes, evaluated_on), output)
    report(training, notes, evaluated_on)


def report(training: Training, notes: dict[str, Any], evaluated_on: str) -> None:
    """Prints the table at the end of a run."""
    console = plain_console(soft_wrap=True)
    has_scores = print_scores(training, notes, evaluated_on, console)
    if notes["evaluation"].get("not_classified"):  # why, a warning has said before the training
        console.print(told_nothing(notes["evaluation"], None))
    elif not has_scores and (doubled := notes["evaluation"].get("near_duplicates")):
        console.print(
            f"All {doubled:,} labeled train images are near-duplicates of images of {evaluated_on}: nothing was classified; eval.path "
            "or eval.split can name others."
        )
    elif without_classes(notes):
        console.print(
            "The data has no labels: the encoder was evaluated without them, and nothing was classified; eval.path can name a labeled data set."
        )
    elif not has_scores:
        console.print("The data has no labels: nothing was classified; eval.path can name a labeled data set.")
    if features_collapsed(notes):
        console.print(
            "The features have collapsed: all images look alike to this encoder. Lower optim.lr, raise "
            "train.batch_size, or weaken the augmentation (views.all.scale=[0.2,1]).",
            style="bold red",
        )
    if constant := constant_loss(notes, training.total_steps):
        console.print(f"{constant}.", style="bold red")
    for sentence in told_early_stopping(notes.get(STOPPING)):
        console.print(sentence)
    if cut_off := told_cut_captions(training, notes):
        console.print(f"{cut_off} (text.max_length).")
    encoder = training.method.export_encoder()
    lines = usage(encoder, published_size(training.recipe, training.views))
    trust = ", trust_remote_code=True" if getattr(type(encoder), "_auto_class", None) else ""
    if (waiting := notes.get(WAITING)) is not None:
        speed = training_speed(training.output / "metrics.jsonl") or 0
        console.print(f"Speed: {speed:,.0f} images/s; {waiting:.1%} of the time was spent waiting for data")
    console.print(f"Written: {training.output}")
    if (training.output / PREDICTIONS).exists():
        console.print(f"Its predictions as images: {training.output / PREDICTIONS}")
    console.print(f"Load it: AutoModel.from_pretrained({quoted(training.output)}{trust}); features: {lines.features}")
    for line in verdict_of(training, notes, named_scores(notes, training.weights is not None)).lines(training.output):
        console.print(line)


def print_scores(training: Training, notes: dict[str, Any], evaluated_on: str, console: Any) -> bool:
    """Prints the table of scores and what is to be said of it; returns whether there are any."""
    columns, rows = score_table(notes, released=training.weights is not None)
    if rows:
        table = Table()
        for name in columns:
            table.add_column(name, style="bold" if name.startswith("trained") else None)
        for row in rows:
            table.add_row(*row, style="bold" if row[0].startswith("trained") else None)
        console.print(f"Evaluated on {evaluated_on}: {told_counts(notes['evaluation'])}")
        labels = ("used" if takes_labels(training) else "unused") if training.rows.labeled else None
        if told := told_overlap(notes["evaluation"], labels):
            console.print(told)
        if told := told_series(notes["evaluation"]):
            console.print(told)
        console.print(table)
        titles = {key: figure.title for key, (_, figure) in card_figures(notes.get("counts", {})).items()}
        for told, names in titles_by_numbers(titles, notes.get("counts", {})).items():
            console.print(f"{', '.join(names)}: {told}")
        for sentence in table_remarks(notes):
            console.print(sentence)
    return bool(rows)
