"""Reading released models: their code is never run, and errors are one sentence."""

import os
import re
from importlib.util import find_spec
from typing import Any

from transformers.utils import logging

from ..errors import NO_TENSORS, ArgumentError, HFContrastError, is_pickled
from ..hub import reaching_hub
from ..paths import local_path
from . import own_architectures  # noqa: F401 (so that transformers knows them)

_OF_TOKENIZERS = {
    "sentencepiece": "sentencepiece",
    "protobuf": "google.protobuf",
}  # the extra `text`: package -> module
_LIBRARY = re.compile(r"requires the ([\w.-]+) library but it was not found")  # as transformers says it
_LACKING = re.compile(r"for '([^']+)'.*local directory with the same name.* (\w+\.json) file", re.DOTALL)
_NO_TYPE = re.compile(r"Unrecognized model in (.+?)\. Should have a `model_type` key")
_OF_SAFETENSORS = {
    "header too large": "its file of weights is none, such as a pointer of git-lfs in its place (git lfs pull fetches the file)",
    "file not fully covered": "its file of weights is cut off or damaged: download it again",
}
_CODE = "trust_remote_code"  # stands in transformers' error where a model needs code that it brings along


def read_pretrained(
    auto_class: type,
    name: str,
    setting: str,
    revision: str | None = None,
    problem: str = "cannot be loaded",
    **options: Any,
) -> Any:
    """``auto_class.from_pretrained`` of a folder or a name on the Hub, without running any code that comes with it.

    Architectures of hfcontrast's own are loaded with the classes of this installation.

    Args:
        auto_class: Such as ``AutoModel``.
        name: The folder or name.
        setting: Which argument of the caller, or setting of a recipe, names it.
        revision: Branch, tag or commit on the Hub.
        problem: How the error begins.
        options: Further arguments.

    Raises:
        ArgumentError: It cannot be read.
    """
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # what is missing is said by us, and of what is needed only
    name = local_path(name)
    with reaching_hub(name) as unreachable:
        try:
            return auto_class.from_pretrained(name, revision=revision or "main", trust_remote_code=False, **options)
        except HFContrastError:
            raise
        except Exception as error:  # libraries raise many types over damaged files
            raise ArgumentError(f"{setting}: {name!r} {problem}: {reason(error)}{unreachable}", setting) from error
        finally:
            logging.set_verbosity(verbosity)


def reason(error: Exception, remedy: str = "take a model that transformers knows by itself") -> str:
    """What went wrong in reading a model, in one line.

    Args:
        error: What was raised.
        remedy: What to do about a model that needs code of its own.
    """
    if _CODE in str(error):
        return f"it needs Python code that it brings with it, which is not run: {remedy}"
    if is_pickled(error):
        return NO_TENSORS
    if missing := [
        name for name, module in _OF_TOKENIZERS.items() if name in str(error).lower() and not _there(module)
    ]:
        return f"its tokenizer needs the package {missing[0]}, which is not installed: pip install 'hfcontrast[text]'"
    if found := _LIBRARY.search(str(error)):
        return f"it needs the package {found[1]}, which is not installed: pip install {found[1]}"
    if found := _LACKING.search(str(error)):
        above = os.path.dirname(os.path.normpath(found[1]))
        if above and os.path.isdir(found[1]) and os.path.exists(os.path.join(above, found[2])):
            return f"there is no {found[2]} in it, but in the folder above: name {above}"
        return f"there is no {found[2]} in it: copy the one that the weights were published with"
    if (
        (found := _NO_TYPE.search(str(error)))
        and os.path.isdir(found[1])
        and not os.path.exists(f"{found[1]}/config.json")
    ):
        return "there is no config.json in it: name the folder of a model as save_pretrained writes it"
    if found := next((text for sign, text in _OF_SAFETENSORS.items() if sign in str(error)), None):
        return found
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return (
        line if isinstance(error, OSError | ValueError) and line else f"{type(error).__name__}: {line or 'no message'}"
    )


def _there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it
        return False


def missing_keys(info: dict[str, Any]) -> set[str]:
    """Names of the tensors of a loaded model that its files do not have, or have in another shape.

    Args:
        info: What ``from_pretrained`` returned for ``output_loading_info=True``.
    """
    return {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}
