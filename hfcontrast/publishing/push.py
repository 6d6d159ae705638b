"""Uploading a folder to the Hub: one commit of the files that belong there."""

import re
import time
from collections.abc import Callable
from pathlib import Path

from ..errors import HubError
from ..hub import NO_TOKEN, passes, uploading
from .pushed_files import PushedFile, PushedFiles

ATTEMPTS = 3  # for a connection that breaks; huggingface_hub tries each request several times by itself
PAUSE = 5.0  # seconds before the next one
MESSAGE = "Upload the encoder, its card and its recipe"
_NAME = re.compile(r"[^/\s]+/[^/\s]+")
_ADDRESS = re.compile(r"^https?://[^/]+/")


def check_name(repository: str) -> None:
    """Checks the name of a repository.

    Raises:
        HubError: It cannot be one.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    expected = "the name of a repository is USER/NAME, such as me/flowers-dino, USER being you or an organization"
    if _ADDRESS.match(repository):
        raise HubError(f"{repository} is an address: {expected}")
    if not _NAME.fullmatch(repository):
        raise HubError(f"{repository!r} cannot be pushed to: {expected}")
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise HubError(f"{repository!r} cannot be pushed to ({' '.join(str(error).split())}): {expected}") from error


def open_repository(repository: str, private: bool | None = None) -> str:
    """Creates a repository where there is none, and checks that it can be written to.

    Args:
        repository: ``USER/NAME``.
        private: Whether a new one is private; None: as its owner has set it, which is public for most.

    Returns:
        Its address.

    Raises:
        HubError: There is no token, it may not write there, the name is none, or the repository is public though it is to be private.
    """
    from huggingface_hub import HfApi, get_token

    check_name(repository)
    if get_token() is None:
        raise HubError(NO_TOKEN)
    api = HfApi()
    with uploading(repository):
        address = str(api.create_repo(repository, private=private, exist_ok=True))
        public = bool(private) and not api.repo_info(repository).private
    if public:
        raise HubError(
            f"{repository} exists and is public: make it private in its settings ({address}/settings), or push to another name"
        )
    return address


def push(
    pushed: PushedFiles,
    repository: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    message: str = MESSAGE,
    tell: Callable[[str], None] = lambda text: None,
) -> str:
    """Uploads files in one commit. What the repository has already, as after an interruption, is not uploaded again.

    Args:
        pushed: The files.
        repository: ``USER/NAME``.
        private: See :func:`open_repository`.
        revision: Branch, which is created where there is none, or ``refs/pr/N``; None: ``main``.
        message: First line of the commit's message.
        tell: Gets a sentence where an attempt has failed and another is made.

    Returns:
        The address of the commit.

    Raises:
        HubError: It is not uploaded; the repository is as it was.
    """
    from huggingface_hub import HfApi

    open_repository(repository, private)
    api = HfApi()
    if revision is not None and not revision.startswith("refs/"):
        with uploading(repository):
            api.create_branch(repository, branch=revision, exist_ok=True)
    for attempt in range(1, ATTEMPTS + 1):
        operations = [_operation(one) for one in pushed.files]
        try:
            with uploading(repository):
                commit = api.create_commit(repository, operations, commit_message=message, revision=revision)
            return str(commit.commit_url)
        except HubError as error:
            if attempt == ATTEMPTS or not passes(error.__cause__):
                raise
            tell(f"{error}; trying again in {PAUSE:g} s")
            time.sleep(PAUSE)
    raise AssertionError("unreachable")


def _operation(file: PushedFile):  # type: ignore[no-untyped-def]
    from huggingface_hub import CommitOperationAdd

    return CommitOperationAdd(file.name, str(file.file) if file.content is None else file.content)


def command_to_push(folder: Path, repository: str, private: bool | None = None, method: bool = False) -> str:
    """The command line that pushes a folder."""
    import shlex

    options = [option for option, on in (("--private", private), ("--method", method)) if on]
    return shlex.join(["hfcontrast", "push", str(folder), repository, *options])
