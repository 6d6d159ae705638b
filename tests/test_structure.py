"""The structure of the package: which part may import which, and that the command line starts fast."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hfcontrast

PACKAGE = Path(hfcontrast.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# What a part of the package may import, beside itself and what everyone knows (EVERYONE).
EVERYONE = {
    "__init__",
    "atomic",
    "checksums",
    "console",
    "entry_points",
    "errors",
    "hub",
    "lock",
    "progress",
    "paths",
    "renamed",
    "signals",
    "view",
}
LIBRARY = {"nn", "encoders", "losses", "methods", "data"}
ALLOWED = {
    "atomic": {"errors"},
    "checksums": set(),
    "entry_points": {"errors"},
    "errors": set(),
    "hub": {"paths"},
    "paths": set(),
    "lock": {"atomic", "errors"},
    "signals": set(),
    "console": set(),
    "view": set(),
    "progress": set(),
    "renamed": set(),
    "old_modules": set(),
    "private_apis": set(),
    "nn": set(),
    "encoders": {"nn"},
    "losses": set(),
    "data": set(),
    "methods": {"nn", "encoders", "losses"},
    "recipe": {"methods", "encoders", "evaluation"},
    "evaluation": {"nn", "encoders", "data", "losses"},
    "report": {"nn"},
    "training": {*LIBRARY, "recipe"},
    "publishing": {*LIBRARY, "recipe", "training", "evaluation"},
    "testing": {"nn", "encoders", "losses", "methods", "training", "data", "evaluation"},
    "integrations": {"nn", "methods", "data", "training"},
    "comparison": {"recipe", "evaluation"},
    "benchmarks": {*LIBRARY, "recipe", "training"},
    "run_budget": {*LIBRARY, "recipe", "training", "evaluation"},
    "run_overlap": {"methods", "data", "recipe", "training", "evaluation"},
    "run_evaluation": {*LIBRARY, "recipe", "training", "evaluation", "publishing", "run_budget", "run_overlap"},
    "run_early_stopping": {*LIBRARY, "recipe", "training", "evaluation", "run_evaluation"},
    "run_export": {"encoders", "methods", "recipe", "training", "publishing", "run_evaluation"},
    "run_figures": {"data", "encoders", "training", "evaluation", "publishing", "report"},
    "run_push": {"training", "publishing"},
    "run_visualization": {"methods", "data", "training", "evaluation", "publishing", "report"},
    "run_training": {
        *LIBRARY,
        "run_visualization",
        "recipe",
        "training",
        "evaluation",
        "report",
        "publishing",
        "run_evaluation",
        "run_budget",
        "run_overlap",
        "run_early_stopping",
        "run_figures",
        "run_push",
    },
    "planning": {"data", "recipe"},
    "run": {"recipe", "training", "run_training", "planning"},
    "__main__": {"commands"},
    "auto_classes": {"encoders", "methods"},
    "commands": {*LIBRARY, "recipe", "training", "evaluation", "report", "publishing", "benchmarks", "comparison"}
    | {"run", "run_evaluation", "run_export", "planning"},
}
# Evaluators know what an encoder is, what processes share and how rows are read; recipes, which methods and architectures there are.
NARROW = {
    ("testing", "training"): {"step"},  # the contract is checked in the optimizer step that runs take
    ("integrations", "training"): {"step_calls"},  # a method's calls around a step, not our loop
    ("evaluation", "nn"): {"distributed", "collapse", "batch_norm", "running_statistics", "schedule", "random"},
    ("evaluation", "losses"): {"uniformity"},
    ("publishing", "evaluation"): {"counts", "data_sets", "protocol", "registry", "verdict"},
    ("recipe", "evaluation"): {"protocol", "registry"},
    ("comparison", "evaluation"): {"counts", "registry", "verdict"},
    ("evaluation", "data"): {
        "sources",
        "aligned_labels",
        "label_numbers",
        "columns",
        "captions",
        "decode",
        "duplicates",
        "evaluation_loader",
        "held_out",
        "row_reader",
        "stream_errors",
        "subsets",
    },
    ("recipe", "encoders"): {"config", "config_names", "own_architectures", "timm_names"},
    ("run", "training"): {"launchers"},
    ("recipe", "methods"): {"registry", "base", "contract"},
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


# What draws from a generator. A device's own gives other numbers on another device, and the global one other numbers in a resumed run
# or on another number of processes; initial weights (reset_parameters, nn.init) are drawn once, on the CPU, from the run's seed.
DRAWS = {
    "rand",
    "randn",
    "randint",
    "randperm",
    "rand_like",
    "randn_like",
    "randint_like",
    "normal",
    "bernoulli",
    "multinomial",
    "poisson",
}
DRAWS |= {
    "normal_",
    "uniform_",
    "bernoulli_",
    "exponential_",
    "random_",
    "cauchy_",
    "geometric_",
    "log_normal_",
    "gumbel_softmax",
}
GENERATORS = {"Generator", "manual_seed", "seed", "initial_seed", "default_generator", "set_rng_state", "fork_rng"}
INITIALIZATION = {
    "encoders/clip_initialization.py",
    "encoders/vit.py",
    "encoders/signal_encoder.py",
    "nn/heads.py",
    "nn/transformer.py",
}


def direct_draws(source: str) -> list[str]:
    """Where a module draws by itself: outside of initial weights, and not from a generator that is a function of its key."""
    tree = ast.parse(source)
    initial = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == "reset_parameters"
        for inner in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or node in initial:
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        owner = ast.unparse(node.func).rpartition(".")[0]
        keywords = {keyword.arg for keyword in node.keywords}
        keyed = "generator" in keywords and "device" not in keywords
        if name in GENERATORS or (name in DRAWS and not keyed and not owner.endswith("init")):
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
        if name == "shared_generator" and "device" in keywords:
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


def test_nothing_that_a_step_runs_draws_by_itself():
    """Methods, losses and their parts take their numbers from nn/random.py, so that they are equal on every device."""
    for path in MODULES:
        name = path.relative_to(PACKAGE).as_posix()
        if name.startswith(("methods/", "losses/", "nn/", "encoders/")) and name not in {
            "nn/random.py",
            *INITIALIZATION,
        }:
            assert not (found := direct_draws(path.read_text(encoding="utf-8"))), f"{name}: {found}"


@pytest.mark.parametrize(
    "source, draws",
    [
        ("torch.randn(3, generator=shared_generator(1, device=z.device), device=z.device)", 2),
        ("torch.randn(3, generator=generator, device=z.device)", 1),
        ("torch.Generator(z.device).manual_seed(0)", 2),
        ("mask = torch.rand_like(x) < 0.5", 1),
        ("noise.normal_()", 1),
        ("torch.randperm(len(rows), generator=generator).to(rows.device)", 0),
        ("nn.init.normal_(self.token, std=0.02)", 0),
        ("def reset_parameters(self):\n    self.rows.copy_(torch.randn(self.rows.shape))", 0),
    ],
)
def test_a_direct_draw_is_found(source, draws):
    assert len(direct_draws(source)) == draws


# Facts of architectures stand in encoders/, and others ask for them (encoders/families.py). These few name one, because their paper is about it.
NAMES_ARCHITECTURES = {
    "methods/data2vec/method.py": "masks inside the encoder and reads its blocks, as data2vec-vision is made for",
    "methods/dinov2/method.py": "masks inside the encoder, as DINOv2's are made for",
    "methods/igpt.py": "predicts the pixels of an ImageGPT",
    "methods/simmim.py": "draws the first weights of Swin and ViT as its authors do",
}
OF_ONE_ARCHITECTURE = {"timm_model", "depths", "num_register_tokens", "mask_ratio", "get_image_features"}


def architectures_named(source: str) -> list[str]:
    """Where a module compares a model_type with a name, or looks for what only some architectures have."""
    tree = ast.parse(source)
    texts = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign) and _is_text(node.value, set())
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            types = any("model_type" in ast.unparse(side) for side in sides)
            if types and any(_is_text(side, texts) for side in sides):
                found.append(f"line {node.lineno}: {ast.unparse(node)}")
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) in ("hasattr", "getattr")
            and getattr(node.args[1], "value", None) in OF_ONE_ARCHITECTURE
        ):
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


def _is_text(node: ast.expr, names: set[str]) -> bool:
    """Whether an expression is a text or a collection of texts, or the name of one."""
    if isinstance(node, ast.Tuple | ast.Set | ast.List):
        return bool(node.elts) and all(_is_text(item, names) for item in node.elts)
    if isinstance(node, ast.Name):
        return node.id in names
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value != "model_type"


def test_architectures_are_known_in_one_place():
    for path in MODULES:
        name = path.relative_to(PACKAGE).as_posix()
        if not name.startswith("encoders/"):
            found = architectures_named(path.read_text(encoding="utf-8"))
            assert bool(found) == (name in NAMES_ARCHITECTURES), f"{name}: {found or 'names none any more'}"


@pytest.mark.parametrize(
    "source, named",
    [
        ('if encoder.config.model_type == "vit": pass', 1),
        ('VITS = ("vit", "deit")\nx = backbone.model_type not in VITS', 1),
        ('pads = "siglip" in model.config.model_type', 1),
        ('hasattr(encoder, "timm_model")', 1),
        ('getattr(encoder.config, "num_register_tokens", 0)', 1),
        ("found == cls.config_class.model_type", 0),
        ('name == "model_type"', 0),
        ('str(config.get("model_type")).startswith("hfcontrast_")', 0),
    ],
)
def test_a_named_architecture_is_found(source, named):
    assert len(architectures_named(source)) == named


# Building blocks are used without a recipe too: their errors name their own arguments, and who knows the recipe puts the key before.
RECIPE_KEY = re.compile(r"\b(backbone|data|eval|method|optim|publish|track|train|views)\.[a-z]\w*")


def recipe_keys(source: str) -> list[str]:
    """Keys of recipes in what a module raises."""
    return [
        f"line {text.lineno}: {text.value}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Raise)
        for text in ast.walk(node)
        if isinstance(text, ast.Constant) and isinstance(text.value, str) and RECIPE_KEY.search(text.value)
    ]


def test_building_blocks_know_no_recipe_keys():
    for path in MODULES:
        if path.relative_to(PACKAGE).parts[0] in ("encoders", "losses", "nn"):
            assert not (found := recipe_keys(path.read_text(encoding="utf-8"))), f"{path}: {found}"
    assert recipe_keys('raise ValueError(f"{name}: leave backbone.lora out")') and not recipe_keys("raise error.method")


# What is still too long. To be emptied: nothing is added.
LONG_MODULES: set[str] = set()
LONG_FUNCTIONS: set[str] = set()


def test_modules_say_what_they_are_and_stay_short():
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        docstring = ast.get_docstring(ast.parse(text))
        assert docstring and text.startswith('"""'), f"{path.name} must begin with a docstring"
        short = len(text.splitlines()) <= 300
        assert short != (path.relative_to(PACKAGE).as_posix() in LONG_MODULES), (
            f"{path}: {len(text.splitlines())} lines"
        )


