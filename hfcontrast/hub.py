"""Whether the Hub can be reached: tested once, so that a machine without a network fails in seconds; and why it refuses an upload.

The libraries ask again and again, for a minute or two, before they look into their caches or give up.
"""

import contextlib
import functools
import os
import re
import sys
from collections.abc import Iterator

from .errors import HFContrastError, HubError
from .paths import local_path

_SECONDS = 5.0  # that the Hub has to answer in
_TOKENS = "https://huggingface.co/settings/tokens"
NO_TOKEN = (
    f"there is no token for the Hub: run `hf auth login`, or set HF_TOKEN, with a token that may write (from {_TOKENS})"
)
_PASSING = (408, 429, 500, 502, 503, 504)  # what the Hub answers where the same request may succeed later
_QUERY = re.compile(r"\?[^\s'\"]*")  # of an address: it may be signed


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
def uploading(repository: str) -> Iterator[None]:
    """A block that only calls the Hub's API; what it raises becomes one sentence.

    Args:
        repository: What is written to.

    Raises:
        HubError: With the cause, and what to do.
    """
    try:
        yield
    except HFContrastError:
        raise
    except Exception as error:  # of the HTTP client, which differs with the version of huggingface_hub
        raise HubError(_explained(error, repository)) from error


def passes(error: BaseException | None) -> bool:
    """Whether what the Hub's API raised may be over soon: it is overloaded, or the connection broke."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    error = _cause(error)
    if error is None or isinstance(error, ValueError | OfflineModeIsEnabled):
        return False
    status = _status(error)
    return status in _PASSING if status else _of_connection(error)


def _cause(error: BaseException | None) -> BaseException | None:
    """What is behind an error that says only which file was uploaded: the answer of the Hub, or the connection."""
    seen = error
    while seen is not None and not (_status(seen) or _of_connection(seen)):
        seen = seen.__cause__
    return seen or error


def _explained(found: Exception, repository: str) -> str:
    from huggingface_hub import constants
    from huggingface_hub.errors import LocalTokenNotFoundError, OfflineModeIsEnabled

    error = _cause(found) or found
    status, told = _status(error), _told(error)
    if isinstance(error, LocalTokenNotFoundError):
        return NO_TOKEN
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, so nothing is uploaded: unset it"
    if status == 401:
        return (
            f"the Hub does not accept the token of HF_TOKEN or `hf auth login`: take one that may write from {_TOKENS}"
        )
    if status == 403:
        user = repository.partition("/")[0]
        return (
            f"the token may not write to {repository} ({told}): take one that may write there from {_TOKENS}, or another name than "
            f"{user} before the slash"
        )
    if status == 404:
        return f"the Hub has no {repository}, or the token may not see it ({told})"
    if status:
        return f"the Hub refuses {repository} with status {status}: {told}"
    if _of_connection(error):
        return f"{constants.ENDPOINT} cannot be reached: {told}"
    return told


def _status(error: BaseException) -> int | None:
    """The status of the Hub's answer; None where there was none."""
    return getattr(getattr(error, "response", None), "status_code", None)


def _of_connection(error: BaseException) -> bool:
    return type(error).__module__.startswith(("httpx", "httpcore")) or isinstance(error, ConnectionError | TimeoutError)


def _told(error: BaseException) -> str:
    """What an error says, in one line without signatures of addresses."""
    text = getattr(error, "server_message", None) or str(error) or type(error).__name__
    return _QUERY.sub("", " ".join(str(text).split()))[:300].rstrip(".")


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
