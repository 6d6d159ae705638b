"""Whether the Hub can be reached: tested once, so that a machine without a network fails in seconds.

The libraries ask again and again, for a minute or two, before they look into their caches or give up.
"""

import contextlib
import functools
import os
import sys
from collections.abc import Iterator

from .paths import local_path

_SECONDS = 5.0  # that the Hub has to answer in


@contextlib.contextmanager
def reaching_hub(name: str) -> Iterator[str]:
    """A block that reads something by its name; where the Hub cannot be reached, from the libraries' caches alone.

    Args:
        name: A name on the Hub; of a folder or file that exists nothing is asked.

    Yields:
        What to add to an error: why the Hub cannot be reached; empty where it can.
    """
    problem = None if os.path.exists(local_path(name)) else _problem()
    if problem is None:
        yield ""
        return
    with _offline():
        yield f" ({problem}, and it is in no cache of this machine)"


@functools.cache
def _problem() -> str | None:
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        get_session().head(constants.ENDPOINT, timeout=_SECONDS)
    except Exception as error:  # of the HTTP client, which differs with the version of huggingface_hub
        return f"{constants.ENDPOINT} cannot be reached: {str(error) or type(error).__name__}"
    return None


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Lets the libraries ask nothing."""
    from huggingface_hub import constants

    config = getattr(sys.modules.get("datasets"), "config", None)
    switches = [(constants, "HF_HUB_OFFLINE")]
    switches += [(config, name) for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE") if hasattr(config, name)]
    before = [getattr(module, name) for module, name in switches]
    for module, name in switches:
        setattr(module, name, True)
    try:
        yield
    finally:
        for (module, name), value in zip(switches, before, strict=True):
            setattr(module, name, value)
