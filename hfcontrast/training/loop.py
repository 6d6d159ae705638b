"""The training loop."""

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object

from ..atomic import write_json, write_text, writing
from ..errors import CheckpointError
from ..progress import LongTask
from ..recipe.published import FILE, OWN_FILE, published_yaml
from ..signals import Interrupted, stopping_at_once
from .baseline import (
    CONDITIONS,
    EVALUATION_ROWS,
    Evaluate,
    evaluate_method,
    evaluate_untrained,
    forget_kept,
    scores_at_start,
)
from .build import Training
from .checkpoint_files import read_state
from .cut_captions import CutCaptions
from .early_stopping import NOTE as STOPPING
from .early_stopping import EarlyStopping
from .environment import describe_environment
from .gradients import GradientWatch
from .interrupts import Watch
from .length import NOTE as LENGTH
from .length import SECONDS
from .loss_range import NOTE, LossRange
from .memory import peak_memory, reset_peak_memory
from .meter import WAITING, Meter
from .record import record
from .same_data import DATA
from .state_watch import StateWatch
from .timed import decide_length
from .tracking import Tracking

BEFORE = "stopped before the first step; the same command starts over"
_CHECKPOINTS = 10  # of a run for a time
Stopping = EarlyStopping | None
INSIDE = "stopped after step {} of {}, saved in {}; the same command resumes from there"
AFTER = "stopped after the last step, which is saved; the same command evaluates and publishes"


def train(training: Training, evaluate: Evaluate | None = None, stopping: Stopping = None) -> dict[str, Any]:
    """Trains to the end, from the newest checkpoint where there is one; from that of the last step it only evaluates.

    Args:
        training: What :func:`~hfcontrast.training.build.build_training` made.
        evaluate: Evaluates an encoder; called at the start, every ``eval.every`` steps and at the end.
        stopping: Watches the encoder and may end the training; None: nothing does.

    Returns:
        The run's notes: ``untrained`` (with released weights: the starting point) and ``trained`` hold what ``evaluate``
        returned before and after, ``untrained_conditions`` its conditions of the former, ``peak_memory`` the
        bytes that the training took at most.

    Raises:
        Interrupted: A signal of ``hfcontrast.signals`` came; the step is finished and saved.
        TrainingError: The loss is not finite.
        DataError: Too much of the data is unreadable.
    """
    with stopping_at_once(BEFORE):
        step, notes, tracking = begin(training, evaluate, stopping)
    if stop := take_steps(training, evaluate, step, notes, tracking, stopping):
        raise Interrupted(stop, AFTER)
    with stopping_at_once(AFTER):
        if evaluate:
            notes["trained"] = evaluate_method(evaluate, training, thorough=True)
            tracking.log({"eval": notes["trained"]}, training.total_steps)
    return notes


def take_steps(
    training: Training,
    evaluate: Evaluate | None,
    step: int,
    notes: dict[str, Any],
    tracking: Tracking,
    stopping: Stopping = None,
) -> int:
    """Takes the steps that are left, logs, evaluates and saves between them.

    Returns:
        A signal that came while the last step was saved, or 0.

    Raises:
        Interrupted, TrainingError, DataError: As :func:`train`.
    """
    recipe, method, loader = training.recipe, training.method, training.loader
    checkpoint_every = recipe.train.checkpoint_every or steps_between_checkpoints(training)
    meter, gradients, losses = Meter(training, step), GradientWatch(method), LossRange(notes, step)
    state, optimizer_step = StateWatch(method), training.optimizer_step()
    captions = CutCaptions(training, notes, step)
    optimizer_step.lr_factor = stopping.lr_factor if stopping else 1.0
    optimizer_step.on_gradients = lambda done: meter.warn(gradients.look(done))
    reset_peak_memory(training.accelerator.device)

    # Workers end while signals are only noted: what a finalizer raises is printed and lost.
    with Watch() as watch, meter, contextlib.closing(loader.iter_from(step)) as batches:
        while step < training.total_steps:
            progress = training.progress(step)
            micro_batches = (meter.wait(batches) for _ in range(recipe.train.accumulation))
            with first_step(meter, step == meter.first, recipe.train.compile):
                done = optimizer_step(micro_batches, progress)
            step += 1
            state.look()
            losses.add(done.loss)
            stop = watch.step(step, done.loss)
            if stopping and stopping.due(step):
                watch.settle()
                meter.warn(stopping.act(step, optimizer_step, tracking.log))
            last = step == training.total_steps
            logs = step % recipe.train.log_every == 0 or last
            saves = step % checkpoint_every == 0 or last or stop
            if training.accelerator.num_processes > 1 and (logs or saves):
                loader.count_together(gather_object)
            cut_off = captions.count(step) if logs or saves else {}
            evaluates = evaluate and not last and recipe.eval.every and step % recipe.eval.every == 0
            if logs or evaluates or saves:
                watch.settle()
            if logs:
                tracking.log(meter.log(done, step) | cut_off, step)
            meter.advance()
            if evaluates:
                with meter.aside():
                    meter.show(scores := evaluate_method(evaluate, training))
                tracking.log({"eval": scores}, step)
            if saves:
                saved = save(training, step, notes, meter, losses, goes_on=not (last or stop))
            if stop and not last:
                raise Interrupted(stop, INSIDE.format(step, training.total_steps, saved))
    return watch.asked


