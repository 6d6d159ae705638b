"""The embeddings of a data set's images and texts as parquet files, resumable, in the order of the rows."""

import json
import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet
from rich.console import Console

from ..atomic import atomic_file, remove_unfinished, try_folder, write_json, writing
from ..checksums import is_older
from ..console import plain_console
from ..data.decode import MAX_PIXELS
from ..data.sources import Rows, load_rows
from ..encoders.channels import channels_of
from ..errors import DataError, HFContrastError
from ..evaluation.counts import counted
from ..lock import hold, release
from ..nn.distributed import rank
from ..paths import local_path
from .arguments import DataSource, as_options
from .embedding_files import COUNTS, CUT_OFF, OWN_COLUMNS, PartMaker
from .embedding_options import EmbeddingOptions, written_options
from .launched import of_first
from .models import OpenedModel, open_model

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
_PLAIN: dict[str, Any] = {"highlight": False, "soft_wrap": True, "markup": False, "emoji": False}  # on any console


def embed(
    model: str, data: DataSource, output: str | Path, *, console: Console | None = None, **options: Any
) -> dict[str, Any]:
    """Writes ``part-00000.parquet``, ... with one row for every row of the data, in its order.

    Columns: ``index``, the row's number; ``image_embedding``, a list of D numbers, null where the image cannot be read, or a number is not finite;
    ``text_embedding``, in the same way of its caption, and null where that is missing, empty or not UTF-8 (of a column with
    lists of captions: a list of such lists, one for each caption in its order, null for unusable ones); ``label`` where
    there are labels; and the columns to keep. The image embedding of a model with two towers is its projected one, that of
    any other encoder is what ``hfcontrast.encoders.encode`` gives.

    Each file is written atomically, then entered in ``manifest.json``. The same call resumes behind the last complete file
    and gives the same files as an uninterrupted one (``batch_size`` and ``device`` may change, which changes rounding).

    Args:
        model: A folder or a name on the Hub, of anything that ``AutoModel`` loads.
        data: Which data.
        output: The folder; made if needed.
        console: Where progress is printed.
        options: The fields of :class:`EmbeddingOptions`.

    Returns:
        The manifest: ``options``, ``parts`` (rows and failures of each), ``rows``, ``unreadable_images``,
        ``unusable_captions``, and ``nonfinite_images`` and ``nonfinite_captions``, whose embeddings have numbers that are not finite;
        where texts are embedded, ``captions_cut_off``, which are longer than the model takes.

    Raises:
        HFContrastError: Model or data cannot be used for this, or the folder was begun with other options.
    """
    console, folder, chosen = (
        console or plain_console(quiet=True),
        Path(local_path(str(output))),
        EmbeddingOptions(**options),
    )
    of_first(partial(_try_folder, folder))
    opened = open_model(model, chosen.revision, chosen.device, chosen.trust_remote_code)
    data = replace(data, channels=channels_of(opened.model))
    rows, what = open_rows(opened, data, chosen.split, chosen.what, tuple(chosen.keep))
    chosen = replace(chosen, what=what)
    written = written_options(opened, data, rows, chosen)
    maker = PartMaker(opened, rows, what, chosen.normalize, chosen.dtype, chosen.batch_size, tuple(chosen.keep))
    try:
        of_first(partial(_occupy, folder))
        return write_parts(maker, folder, written, console)
    finally:
        if rank() == 0:
            release(folder)


def _try_folder(folder: Path) -> None:
    try:
        try_folder(folder)
    except OSError as error:
        raise HFContrastError(f"--output: nothing can be written to {folder} ({error.strerror})") from error


def _occupy(folder: Path) -> None:
    """Makes the folder, and keeps other commands out of it."""
    make_folder(folder)
    hold(folder, "--output")


