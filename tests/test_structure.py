"""The house: which part may import which, and that the command line starts fast."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hfcontrast

PACKAGE = Path(hfcontrast.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# What a part of the package may import, beside itself and what everyone knows (errors, view).
EVERYONE = {"errors", "view", "__init__"}
LIBRARY = {"nn", "losses", "methods", "data"}
ALLOWED = {
    "errors": set(),
    "view": set(),
    "nn": set(),
    "losses": set(),
    "data": set(),
    "methods": {"nn", "losses"},
    "recipe": {"methods", "nn"},
    "evaluation": {"nn", "data"},
    "visualization": {"nn"},
    "training": {*LIBRARY, "recipe"},
    "publishing": {*LIBRARY, "recipe", "training"},
    "testing": {"nn", "losses", "methods"},
    "comparison": {"recipe"},
    "commands": {"nn", "methods", "data", "evaluation", "run_evaluation"},
    "run_evaluation": {*LIBRARY, "recipe", "training", "evaluation", "publishing"},
    "run_pictures": {"data", "training", "evaluation", "publishing", "visualization"},
    "run": {
        *LIBRARY,
        "run_pictures",
        "recipe",
        "training",
        "evaluation",
        "visualization",
        "publishing",
        "run_evaluation",
    },
    "cli": {*LIBRARY, "recipe", "training", "evaluation", "visualization", "publishing", "run", "comparison"}
    | {"commands"},
}
# Evaluators know what an encoder is, what processes share and how rows are read; recipes, which methods and architectures there are.
NARROW = {
    ("evaluation", "nn"): {"encoder", "distributed", "collapse", "two_towers", "batch_norm", "schedule"},
    ("evaluation", "data"): {"sources", "columns", "captions", "decode", "evaluation"},
    ("recipe", "nn"): {"backbone"},
    ("recipe", "methods"): {"registry", "base"},
}


def part_of(parts: list[str]) -> str:
    return parts[0] if parts else "__init__"


def imports(path: Path) -> list[tuple[str, str, int]]:
    """What a module imports of the package: (part, the rest of the dotted name, line)."""
    package = list(path.relative_to(PACKAGE).parts[:-1])
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            names = [name[1:] for name in names if name[0] == "hfcontrast"]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - node.level + 1] + (node.module or "").split(".") * bool(node.module)
            elif (node.module or "").split(".")[0] == "hfcontrast":
                base = node.module.split(".")[1:]
            else:
                continue
            names = [[*base, alias.name] for alias in node.names]
        found += [(part_of(name), ".".join(name[1:]), node.lineno) for name in names]
    return found


def violations(path: Path) -> list[str]:
    """Imports of a module that point back."""
    relative = path.relative_to(PACKAGE)
    part = relative.parts[0].removesuffix(".py")
    if part == "__init__":
        return []
    wrong = []
    for target, rest, line in imports(path):
        if target == part or target in EVERYONE:
            continue
        narrow = NARROW.get((part, target))
        if target not in ALLOWED[part] or (narrow and rest.split(".")[0] not in narrow):
            wrong.append(f"{relative}:{line} imports {target}.{rest}")
    return wrong


def test_every_part_has_its_place():
    parts = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES} - {"__init__"}
    assert parts <= ALLOWED.keys(), f"say in ALLOWED what {sorted(parts - ALLOWED.keys())} may import"


def test_no_arrow_points_back():
    assert [line for path in MODULES for line in violations(path)] == []


@pytest.mark.parametrize(
    "module, source",
    [
        ("data/new.py", "from ..methods.base import Method"),
        ("methods/new.py", "def f():\n    from hfcontrast.data import loader"),
        ("nn/new.py", "import hfcontrast.methods.base"),
        ("evaluation/new.py", "from ..nn.heads import MLPHead"),
        ("training/new.py", "from .. import publishing"),
        ("data/new.py", "from hfcontrast import recipe"),
        ("losses/new.py", "from ..nn import gather"),
    ],
)
def test_an_arrow_that_points_back_is_found(module, source, tmp_path, monkeypatch):
    path = tmp_path / module
    path.parent.mkdir()
    path.write_text(source)
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    assert len(violations(path)) == 1


def test_modules_say_what_they_are_and_stay_short():
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        docstring = ast.get_docstring(ast.parse(text))
        assert docstring and text.startswith('"""'), f"{path.name} must begin with a docstring"
        assert len(text.splitlines()) <= 320, f"{path.name} has {len(text.splitlines())} lines: split it"


def test_names_say_something():
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers"}
    assert not [path.name for path in MODULES if path.stem in vague or path.parent.name in vague]


def test_the_command_line_starts_without_heavy_libraries():
    source = (
        "import sys; sys.argv = ['hfcontrast']\n"
        "import hfcontrast.cli, hfcontrast.recipe, hfcontrast.methods.registry, hfcontrast.view\n"
        "heavy = {'torch', 'transformers', 'datasets', 'accelerate', 'timm', 'numba', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