def test_functions_fit_on_a_screen():
    long = {
        f"{path.relative_to(PACKAGE).as_posix()}::{node.name}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno >= 60
    }
    assert long == LONG_FUNCTIONS


def test_names_say_something():
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers"}
    assert not [path.name for path in MODULES if path.stem in vague or path.parent.name in vague]


def test_the_command_line_starts_without_heavy_libraries():
    source = (
        "import sys; sys.argv = ['hfcontrast']\n"
        "import hfcontrast.commands.cli, hfcontrast.recipe, hfcontrast.methods.registry, hfcontrast.view\n"
        "from hfcontrast.recipe.backbone import check_backbone\n"
        "assert check_backbone('timm/resnet18') == []\n"
        "heavy = {'torch', 'transformers', 'datasets', 'accelerate', 'timm', 'numba', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_methods_do_not_make_keys_of_random_numbers_by_hand():
    """What a method draws is keyed by ``random_uniform`` or ``random_key``: nothing else asks for the run's seed."""
    for path in sorted((PACKAGE / "methods").rglob("*.py")):
        if path.name not in ("base.py", "progress.py"):
            assert "progress.seed" not in path.read_text(encoding="utf-8"), path


def private_names(tree: ast.AST) -> set[str]:
    """Names with one underscore that a module defines for itself: functions, attributes of self, module and class variables."""
    found = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    stores = [node for node in ast.walk(tree) if isinstance(getattr(node, "ctx", None), ast.Store)]
    found |= {node.attr for node in stores if isinstance(node, ast.Attribute)}
    found |= {node.id for node in stores if isinstance(node, ast.Name)}
    return {name for name in found if name.startswith("_") and not name.startswith("__")}


# Private names of torch and transformers that have no public form, and that rooms of ours assign too.
OF_LIBRARIES = {"_BatchNorm", "_modules", "_parameters", "_buffers", "_attn_implementation"}


def test_nothing_private_is_used_from_another_room():
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in MODULES}
    room = {path: path.relative_to(PACKAGE).parts[0] for path in MODULES}
    homes: dict[str, set[str]] = {}
    for path, tree in trees.items():
        for name in private_names(tree):
            homes.setdefault(name, set()).add(room[path])
    found = [
        f"{path.relative_to(PACKAGE)}:{node.lineno} {ast.unparse(node)}"
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr not in OF_LIBRARIES
        and room[path] not in homes.get(node.attr, {room[path]})
        and ast.unparse(node.value) not in ("self", "cls", "super()")
    ]
    assert found == []
