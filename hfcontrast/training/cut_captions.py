"""How many captions of a run were longer than the tokens that they may have, over all processes and starts."""

from typing import Any

from accelerate.utils import gather_object

from .build import Training

NOTE = "captions"


class CutCaptions:
    """Counts the captions that a run reads and that are cut off, and keeps both in its notes, as ``captions``.

    Args:
        training: The run.
        notes: Its notes; those of a method without captions stay as they are.
        step: Steps done before.
    """

    def __init__(self, training: Training, notes: dict[str, Any], step: int):
        self.training, self.notes, self.first = training, notes, step
        self.own = training.loader.cut_off
        self.before = notes.get(NOTE) or {"read": 0, "cut_off": 0}

    def count(self, step: int) -> dict[str, int]:
        """Brings the notes up to date, and returns what a log line says; every process must call it.

        Args:
            step: Steps done.
        """
        if self.training.captions is None:
            return {}
        own = self.training.loader.cut_off - self.own
        cut_off = sum(gather_object([own])) if self.training.accelerator.num_processes > 1 else own
        read = (step - self.first) * self.training.recipe.train.batch_size
        new = {"read": read, "cut_off": cut_off}
        self.notes[NOTE] = {name: count + new[name] for name, count in self.before.items()}
        return {"captions_cut_off": self.notes[NOTE]["cut_off"]}


def told_cut_captions(training: Training, notes: dict[str, Any]) -> str | None:
    """How many of the captions of a run were cut off, as a sentence without its period; None where none was.

    Args:
        training: The run.
        notes: Its notes.
    """
    count = notes.get(NOTE)
    if training.captions is None or not count or not count["cut_off"]:
        return None
    return (
        f"{count['cut_off']:,} of {count['read']:,} captions that the training read were longer than "
        f"{training.captions.max_length} tokens and cut off"
    )
