"""`hfcontrast embed`: the embeddings of a data set's images and texts as parquet files."""

import argparse
import glob
from pathlib import Path

from ..paths import quoted
from .arguments import add_model_and_data, count, data_source, output

SUMMARY = "write embeddings of images and texts to parquet"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares its arguments."""
    add_model_and_data(parser)
    parser.add_argument("--output", metavar="FOLDER", type=output, required=True, help="where the parquet files go")
    parser.add_argument("--split", default="train", help="which split (default: train)")
    parser.add_argument(
        "--what", choices=("images", "texts", "both"), help="default: both, where the model and the data have texts"
    )
    parser.add_argument("--normalize", action="store_true", help="scale every embedding to length 1")
    parser.add_argument(
        "--dtype", choices=("float32", "float16"), default="float32", help="of the written numbers (default: float32)"
    )
    parser.add_argument(
        "--shard-rows", metavar="N", type=count, default=10_000, help="rows of a parquet file (default: 10000)"
    )
    parser.add_argument(
        "--keep",
        metavar="COLUMN",
        nargs="+",
        default=[],
        help="columns of the data to copy; image for the images themselves",
    )


def run(args: argparse.Namespace) -> None:
    """Runs it."""
    from ..console import plain_console
    from ..errors import HFContrastError
    from ..evaluation.counts import counted
    from ..nn.distributed import rank
    from .embed_data import embed, failures, nothing_embedded
    from .launched import joined_processes
    from .models import quiet_libraries

    quiet_libraries()
    with joined_processes(args.device):
        console = plain_console(soft_wrap=True, quiet=rank() > 0)
        manifest = embed(
            args.model,
            data_source(args),
            args.output,
            split=args.split,
            what=args.what,
            normalize=args.normalize,
            dtype=args.dtype,
            batch_size=args.batch_size,
            shard_rows=args.shard_rows,
            keep=args.keep,
            revision=args.revision,
            device=args.device,
            trust_remote_code=args.trust_remote_code,
            console=console,
        )
        console.print(
            f"Complete: {args.output}, {counted(manifest['rows'], 'rows')} in {counted(len(manifest['parts']), 'files')}{failures(manifest)}"
        )
        if nothing := nothing_embedded(manifest):
            raise HFContrastError(f"{args.output}: {nothing}")
        files = quoted(Path(glob.escape(args.output)) / "*.parquet")
        console.print(f'Load them: load_dataset("parquet", data_files={files}, split="train")')
