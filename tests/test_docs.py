"""Commands and code of README, CONTRIBUTING and docs/: each is checked against the command's own parser, or marked as not run.

A block of bash is read by bash itself, with functions in the place of the commands, so that variables, braces and quotes mean what they
mean to a reader. Recipes are loaded with the overrides, arguments are parsed, imports of Python blocks are made, and classes defined in
them are used. What needs a finished run, a network or minutes stands below a comment ``<!-- not run: reason -->``.
"""

import ast
import re
import subprocess
import tomllib
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from hfcontrast.commands.cli import build_parser, main, parse
from hfcontrast.errors import HFContrastError
from hfcontrast.methods import registry
from hfcontrast.recipe import load_recipe
from hfcontrast.testing import check_evaluator

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
BLOCK = re.compile(r"(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
PROGRAMS = ("accelerate", "torchrun", "python", "hfcontrast", "pip", "make", "pre-commit")
SHOWN = ("text", "")  # output and trees of files


def blocks(languages):
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert text.count("\n```") % 2 == 0, f"{page.name}: a block is not closed"
        for found in BLOCK.finditer(text):
            line = text.count("\n", 0, found.start("language")) + 1
            if found["language"] in languages and not found["reason"]:
                yield pytest.param(found["text"], id=f"{page.name}:{line}")


def test_blocks_are_of_languages_that_are_checked():
    known = {"bash", "python", "yaml", "toml", *SHOWN}
    for page in PAGES:
        found = {block["language"] for block in BLOCK.finditer(page.read_text(encoding="utf-8"))}
        assert found <= known, f"{page.name}: {found - known}"


def commands(block):
    """The commands of a block as lists of words, as bash reads them; nothing is executed."""
    stubs = "".join(f"{name}() {{ printf '%s\\x1f' {name} \"$@\"; printf '\\x1e'; }}\n" for name in PROGRAMS)
    done = subprocess.run(
        ["bash", "-c", f"set -euo pipefail\nPATH=\n{stubs}{block}"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return [words.split("\x1f")[:-1] for words in done.stdout.split("\x1e")[:-1]]


def check_command(words):
    program, arguments = words[0], words[1:]
    if "hfcontrast.run" in arguments:
        check_subcommand(["train", *arguments[arguments.index("hfcontrast.run") + 1 :]])
    elif program == "torchrun" and "hfcontrast" in arguments:
        check_subcommand(arguments[arguments.index("hfcontrast") + 1 :])
    elif program == "hfcontrast":
        check_subcommand(arguments)
    elif program == "python":
        compile((ROOT / arguments[0]).read_text(encoding="utf-8"), arguments[0], "exec")
    elif program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
        assert set(arguments) <= set(targets)
    elif program == "pip":
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        extras = re.findall(r"\[(\w+)\]", " ".join(arguments))
        assert set(extras) <= set(project["optional-dependencies"])
    else:
        assert program == "pre-commit" and (ROOT / ".pre-commit-config.yaml").is_file()


def check_subcommand(arguments):
    args = parse(arguments)
    recipes = [args.recipe] if getattr(args, "recipe", None) else []
    overrides = getattr(args, "overrides", [])
    if args.command == "compare":
        from hfcontrast.comparison.plan import split_arguments

        recipes, overrides = split_arguments([*args.items, *overrides])
        recipes = [recipe for recipe in recipes if Path(recipe).name != "common.yaml"]
    for recipe in recipes[:3]:  # those of a glob are checked by the tests of recipes
        common = args.common or next(
            (str(file) for file in [Path(recipe).with_name("common.yaml")] if file.is_file()), None
        )
        for against in ([], *([item] for item in getattr(args, "against", None) or [])):
            load_recipe(recipe, [*overrides, *against], common=common if args.command == "compare" else args.common)


@pytest.mark.parametrize("block", list(blocks(["bash"])))
def test_commands_are_accepted(block, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    found = commands(block)
    assert found, "the block has no command"
    for words in found:
        check_command(words)
        if words[:2] in (["hfcontrast", "methods"], ["hfcontrast", "recipes"]):
            assert main(words[1:]) == 0 and capsys.readouterr().out


def test_unknown_commands_options_and_settings_are_found(monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(AssertionError, match="command not found|No such file"):
        commands("hfkontrast methods")
    for block in ("hfcontrast embed a b --no-such-option", "hfcontrast no-such-command"):
        with pytest.raises(SystemExit):
            check_command(commands(block)[0])
    with pytest.raises(HFContrastError, match="epoch"):
        check_command(commands("hfcontrast train recipes/simclr_resnet.yaml train.epoch=3")[0])


@pytest.fixture
def clean_registry(monkeypatch):
    monkeypatch.setattr(registry, "_in_process", dict(registry._in_process))


@pytest.mark.parametrize("block", list(blocks(["python"])))
def test_python_is_run_or_its_names_exist(block, clean_registry):
    tree = ast.parse(block)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            module = import_module(node.module)
            missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            assert not missing, f"{node.module} has no {missing}"
    space = {"__name__": "a_page"}
    exec(compile(block, "a page", "exec"), space)  # definitions only: what does more is marked
    if "Mine" in space:
        step_of(space["Mine"])
    if "Separation" in space:
        features, labels = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0, 1])
        evaluator = space["Separation"]()
        rows = SimpleNamespace(test_features=lambda encoder: (features, labels))
        assert evaluator.evaluate(None, rows, evaluator.settings_class()).figures == {"gap": 1.0}
        check_evaluator(space["Separation"])


def step_of(method_class):
    """One forward pass of a method on two images."""
    from hfcontrast.testing import build

    output = build(method_class)(pixel_values=torch.rand(2, 2, 3, 32, 32))
    assert output.loss.isfinite()


@pytest.mark.parametrize("block", list(blocks(["yaml"])))
def test_recipes_are_valid(block, monkeypatch):
    monkeypatch.chdir(ROOT)
    given = yaml.safe_load(block)
    base = {"method": {"name": "simclr"}, "backbone": "timm/resnet18", "data": {"path": "builtin/shapes"}}
    load_recipe({**base, "train": {"batch_size": 64, "epochs": 1}, **given})


@pytest.mark.parametrize("block", list(blocks(["toml"])))
def test_toml_is_valid(block):
    assert tomllib.loads(block)


def test_links_lead_somewhere():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
            file, _, anchor = link.partition("#")
            target = page if not file else page.parent / file
            assert target.exists(), f"{page.name}: {link}"
            if anchor:
                titles = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.M)
                anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
                assert anchor in anchors, f"{page.name}: {link}"


def test_readme_has_every_built_in_method_and_docs_every_page():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[`(\w+)`\]\(model_cards/\1\.md\) \|", readme, re.M)
    built_in = [name for name, entry in registry.installed().items() if entry.distribution == "hfcontrast"]
    assert sorted(listed) == sorted(built_in)
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    assert all(f"({page.name})" in index for page in (ROOT / "docs").glob("*.md") if page.name != "index.md")


def test_the_overview_image_is_small_and_has_its_script():
    image = ROOT / "docs/images/overview.jpg"
    assert image.stat().st_size < 300_000
    compile(image.with_suffix(".py").read_text(encoding="utf-8"), "overview.py", "exec")


def test_all_commands_of_the_command_line_are_in_the_documentation():
    names = next(action.choices for action in build_parser()._actions if action.dest == "command")
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert not [name for name in names if f"hfcontrast {name}" not in text]
