"""The errors a user can meet. Each says what happened, where, what was expected and what to do."""

from collections.abc import Iterator
from contextlib import contextmanager


class HFContrastError(Exception):
    """Base of every error that hfcontrast raises on purpose; the command line prints it without a traceback."""


class RecipeError(HFContrastError):
    """A recipe cannot be used as written: an unknown key, a value of the wrong type, settings that contradict."""


class ArgumentError(RecipeError):
    """A building block cannot do what its arguments ask for. It knows no recipe: who does puts the key before, see :func:`under`.

    Args:
        text: What is wrong; begins with the argument's name where there is one, as in ``target_modules: there is no ...``.
        argument: That name; empty where the text is about the whole.
    """

    def __init__(self, text: str, argument: str = ""):
        super().__init__(text)
        self.argument = argument

    def under(self, key: str) -> "ArgumentError":
        """The same, said of an argument of ``key``."""
        return ArgumentError(f"{key}{'.' if self.argument else ': '}{self}", f"{key}.{self.argument}".rstrip("."))


class PluginError(HFContrastError):
    """A method cannot be used: not installed, fails to import, mis-declared, or its name is claimed twice."""


class DataError(HFContrastError):
    """The data cannot be trained on: empty, a missing column, too many unreadable images, fewer rows than a batch."""


class CheckpointError(HFContrastError):
    """A checkpoint cannot be continued from: of another recipe, damaged, or written by another number of processes."""


class OutputError(HFContrastError):
    """An output folder or file cannot be used: not writable, the disk full, or another process at work in it."""


class HubError(HFContrastError):
    """Nothing can be uploaded to the Hub: there is no token, it may not write there, or the Hub cannot be reached."""


class TrainingError(HFContrastError):
    """The training itself went wrong: a loss that is not finite, a collapsed schedule."""


class LauncherError(HFContrastError):
    """The processes were started in a way that does not fit: an engine that is not supported, or some of them have not joined."""


@contextmanager
def under(key: str) -> Iterator[None]:
    """Puts a key, of a recipe or of an outer argument, before what building blocks say of their arguments inside."""
    try:
        yield
    except ArgumentError as error:
        raise error.under(key) from error.__cause__


NO_TENSORS = (
    "a file holds something other than tensors: it is damaged, or has pickled Python code in it, which is not run"
)


def is_pickled(error: BaseException) -> bool:
    """Whether torch has refused to unpickle a file; its advice to do so all the same must not be followed."""
    return "weights_only" in str(error) or "Weights only load failed" in str(error)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, torch or a GPU says that there is not enough memory."""
    text = str(error)
    known = "can't allocate memory" in text or "not enough memory" in text or "out of memory" in text.lower()
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and known)
    )


def memory_sentence(error: BaseException, advice: str) -> str:
    """An error of :func:`out_of_memory` in one sentence, with what to do."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"there is not enough memory{f' ({first[:200]})' if first else ''}: {advice}"
