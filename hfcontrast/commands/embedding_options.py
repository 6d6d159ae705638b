"""How a data set is embedded: the options of `hfcontrast embed`, and what its manifest says of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..data.sources import Rows
from .arguments import DataSource
from .models import OpenedModel

_VERSION = 1  # of the manifest and of what the parts contain


@dataclass(frozen=True, kw_only=True)
class EmbeddingOptions:
    """How a data set is embedded.

    Args:
        split: Which split; of map-style sets slices too.
        what: ``images``, ``texts`` or ``both``; None: both where model and data have texts, else images.
        normalize: Whether embeddings are scaled to length 1.
        dtype: Of the written numbers, ``float32`` or ``float16``; the model computes in float32.
        batch_size: Images, or texts, encoded at once.
        shard_rows: Rows of a file.
        keep: Columns of the data to copy; ``image`` for the images themselves.
        revision: Branch, tag or commit of a model on the Hub.
        device: Such as ``cuda:1``; None takes a GPU where there is one.
        trust_remote_code: Whether to run Python code that the model brings with it.
    """

    split: str = "train"
    what: str | None = None
    normalize: bool = False
    dtype: str = "float32"
    batch_size: int = 64
    shard_rows: int = 10_000
    keep: Sequence[str] = ()
    revision: str | None = None
    device: str | None = None
    trust_remote_code: bool = False


def written_options(opened: OpenedModel, data: DataSource, rows: Rows, chosen: EmbeddingOptions) -> dict[str, Any]:
    """What the manifest says of how the embeddings were made: all on which they depend."""
    return {
        "version": _VERSION,
        "model": opened.name,
        "revision": opened.revision,
        "model_digest": opened.digest(images=chosen.what != "texts", texts=chosen.what != "images"),
        **{f"data.{name}": value for name, value in data.keywords().items()},
        "data.split": chosen.split,
        "data.rows": rows.num_rows,
        "data.fingerprint": rows.fingerprint(),
        "what": chosen.what,
        "normalize": chosen.normalize,
        "dtype": chosen.dtype,
        "shard_rows": chosen.shard_rows,
        "keep": list(chosen.keep),
    }
