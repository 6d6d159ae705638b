"""`hfcontrast schema`: the JSON schema of recipes, for editors."""

import argparse
import sys

from ..errors import HFContrastError, PluginError

SUMMARY = "print the JSON schema of recipes, for editors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares its arguments."""
    parser.add_argument("--output", metavar="FILE", help="write it there; the default is to print it")


def run(args: argparse.Namespace) -> None:
    """Runs it."""
    import json

    from ..atomic import write_text
    from ..methods import registry
    from ..recipe import json_schema

    methods = {}
    for name in registry.installed():
        try:
            methods[name] = registry.get_method(name)
        except PluginError as error:
            print(f"warning: left out of the schema: {error}", file=sys.stderr)
    text = json.dumps(json_schema(methods), indent=2) + "\n"
    if args.output is None:
        print(text, end="")
        return
    try:
        write_text(args.output, text)
    except OSError as error:
        raise HFContrastError(f"cannot write {args.output}: {error.strerror}") from error
