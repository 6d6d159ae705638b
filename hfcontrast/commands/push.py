"""`hfcontrast push`: the encoder of a run, its card and its recipe to the Hub."""

import argparse
from pathlib import Path

from ..paths import local_path

SUMMARY = "upload the encoder of a finished run, or of an export, to the Hub"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares its arguments."""
    parser.add_argument(
        "output", metavar="OUTPUT", type=local_path, help="folder of the run (its train.output), or of an export"
    )
    parser.add_argument("repository", metavar="USER/NAME", help="the repository; created where there is none")
    parser.add_argument(
        "--private", action="store_true", help="create a private repository; one that exists and is public is refused"
    )
    parser.add_argument(
        "--method", action="store_true", help="upload the whole method, with its heads and teachers, too"
    )
    parser.add_argument(
        "--images",
        action=argparse.BooleanOptionalAction,
        help="upload the images that show examples of the data (default: only of built-in data, or as publish.images says)",
    )
    parser.add_argument(
        "--license", metavar="ID", help="license of the weights for the card, as the Hub calls it, e.g. apache-2.0"
    )
    parser.add_argument(
        "--revision", metavar="BRANCH", help="branch to upload to, created where there is none (default: main)"
    )
    parser.add_argument("--message", metavar="TEXT", help="message of the commit")
    parser.add_argument("--dry-run", action="store_true", help="list what would be uploaded and upload nothing")


def run(args: argparse.Namespace) -> None:
    """Runs it."""
    from ..publishing.push import MESSAGE, check_name, push
    from ..publishing.pushed_files import files_to_push

    folder = Path(args.output)
    check_name(args.repository)
    chosen = {"method": args.method, "images": args.images, "license": args.license}
    pushed = files_to_push(folder, args.repository, **chosen)
    for line in told(pushed, args.dry_run):
        print(line)
    if args.dry_run:
        return
    address = push(
        pushed,
        args.repository,
        private=args.private or None,
        revision=args.revision,
        message=args.message or MESSAGE,
        tell=print,
    )
    print(f"Pushed: {address}")


def told(pushed, dry_run: bool = False) -> list[str]:  # type: ignore[no-untyped-def]
    """What is uploaded and what is not, in lines.

    Args:
        pushed: The files.
        dry_run: Whether nothing is uploaded.
    """
    sizes = {one.name: one.size for one in pushed.files}
    width = max(map(len, sizes))
    total = f"{len(sizes)} files, {_size(sum(sizes.values()))}"
    lines = [f"{'Would upload' if dry_run else 'Uploading'} {total}:"]
    lines += [f"  {name:{width}}  {_size(size):>9}" for name, size in sizes.items()]
    if pushed.left_out:
        reasons: dict[str, list[str]] = {}
        for name, reason in pushed.left_out.items():
            reasons.setdefault(reason, []).append(name)
        lines += [f"Left out: {', '.join(names)} ({reason})" for reason, names in reasons.items()]
    if pushed.paths:
        count = f"{pushed.paths} paths" if pushed.paths > 1 else "1 path"
        lines.append(f"In the uploaded texts names stand for {count} of this machine.")
    if "README.md" not in sizes:
        lines.append("There is no card (README.md), so the weights have no description and no license.")
    elif pushed.license is None:
        lines.append(
            "The card states no license: without one nobody else has the right to use the weights; --license apache-2.0 states one "
            "(https://huggingface.co/docs/hub/repositories-licenses lists them)."
        )
    return lines


def _size(count: int) -> str:
    for unit, bytes_of in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= bytes_of:
            return f"{count / bytes_of:.1f} {unit}"
    return f"{count} B"