def write_parts(maker: PartMaker, folder: Path, options: dict[str, Any], console: Console) -> dict[str, Any]:
    """Writes the files that a folder lacks; returns its manifest. Every process must call it: the first one writes.

    Raises:
        HFContrastError: The folder was begun with other options, or cannot be written.
    """
    manifest, shard_rows = of_first(partial(continue_manifest, folder, options)), options["shard_rows"]
    if manifest["complete"]:
        return manifest
    if manifest["parts"]:
        console.print(f"Resuming behind {counted(len(manifest['parts']), 'complete files')} in {folder}", **_PLAIN)
    for table, part in maker.parts(len(manifest["parts"]) * shard_rows, shard_rows):
        name = part_name(len(manifest["parts"]))
        write_part(table, folder / name)
        manifest["parts"].append(part)
        write_manifest(manifest, folder)
        console.print(f"{name}: {counted(part['rows'], 'rows')}{failures(part)}", **_PLAIN)
    return of_first(partial(_complete, manifest, folder))


def _complete(manifest: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Counts what the files have, and enters that there are no more of them."""
    texts = [CUT_OFF] if any(CUT_OFF in part for part in manifest["parts"]) else []
    for count in ("rows", *COUNTS, *texts):  # parts of earlier versions lack some
        manifest[count] = sum(part.get(count, 0) for part in manifest["parts"])
    write_manifest(manifest | {"complete": True}, folder)
    return manifest | {"complete": True}


def open_rows(
    opened: OpenedModel, data: DataSource, split: str, what: str | None, keep: tuple[str, ...]
) -> tuple[Rows, str]:
    """The rows, with captions where texts are embedded, and what is embedded.

    Raises:
        HFContrastError: Texts are wanted of a model or of data that has none; a column is missing or has a name of ours.
    """
    if what in ("texts", "both") and not opened.reads_texts:
        raise HFContrastError(f"{opened.name} has no text tower: --what {what} needs one; use --what images")
    if taken := sorted(set(keep) & set(OWN_COLUMNS)):
        raise DataError(f"column {taken[0]!r} cannot be kept: the embeddings have one of that name")
    columns = tuple(column for column in keep if column != "image")  # which rows always have, under that name
    arguments = data.keywords() | {"split": split, "columns": columns}
    if what == "images" or (what is None and not opened.reads_texts):
        rows, what = load_rows(**arguments), "images"
    else:
        rows = load_rows(**arguments, captioned=True if what else "auto")
        what = what or ("both" if rows.captions else "images")
    if renamed := sorted(set(keep) - set(rows.dataset.features)):
        raise DataError(
            f"column {renamed[0]!r} is the image or the label column, which is called image or label here: --keep image keeps "
            "the images, labels are kept anyway"
        )
    return rows, what


def part_name(number: int) -> str:
    """The name of a parquet file, from 0."""
    return f"part-{number:05d}.parquet"


def write_part(table: pyarrow.Table, path: Path) -> None:
    """Writes a parquet file atomically."""
    with _writing(str(path)), atomic_file(path) as unfinished:
        pyarrow.parquet.write_table(table, unfinished)


def write_manifest(manifest: dict[str, Any], folder: Path) -> None:
    """Writes the manifest over the one before, in one go."""
    with _writing(str(folder / MANIFEST)):
        write_json(folder / MANIFEST, manifest)


_writing = partial(writing, advice="free some space; the same command then resumes behind the last complete file")


def make_folder(folder: Path) -> None:
    """Makes the folder.

    Raises:
        HFContrastError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HFContrastError(f"cannot resume in {folder}: {error}") from error


def continue_manifest(folder: Path, options: dict[str, Any]) -> dict[str, Any]:
    """The manifest to resume from, with the files that are there and complete; a new one in a new folder.

    Raises:
        HFContrastError: The folder was begun with other options (they are named), or holds files of someone else's, or cannot be written.
    """
    options = json.loads(json.dumps(options))
    file = folder / MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
        if manifest is None and (found := sorted(folder.glob("part-*.parquet"))):
            raise HFContrastError(f"{folder} holds {found[0].name} but no {MANIFEST}: choose another --output")
        if manifest is None:
            manifest = {"options": options, "parts": [], "complete": False}
            write_manifest(manifest, folder)
        remove_unfinished(folder)
    except (OSError, ValueError) as error:
        raise HFContrastError(f"cannot resume in {folder}: {error}") from error
    if (
        not isinstance(manifest, dict)
        or not isinstance(manifest.get("parts"), list)
        or not isinstance(manifest.get("options", {}), dict)
    ):
        raise HFContrastError(f"{file} is not one of ours: choose another --output")
    # What older manifests do not say was so, or is not known to have been otherwise.
    known = {
        "data.image_key": None,
        "data.open_addresses": False,
        "data.max_pixels": MAX_PIXELS,
        "data.window": None,
        "data.fingerprint": options.get("data.fingerprint"),
    }
    before = manifest.get("options", {})
    before |= {name: value for name, value in known.items() if name not in before}
    # As they are expanded now.
    before |= {name: local_path(before[name]) for name in ("model", "data.path", "data.data_dir") if before.get(name)}
    if older := [name for name in ("data.fingerprint", "model_digest") if is_older(before.get(name))]:
        logger.warning(
            "%s of %s cannot be compared, as an earlier version wrote it: see to it that data and model are the same",
            " and ".join(older),
            folder,
        )
        before |= {name: options.get(name) for name in older}
    changed = [name for name in {**before, **options} if before.get(name) != options.get(name)]
    if "what" in changed:  # these follow from it: the tokenizer and the captions belong to them, or not
        changed = [name for name in changed if name not in ("model_digest", "data.fingerprint")]
    if set(changed) in ({"data.fingerprint"}, {"data.fingerprint", "data.rows"}):
        counts = f"{before.get('data.rows')} rows then, {options.get('data.rows')} now"
        raise HFContrastError(
            f"the data has changed since {folder} was begun ({counts}): choose another --output, or remove it"
        )
    if changed:
        named = "; ".join(f"{name} was {before.get(name)!r}, is {options.get(name)!r}" for name in changed)
        raise HFContrastError(f"{folder} was begun with other options: {named}. Choose another --output, or remove it")
    whole = [part for part, _ in zip(manifest["parts"], _whole_parts(folder, manifest["parts"]))]
    complete = manifest["complete"] and len(whole) == len(manifest["parts"])
    return manifest | {"parts": whole, "complete": complete}


def _whole_parts(folder: Path, parts: list[dict[str, Any]]):
    """As many values as there are complete files from the first on."""
    for number, part in enumerate(parts):
        try:
            if pyarrow.parquet.read_metadata(folder / part_name(number)).num_rows != part["rows"]:
                return
        except (OSError, pyarrow.ArrowInvalid):
            return
        yield number


def failures(part: dict[str, Any]) -> str:
    """What could not be embedded of a part or of everything, to append to a sentence; empty where nothing failed."""
    kinds = {name: (name.replace("_", " "), "") for name in COUNTS}
    kinds["nonfinite_images"] = ("images", " with embeddings that are not finite")
    kinds["nonfinite_captions"] = ("captions", " with embeddings that are not finite")
    told = "".join(
        f", {counted(part[name], what)}{further}" for name, (what, further) in kinds.items() if part.get(name)
    )
    cut_off = f", {counted(part[CUT_OFF], 'captions')} cut off" if part.get(CUT_OFF) else ""
    examples = as_options("; ".join(part.get("examples", [])))
    null = f"{told} (null)" if told else ""
    return cut_off + null + (f"; e.g. {examples}" if examples else "")


def nothing_embedded(manifest: dict[str, Any]) -> str:
    """That no image of any row has an embedding, and no caption either; empty where one has, or where only texts are embedded."""
    rows, what = manifest["rows"], manifest["options"]["what"]
    captions = manifest["unusable_captions"] + manifest["nonfinite_captions"]
    if not rows or what == "texts" or manifest["unreadable_images"] + manifest["nonfinite_images"] < rows:
        return ""
    return "" if what != "images" and captions < rows else f"not one of {counted(rows, 'rows')} could be embedded"
