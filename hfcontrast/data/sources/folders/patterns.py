"""Files that ``data_files`` of imagefolder names, where all its paths and patterns are of this machine: listed as a folder is."""

import glob
import os
import re

import numpy as np
from fsspec.utils import glob_translate

from hfcontrast.data.image_formats import begins_as_image, ending_of, image_endings
from hfcontrast.data.sources.folders.listing import METADATA, Collector, Listing, is_hidden
from hfcontrast.data.sources.folders.remembered import listing_of
from hfcontrast.paths import existing_part, is_address


def listing_of_files(data_files: str | list | dict, base: str) -> tuple[Listing, dict[str, np.ndarray]] | None:
    """Lists what some paths and patterns name, in their order.

    Args:
        data_files: One path or pattern, a list of some, or either for each split.
        base: The folder that they are relative to.

    Returns:
        The listing and the numbers of the files of each split. None where something is no file of this machine, is hidden or an
        archive, or a pattern fits nothing: such ``data_files`` are read, or refused, by ``datasets``.
    """
    given = data_files if isinstance(data_files, dict) else {"train": data_files}
    named: dict[str, list[str]] = {}
    for split, patterns in given.items():
        named[split] = []
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            found = _files(pattern, base) if isinstance(pattern, str) and not is_address(pattern) else []
            if not found:
                return None
            named[split] += found
    return _listed(named)


def _files(pattern: str, base: str) -> list[str]:
    """The absolute paths that a path or pattern names, sorted; empty where it is not for us."""
    literal, rest = existing_part(os.path.expanduser(pattern), base)
    top = os.path.realpath(os.path.join(base or ".", literal))
    parts = rest.split("/") if rest else []
    if any(is_hidden(part, folder=True) for part in parts) or any("**" in part and part != "**" for part in parts):
        return []
    if not parts:
        found = [top]
    elif "**" in parts and os.path.isdir(top):
        listing = listing_of(top)
        fits = re.compile(glob_translate(rest)).match
        found = [
            path for chunk in listing.files.chunks for path in chunk.to_pylist() if fits(path[len(listing.before) :])
        ]
        if not found and any(map(fits, listing.archives)):
            return []
        found += [listing.path(path) for path in listing.metadata if fits(path)]
    else:
        found = [os.path.join(top, path) for path in glob.iglob(rest, root_dir=top)]
    endings = {ending_of(os.path.basename(path)) for path in found}
    if ".zip" in endings and not endings & image_endings():
        return []
    return sorted(path for path in found if "**" in parts or os.path.isfile(path))


def _listed(named: dict[str, list[str]]) -> tuple[Listing, dict[str, np.ndarray]]:
    every = [path for paths in named.values() for path in paths]
    place = os.path.commonpath([os.path.dirname(path) for path in every])
    collector = Collector(place, os.path.join(place, ""))
    numbers = {"": collector.add_folder("")}
    rows: dict[str, np.ndarray] = {}
    endings, count = image_endings(), 0
    for split, paths in named.items():
        first = count
        for path in paths:
            folder, _, name = path[len(collector.before) :].rpartition("/")
            folder += "/" * bool(folder)
            if name in METADATA:
                collector.add_other(folder, name)
            elif ending_of(name) in endings or begins_as_image(path):
                if folder not in numbers:
                    numbers[folder] = collector.add_folder(folder)
                collector.add_image(numbers[folder], path)
                count += 1
            else:
                collector.add_other(folder, name)
        rows[split] = np.arange(first, count)
    return collector.finish(), rows
