"""Which files of an output folder are uploaded, and what they say: nothing of them names a path of this machine."""

import fnmatch
import json
from dataclasses import dataclass
from pathlib import Path

from ..errors import HFContrastError, OutputError
from ..recipe import Recipe, load_recipe
from ..recipe.published import BUILT_IN, own_recipe
from ..renamed import without_warnings
from .local_paths import LocalPaths
from .pushed_card import CARD, pushed_card

WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json")
ENCODER = ("config.json", *WEIGHTS, "preprocessor_config.json", "processor_config.json")
TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model"),
)
RECORDS = (CARD, "recipe.yaml", "result.json", "environment.json", "curves.png")
IMAGES = ("neighbors.png", "predictions.png")  # which show images of the data
ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
METHOD = ("config.json", *WEIGHTS)
_TEXTS = (".json", ".yaml", ".md", ".py")
_NEVER = ("tokenizer.json", "vocab.json")  # texts without a path, of any size


@dataclass(frozen=True)
class PushedFile:
    """A file that is uploaded.

    Attributes:
        name: Its path in the repository.
        file: Where it is here.
        content: What is uploaded in the place of what it holds here; None: what it holds.
    """

    name: str
    file: Path
    content: bytes | None = None

    @property
    def size(self) -> int:
        """Bytes that are uploaded."""
        return self.file.stat().st_size if self.content is None else len(self.content)


@dataclass(frozen=True)
class PushedFiles:
    """What is uploaded of a folder.

    Attributes:
        files: The files.
        left_out: Names of files in the folder that are not, each with the reason.
        private_images: Whether images of the data are among these.
        license: The license that the card states; None where it states none.
        paths: How many paths of this machine have been replaced by names.
    """

    files: list[PushedFile]
    left_out: dict[str, str]
    private_images: bool
    license: str | None
    paths: int


def files_to_push(
    folder: Path,
    repository: str,
    *,
    method: bool = False,
    images: bool | None = None,
    license: str | None = None,
    recipe: Recipe | None = None,
) -> PushedFiles:
    """Chooses the files of a run's folder, or of an export, that belong on the Hub, and reads those that are texts.

    Args:
        folder: A run's ``train.output``, or the folder of an export.
        repository: ``USER/NAME``, which the card is to say.
        method: Whether the whole method in ``method`` belongs to them.
        images: Whether images of the data do (:data:`IMAGES`); None: as ``publish.images`` of the recipe says, and where it
            does not, only those of built-in data.
        license: What the card is to state; None: as it is.
        recipe: That of the run, with its paths; None: as the folder has it.

    Raises:
        OutputError: There is no encoder, or its card cannot be read.
    """
    if not (folder / "config.json").is_file() or not _matching(folder, WEIGHTS):
        raise OutputError(_no_encoder(folder))
    recipe = recipe or _recipe(folder)
    shows = _shows_images(recipe) if images is None else images
    paths = LocalPaths(folder, recipe)
    groups = [("", (*ENCODER, *TOKENIZER, *RECORDS, *code_of(folder), *(IMAGES if shows else ())))]
    groups += [("adapter", ADAPTER)] + [("method", (*METHOD, *code_of(folder / "method")))] * method
    found, license_now = [], license
    for part, patterns in groups:
        for file in _matching(folder / part, patterns):
            name = f"{part}/{file.name}" if part else file.name
            content = None
            if file.suffix in _TEXTS and file.name not in _NEVER:
                text = _read(file)
                if name == CARD:
                    text, license_now = pushed_card(text, repository, shows, license)
                content = paths.replaced(text, json=file.suffix == ".json").encode()
                content = None if content == file.read_bytes() else content
            found.append(PushedFile(name, file, content))
    left_out = _left_out(folder, {one.name for one in found}, method)
    hidden = any(name in left_out for name in IMAGES)
    return PushedFiles(found, left_out, hidden, license_now, paths.count)


def code_of(folder: Path) -> list[str]:
    """The files with code of its own that a folder's ``config.json`` names, and those that these import."""
    try:
        auto_map = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("auto_map", {})
    except (OSError, ValueError):
        return []
    modules = {str(value).rpartition(".")[0] for value in auto_map.values() if "--" not in str(value)}
    files = [folder / f"{module}.py" for module in modules if (folder / f"{module}.py").is_file()]
    if not files:
        return []
    from transformers.dynamic_module_utils import get_relative_import_files

    others = [Path(other).name for file in files for other in get_relative_import_files(str(file))]
    return sorted({*(file.name for file in files), *others})


def _matching(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    """The files right in a folder that have one of these names, in the order of the patterns."""
    if not folder.is_dir():
        return []
    there = sorted(path for path in folder.iterdir() if path.is_file())
    found = [path for pattern in patterns for path in there if fnmatch.fnmatchcase(path.name, pattern)]
    return list(dict.fromkeys(found))


def _left_out(folder: Path, pushed: set[str], method: bool) -> dict[str, str]:
    """What is in the folder and is not uploaded, with the reason."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.name in pushed or path.name.startswith("."):
            continue
        if path.name in IMAGES:
            found[path.name] = "shows images of the data: --images uploads it"
        elif path.name == "method" and not method:
            found["method/"] = "the whole method: --method uploads it"
        elif path.is_file():
            found[path.name] = "not part of what is published"
        elif path.name not in ("adapter", "method"):
            found[f"{path.name}/"] = "not part of what is published"
    return found


def _shows_images(recipe: Recipe | None) -> bool:
    if recipe is None:
        return False
    if recipe.publish.images is not None:
        return recipe.publish.images
    return all(str(path).startswith(BUILT_IN) for path in (recipe.data.path, recipe.eval.path) if path is not None)


def _recipe(folder: Path) -> Recipe | None:
    """The recipe of the run that a folder, or an export in it, is of; None where it cannot be read any more."""
    for place in (folder, folder.parent.parent):
        if (file := own_recipe(place)).is_file():
            try:
                with without_warnings():
                    return load_recipe(file, check=False, former=True)
            except HFContrastError:
                return None
    return None


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise OutputError(f"{file} is no text in UTF-8 ({error.reason}): restore it, or remove it") from error


def _no_encoder(folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder} is no folder: name that of a run (its train.output), or of an export"
    text = f"{folder} has no encoder (config.json with model.safetensors), which a run writes at its end"
    if any((folder / "checkpoints").glob("step_*")):
        return (
            f"{text}: `hfcontrast export {folder}` writes that of its newest checkpoint to a folder that can be pushed"
        )
    return f"{text}: name the folder of a finished run, or of an export"
