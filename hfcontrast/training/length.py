"""The length of a run in optimizer steps: fixed by its recipe, or decided for a time; and changed between two starts."""

import time
from dataclasses import dataclass, field, replace
from typing import Any

from ..methods.base import Progress
from ..methods.contract.progress import ENDED, RETURN
from ..recipe import Recipe
from .checkpoint import Checkpoints
from .checkpoint_files import read_state

NOTE = "length"  # what the notes of a checkpoint call it
SECONDS = "seconds"  # and the time that all starts of the run took until then


@dataclass(frozen=True)
class Length:
    """How many optimizer steps a run has, and how that came about.

    Attributes:
        steps: Optimizer steps of the whole run; 0 where a new run is still to be measured.
        changes: Where it was changed between two starts: ``{"step": ..., "from": ..., "to": ...}``.
        minutes: ``train.minutes``, where that has decided.
        seconds_per_step: What was measured then.
        asked: The steps that are asked for at this start, where more are done; None: not fewer.
        stopped: The step at which early stopping has ended the run; None: it has not.
        pending: Whether a time (``train.minutes``) is still to decide on the steps, when their speed has been measured.
    """

    steps: int
    changes: tuple[dict[str, int], ...] = ()
    minutes: float | None = None
    seconds_per_step: float | None = None
    pending: bool = False
    stopped: int | None = None
    asked: int | None = None

    def progress(self, step: int, steps_per_epoch: int, seed: int) -> Progress:
        """What methods and schedules are told of the time after some steps."""
        first = [(0, one["from"]) for one in self.changes[:1]]
        lengths = (*first, *((one["step"], one["to"]) for one in self.changes))
        return Progress(step, self.steps, steps_per_epoch, seed, lengths)

    def changed(self, step: int, steps: int) -> "Length":
        """The same run with another end, from the step that it has reached; one that is past it ends there.

        Args:
            step: Steps done.
            steps: The new number of steps in all.
        """
        change = {"step": step, "from": self.steps, "to": max(steps, step)}
        return replace(self, steps=max(steps, step), changes=(*self.changes, change))

    def decided(self, step: int, steps: int, minutes: float, seconds_per_step: float) -> "Length":
        """The same run with the number of steps for which a time is enough.

        Args:
            step: Steps done.
            steps: Steps in all.
            minutes: The time.
            seconds_per_step: By which it was decided.
        """
        if not self.steps:
            found = Length(steps)
        else:
            found = self if steps == self.steps else self.changed(step, steps)
        return replace(found, minutes=minutes, seconds_per_step=seconds_per_step, pending=False)

    def about(self, reached: int) -> str | None:
        """One line on a change at the step that is reached; None where there is none.

        Args:
            reached: Steps done.
        """
        asked = f"{_steps(self.asked)} {'is' if self.asked == 1 else 'are'} asked for" if self.asked else ""
        if asked and self.steps == reached and (not self.changes or self.changes[-1]["to"] != self.changes[-1]["step"]):
            return f"{asked}, but the run has done its {_steps(self.steps)}: it stays at these, and is evaluated and published again"
        if not self.changes or self.changes[-1]["step"] != reached:
            return None
        step, before, now = (self.changes[-1][name] for name in ("step", "from", "to"))
        told = f"the run is now {_steps(now)} long instead of {before:,}, of which {step:,} are done"
        if now == step:
            told += f", as {asked}" if asked else ""
            return f"{told}: it ends here, and is evaluated and published as it is"
        schedules = "its schedules (learning rate, momentum of teachers ...)"
        if now > before and self.progress(step, 1, 0).fraction > 1 - ENDED:
            return (
                f"{told}: {schedules} had ended, or nearly, and within {_steps(max(round(RETURN * (now - step)), 1))} go back to where they stand "
                "in a run of this length"
            )
        return f"{told}: what is left of {schedules} is stretched over the {_steps(now - step)} to go"

    def history(self) -> str:
        """How the length came about, as sentences for cards; empty where the recipe alone has fixed it."""
        told = []
        if self.minutes is not None:
            told.append(
                f"Their number was decided for {self.minutes:g} {'minute' if self.minutes == 1 else 'minutes'}, from a measured {self.seconds_per_step:.3g} s a step"
                + ("." if self.changes else f": `train.steps={self.steps}` repeats the run.")
            )
        if self.changes:
            parts = [f"at step {one['step']:,} from {one['from']:,} to {one['to']:,} steps" for one in self.changes]
            told.append(
                f"The length was changed on the way, {', '.join(parts)}: the schedules were stretched over what was left, which a run of "
                "this length from the start would not do."
            )
        return " ".join(told)

    def note(self) -> dict[str, Any]:
        """As JSON, for checkpoints."""
        given = {name: value for name, value in vars(self).items() if value not in (None, (), False)}
        given.pop("asked", None)  # of this start alone
        return given | ({"changes": list(self.changes)} if self.changes else {})

    @classmethod
    def from_note(cls, note: dict[str, Any]) -> "Length":
        """What :meth:`note` gave."""
        return cls(**note | {"changes": tuple(note.get("changes", ()))})


def _steps(count: int) -> str:
    """A number of steps in words."""
    return f"{count:,} step{'s' * (count != 1)}"


@dataclass
class Clock:
    """The time that a run takes, over all its starts.

    Attributes:
        before: Seconds of the starts before, as far as they are in a checkpoint.
    """

    before: float = 0.0
    _begun: float = field(default_factory=time.monotonic)

    def spent(self) -> float:
        """Seconds until now."""
        return self.before + time.monotonic() - self._begun


def steps_of(recipe: Recipe, steps_per_epoch: int) -> int:
    """The number of optimizer steps that a recipe fixes; 0 where it gives a time."""
    settings = recipe.train
    if settings.minutes is not None:
        return 0
    return settings.steps or max(round((settings.epochs or 0) * steps_per_epoch), 1)


def planned_length(recipe: Recipe, former: Recipe | None, checkpoints: Checkpoints, steps_per_epoch: int) -> Length:
    """The length of a run by its recipe and, where there is a checkpoint, by what it was before; every process must call it.

    Args:
        recipe: The recipe.
        former: That of the start before, with which the output folder was left.
        checkpoints: Those of the run.
        steps_per_epoch: Optimizer steps in an epoch.
    """
    wanted, minutes = steps_of(recipe, steps_per_epoch), recipe.train.minutes
    if (newest := checkpoints.newest()) is None:
        return Length(wanted, pending=minutes is not None)
    step, notes = int(read_state(newest)["step"]), checkpoints.notes(newest)
    if NOTE in notes:
        before = Length.from_note(notes[NOTE])
    else:  # of a version that did not note it
        fixed = max(steps_of(former or recipe, steps_per_epoch), step)
        before = Length(fixed)
    if before.stopped is not None or before.steps == wanted or (minutes is not None and before.minutes == minutes):
        return before
    if minutes is None and wanted < before.steps <= step:
        return replace(before, asked=wanted)
    if NOTE not in notes:  # the folder's recipe.yaml is about to be replaced
        checkpoints.replace_notes(newest, notes | {NOTE: before.note()})
    if minutes is not None:
        return replace(before, pending=True)
    asked = wanted if wanted < step else None
    return replace(before.changed(step, wanted), minutes=None, seconds_per_step=None, asked=asked)