def steps_between_checkpoints(training: Training) -> int:
    """The default of ``train.checkpoint_every``: an epoch; of a run for a time, whose epochs may be short or longer than the run, a tenth of it."""
    timed = training.recipe.train.minutes is not None
    return max(training.total_steps // _CHECKPOINTS, 1) if timed else training.loader.steps_per_epoch


@contextlib.contextmanager
def first_step(meter: Meter, is_first: bool, compiles: bool) -> Iterator[None]:
    """Tells of a first step that takes long, and why it may; it stays out of the time left.

    Args:
        meter: The progress bar.
        is_first: Whether it is the first of this start of the run.
        compiles: Whether torch compiles the model in it.
    """
    if not is_first:
        yield
        return
    with meter.aside(), LongTask("the first step" + ", in which torch compiles the model" * compiles):
        yield


def save(
    training: Training, step: int, notes: dict[str, Any], meter: Meter, losses: LossRange, goes_on: bool = True
) -> Path:
    """Writes a checkpoint with the run's notes, brought up to date; returns its folder."""
    notes["peak_memory"] = max(notes.get("peak_memory", 0), peak_memory(training.accelerator.device))
    notes["images_per_second"] = meter.images_per_second
    notes[WAITING] = round(meter.waiting, 4)
    notes[LENGTH], notes[SECONDS] = training.length.note(), round(training.clock.spent(), 1)
    notes[NOTE] = losses.note()
    with meter.aside(), LongTask("writing a checkpoint"):
        saved = training.checkpoints.save(step, training.loader.state_dict(), notes)
    forget_kept(training)
    if goes_on and training.checkpoints.saved:
        with meter.aside():
            training.checkpoints.saved(step, notes)
    return saved


def begin(
    training: Training, evaluate: Evaluate | None, stopping: Stopping = None
) -> tuple[int, dict[str, Any], Tracking]:
    """All that comes before the first step: steps done before, the run's notes, and its tracking, which is open."""
    recipe = training.recipe
    step, notes = start(training, evaluate, stopping)
    tracking = Tracking(training.output / "metrics.jsonl", training.accelerator)
    run_id = notes.setdefault("run_id", secrets.token_hex(4))
    with LongTask(f"starting {', '.join(recipe.track.to) or 'metrics.jsonl'}"):
        tracking.start(recipe.track, training.output.name, recipe.to_dict(), step, training.total_steps, run_id)
    if evaluate:
        notes.setdefault(CONDITIONS, evaluate.conditions)
    if limits := getattr(evaluate, "limits", None):
        notes[EVALUATION_ROWS] = limits
    if evaluate and recipe.eval.baselines and "untrained" not in notes:
        with LongTask("evaluating the encoder before the training"):
            notes |= scores_at_start(evaluate, training)
    if training.length.pending:
        decide_length(training, step, notes)
    return step, notes, tracking


def start(
    training: Training, evaluate: Evaluate | None = None, stopping: Stopping = None
) -> tuple[int, dict[str, Any]]:
    """Continues from the newest checkpoint or begins; writes the resolved recipe. Returns steps done and the run's notes."""
    accelerator, output = training.accelerator, training.output
    notes: dict[str, Any] = {}
    step = 0
    checkpoint = training.checkpoints.newest()
    if stopping:
        training.checkpoints.beside = stopping.write
        with LongTask("measuring the encoder for early stopping"):
            stopping.begin(checkpoint, training.checkpoints.notes(checkpoint) if checkpoint else {})
    if checkpoint is not None:
        if evaluate:
            evaluate_untrained(evaluate, training, checkpoint)
        step, loader_state, notes = training.checkpoints.load(checkpoint)
        training.clock.before = notes.get(SECONDS, 0.0)
        if loader_state is not None:
            training.loader.load_state_dict(loader_state)
        elif training.rows.streaming:
            raise CheckpointError(
                f"a stream is resumed only on as many processes as it was begun with: {checkpoint.name} was written by "
                f"{read_state(checkpoint)['num_processes']}, now there are {accelerator.num_processes}; start as many, or choose "
                "another train.output"
            )
        accelerator.print(f"resuming from {checkpoint}")
        if not training.length.pending and (changed := training.length.about(step)):
            accelerator.print(changed)
    notes |= {DATA: training.data} | ({STOPPING: stopping.state} if stopping else {})  # the latter as it changes
    record(training, step, notes)
    if accelerator.is_main_process:
        with writing(str(output)):
            (output / OWN_FILE).parent.mkdir(parents=True, exist_ok=True)
            training.recipe.save(output / OWN_FILE)
            write_text(output / FILE, published_yaml(training.recipe))
            write_json(output / "environment.json", describe_environment())
    accelerator.wait_for_everyone()
    return step, notes
