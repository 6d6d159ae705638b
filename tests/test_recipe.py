"""Recipes: what is accepted, how every mistake is reported, overrides, the resolved copy, and the schema."""

import re
import subprocess
import sys
from typing import Literal

import pytest
from huggingface_hub.dataclasses import strict

from hfcontrast.errors import RecipeError
from hfcontrast.methods import registry
from hfcontrast.methods.base import Method, MethodConfig
from hfcontrast.recipe import Recipe, differences, json_schema, load_recipe
from hfcontrast.view import View

RECIPE = """\
method: {name: recipe-demo, temperature: 0.2}
backbone: timm/resnet18
data:
  path: builtin/shapes
optim:
  lr: 1e-3
train:
  epochs: 5
"""


@strict
class RecipeDemoConfig(MethodConfig):
    """Configuration of RecipeDemo.

    Args:
        temperature: Divides the similarities,
            above 0.
        head: Which head.
    """

    model_type = "hfcontrast_recipe_demo"

    temperature: float | int = 0.1
    head: Literal["mlp", "linear"] = "mlp"
    hidden_dim: int | None = None
    weights: tuple[float, float] = (0.5, 0.5)

    def validate_temperature(self):
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}, expected a number above 0")


class RecipeDemo(Method):
    """A method to write recipes for."""

    config_class = RecipeDemoConfig
    views = (
        View(name="global", count=2, size=64, scale=(0.4, 1.0)),
        View(name="local", key="local_pixel_values", count=4, size=32, scale=(0.05, 0.4)),
    )

    def embed(self, pixel_values):
        return {}

    def objective(self, embeddings):
        return None


@pytest.fixture(autouse=True)
def demo(monkeypatch):
    monkeypatch.setattr(registry, "_in_process", dict(registry._in_process))
    return registry.register(RecipeDemo, "recipe-demo")


@pytest.fixture
def recipe_file(tmp_path):
    def write(text=RECIPE, name="demo.yaml"):
        file = tmp_path / name
        file.write_text(text, encoding="utf-8")
        return file

    return write


def problems(recipe, *overrides, **kwargs) -> list[str]:
    """The lines of the error that a recipe gives."""
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe, overrides, **kwargs)
    return str(caught.value).splitlines()


def test_a_recipe_is_resolved_with_every_default(recipe_file):
    recipe = load_recipe(recipe_file())
    assert recipe.optim.lr == 1e-3 and recipe.optim.betas == (0.9, 0.999)
    assert recipe.train.batch_size == 256 and recipe.train.epochs == 5.0 and recipe.train.output == "outputs/demo"
    assert recipe.method.name == "recipe-demo"
    assert recipe.method.options == {"temperature": 0.2, "head": "mlp", "hidden_dim": None, "weights": (0.5, 0.5)}
    assert recipe.views["global"]["size"] == 64 and recipe.views["local"]["count"] == 4
    assert recipe.source.endswith("demo.yaml")


def test_the_saved_recipe_reads_back_equal(recipe_file, tmp_path):
    recipe = load_recipe(recipe_file(), ["track.run_name='1e-4'", "publish.license='no'", "track.project='0o17'"])
    recipe.save(tmp_path / "saved.yaml")
    again = load_recipe(tmp_path / "saved.yaml")
    assert recipe.difference(again) == []
    assert again.track.run_name == "1e-4" and again.publish.license == "no" and again.track.project == "0o17"
    assert again.fingerprint() == recipe.fingerprint()
    assert recipe.check().difference(recipe) == []


def test_all_problems_are_reported_at_once_with_their_lines(recipe_file):
    text = RECIPE.replace("lr: 1e-3", "lrr: 1e-3\n  betas: [0.9, 1.5]").replace("0.2}", "'x', hed: mlp}")
    file = recipe_file(text.replace("resnet18", "resnet18x") + "  batch_size: '64'\nevall: {every: 3}\n")
    assert problems(file, "train.log_every=0") == [
        f"{file}:1: method.temperature: expected a number, got 'x' (text)",
        f"{file}:1: method.hed: unknown key; did you mean 'head'?",
        f"{file}:2: backbone: timm has no architecture 'resnet18x'; did you mean 'resnet18'?",
        f"{file}:6: optim.lrr: unknown key; did you mean 'lr'?",
        f"{file}:7: optim.betas: expected a list of 2 numbers of at least 0 and below 1, got [0.9, 1.5]",
        f"{file}:10: train.batch_size: expected a whole number of at least 1, got '64' (text)",
        f"{file}:11: evall: unknown section; did you mean 'eval'?",
        "command line: train.log_every: expected a whole number of at least 1, got 0",
    ]


@pytest.mark.parametrize(
    "override, text",
    [
        ("train.batch_size=true", "train.batch_size: expected a whole number of at least 1, got true"),
        ("train.batch_size=64.0", "train.batch_size: expected a whole number of at least 1, got 64.0"),
        ("train.seed=4294967296", "train.seed: expected a whole number of at least 0 and below 4294967296, got 429"),
        ("train.compile=1", "train.compile: expected true or false, got 1"),
        ("train.compile=yes", "train.compile: expected true or false, got 'yes' (text)"),
        ("optim.lr=true", "optim.lr: expected a number above 0, got true"),
        ("optim.lr=.inf", "optim.lr: expected a number above 0, got Infinity"),
        ("optim.lr=", "optim.lr: expected a number above 0, got null"),
        (
            "optim.name=adam",
            "optim.name: expected one of 'adamw', 'lars', 'sgd' or timm/NAME of timm's optimizers, got 'adam'; did you mean "
            "'adamw'?",
        ),
        ("data.workers=-1", "data.workers: expected a whole number of at least 0 or 'auto', got -1"),
        ("data.cache=maybe", "data.cache: expected true or false or 'auto', got 'maybe'"),
        ("data.max_unreadable=2", "data.max_unreadable: expected a number from 0 to 1, got 2"),
        ("data.mean=[0.5, 0.5]", "data.mean: expected a list of 3 numbers from 0 to 1 or null, got [0.5, 0.5]"),
        ("track.to=tensorboard", "track.to: expected a list of 'tensorboard' or 'wandb' or 'trackio'"),
        ("train.lr=1", "train.lr: unknown key; did you mean optim.lr?"),
        ("lr=1", "lr: unknown section; did you mean optim.lr?"),
        ("method.temperature=-1", "method.temperature: temperature is -1, expected a number above 0"),
        ("method.head=mpl", "method.head: expected one of 'mlp', 'linear', got 'mpl'; did you mean 'mlp'?"),
        ("method.weights=[1]", "method.weights: expected a list of 2 numbers, got [1]"),
        ("method.hidden_dim=1.5", "method.hidden_dim: expected a whole number or null, got 1.5"),
        ("method.backbone_config={}", "method.backbone_config: unknown key"),
        ("method=simclr", "method: expected a mapping such as {name: simclr"),
        ("method.name=recipe-dmeo", "method.name: no method 'recipe-dmeo' is installed; did you mean 'recipe-demo'?"),
        ("method={temperature: 1}", "method.name: missing"),
        ("data={}", "data.path: missing"),
        ("data=", "data: missing"),
        ("views.globl.size=3", "views.globl: unknown view; did you mean 'global'?"),
        ("views.all.sise=3", "views.all.sise: unknown key; did you mean 'size'?"),
        ("views.all.key=x", "views.all.key: unknown key"),
        ("views.all.size=1.5", "views.all.size: expected a whole number, got 1.5"),
        ("views.all.size=1", "views.all.size: size is 1, expected 2 pixels or more"),
        ("views.local.scale=[0.5, 0.1]", "views.local.scale: scale is (0.5, 0.1), expected a range"),
        ("views.global=96", "views.global: expected a mapping such as {size: 96}, got 96"),
    ],
)
def test_a_wrong_value_says_what_was_expected(recipe_file, override, text):
    lines = problems(recipe_file(), override)
    assert len(lines) == 1
    assert lines[0].startswith(f"command line: {text}"), lines[0]


@pytest.mark.parametrize(
    "overrides, text",
    [
        (["train={}"], "train.epochs: the length of the training is missing"),
        (["train.output=''"], "train.output: it is empty: name a folder"),
        (["train={epochs: 3, steps: 4}"], "train.steps: epochs and steps are both set"),
        (["train.batch_size=100", "train.accumulation=3"], "batch_size 100 cannot be cut into 3 equal parts"),
        (["train.precision=fp16", "train.device=cpu"], "train.precision: fp16 needs a GPU"),
        (["data.mean=[0.5, 0.5, 0.5]"], "data.std: mean and std go together"),
        (["data.streaming=true", "data.cache=true"], "data.cache: a stream cannot be kept in memory"),
        (
            ["optim={warmup_epochs: 1, warmup_steps: 9}"],
            "optim.warmup_steps: warmup_steps and warmup_epochs are both set",
        ),
        (["optim.clip_each=true"], "optim.clip_each: clip_each needs the largest norm"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(recipe_file, overrides, text):
    (line,) = problems(recipe_file(), *overrides)
    assert text in line


@pytest.mark.parametrize(
    "backbone, text",
    [
        ("facebook/dinov2-small", "to start from its weights write {pretrained: facebook/dinov2-small}"),
        ("{model_type: vitt}", "backbone.model_type: transformers has no model_type 'vitt'; did you mean 'vit'?"),
        ("{model_type: vit, hiden_size: 3}", "backbone.hiden_size: unknown key; did you mean 'hidden_size'?"),
        ("{model_type: vit, hidden_size: a}", "backbone.hidden_size: expected a whole number, got 'a' (text)"),
        ("{model_type: small_resnet, depth: 19}", "backbone.depth: expected one of 18, 34, 50, got 19"),
        ("{model_type: resnet, layer_type: x}", "backbone.layer_type: expected one of 'basic', 'bottleneck', got 'x'"),
        ("{hidden_size: 3}", "backbone: a mapping needs model_type or pretrained"),
        ("{pretraned: x}", "backbone.pretraned: unknown key; did you mean 'pretrained'?"),
        ("vit_small_patch16_224", "did you mean 'timm/vit_small_patch16_224'?"),
        ("tim/vit_small_patch16_224", "did you mean 'timm/vit_small_patch16_224'?"),
        ("{pretrained: x/y, revison: main}", "backbone.revison: unknown key; did you mean 'revision'?"),
        ("{pretrained: ./nowhere}", "backbone.pretrained: there is no folder './nowhere'"),
        ("{pretrained: 3}", "backbone.pretrained: expected text, got 3"),
        ("{pretrained: ''}", "backbone.pretrained: it is empty"),
        ("{model_type: timm_wrapper, architecture: resnet18x}", "backbone.architecture: timm has no architecture"),
        ("{model_type: timm_wrapper}", "backbone.architecture: missing; give an architecture of timm, e.g. resnet50"),
        ("timm/", "backbone: it names no architecture of timm: write one, such as timm/resnet50"),
        ("3", "backbone: expected a mapping such as"),
    ],
)
def test_a_backbone_that_does_not_exist_is_refused(recipe_file, backbone, text):
    (line,) = problems(recipe_file(), f"backbone={backbone}")
    assert text in line


@pytest.mark.parametrize(
    "backbone",
    [
        "timm/vit_tiny_patch16_224",
        "{model_type: vit, hidden_size: 96, num_attention_heads: 3, image_size: [32, 32]}",
        "{model_type: timm_wrapper, architecture: vit_tiny_patch16_224, model_args: {dynamic_img_size: true}}",
        "{pretrained: facebook/dinov2-small, revision: main}",
    ],
)
def test_every_way_to_name_a_backbone_is_accepted(recipe_file, backbone):
    recipe = load_recipe(recipe_file(), [f"backbone={backbone}"])
    assert load_recipe(recipe.to_dict()).backbone == recipe.backbone


def test_overrides_replace_and_edit_mappings(recipe_file):
    recipe = load_recipe(
        recipe_file(),
        ["backbone={model_type: vit, hidden_size: 96, num_attention_heads: 3}", "backbone.num_attention_heads=4"],
    )
    assert recipe.backbone == {"model_type": "vit", "hidden_size": 96, "num_attention_heads": 4}


def test_an_override_of_steps_takes_back_the_epochs_of_the_file(recipe_file):
    recipe = load_recipe(recipe_file(), ["train.steps=7"])
    assert (recipe.train.steps, recipe.train.epochs) == (7, None)
    recipe = load_recipe(recipe_file(RECIPE.replace("epochs: 5", "steps: 5")), ["train.epochs=7"])
    assert (recipe.train.steps, recipe.train.epochs) == (None, 7.0)


@pytest.mark.parametrize(
    "override, text",
    [
        ("optim.lr", "expected key.path=value, e.g. optim.lr=0.1"),
        ("--optim.lr=3", "expected key.path=value"),
        ("optim..lr=3", "expected key.path=value"),
        ("backbone.hidden_size=96", "backbone is 'timm/resnet18' and not a mapping with keys"),
        ("optim.betas=[1", "not valid YAML"),
    ],
)
def test_an_override_of_the_wrong_form_is_explained(recipe_file, override, text):
    (line,) = problems(recipe_file(), override)
    assert line.startswith("command line: ") and text in line and override.split("=")[0] in line


@pytest.mark.parametrize(
    "text, value",
    [
        ("1e-4", 1e-4),
        ("5e3", 5000.0),
        ("1.", 1.0),
        ("010", 10),
        ("0x10", 16),
        ("true", True),
        ("on", "on"),
        ("no", "no"),
        ("1_000", "1_000"),
        ("12:30:45", "12:30:45"),
        ("2024-01-01", "2024-01-01"),
        ("~", None),
        ("", None),
        ("'7'", "7"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(recipe_file, text, value):
    backbone = load_recipe(recipe_file(), [f"backbone={{model_type: x, a: {text}}}"], check=False).backbone
    found = backbone.fields["a"]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    "text, message",
    [
        (RECIPE + "  epochs: 6\n", r":9: train\.epochs: given twice, first at .*:8; keep one"),
        (RECIPE + "\tsteps: 6\n", r":9: not valid YAML: a tab; YAML is indented with spaces"),
        (RECIPE.replace("{name", "[name"), r":1: not valid YAML: "),
        (RECIPE + "eval: !!python/object/apply:os.getcwd []\n", r":9: eval: the tag .* is not allowed in a recipe"),
        (RECIPE + "eval: !!omap {every: 3}\n", r":9: eval: the tag .* is not allowed in a recipe"),
        (RECIPE + "track: {to: !mine [wandb]}\n", r":9: track\.to: the tag '!mine' is not allowed in a recipe"),
        (RECIPE + "track: {to: !!str [wandb]}\n", r":9: track\.to: the tag .* is not allowed in a recipe"),
        (RECIPE + "track: {!mine to: 3}\n", r":9: keys are texts, got to with the tag '!mine'"),
        ("!!set {a, b}", r":1: recipe: the tag .* is not allowed in a recipe"),
        (RECIPE + 'track: {project: "a\\0b"}\n', r":9: track\.project: .* a character that no text can hold"),
        (RECIPE + 'track: {project: "\\ud800"}\n', r":9: track\.project: .* a character that no text can hold"),
        (
            RECIPE + f"eval: {{every: {'9' * 5000}}}\n",
            r":9: eval\.every: .{0,60} is not of type int \(whole numbers are",
        ),
        (RECIPE + "track: {project: !!python/name:os.getcwd x}\n", r":9: track\.project: the tag .* is not allowed"),
        (RECIPE + "track: {7: x}\n", r":9: keys are texts, got 7"),
        (RECIPE + "track: &a {to: [*a]}\n", r"an alias that contains itself"),
        ("", r"a recipe is a mapping with the sections method, backbone and data, but it is empty"),
        ("- a\n", r"but it is a list"),
    ],
)
def test_broken_yaml_is_named_with_its_line(recipe_file, text, message):
    (line,) = problems(recipe_file(text), check=False)
    assert re.search(message, line), line


MAPPING = {"method": {"name": "recipe-demo"}, "backbone": "timm/resnet18", "train": {"epochs": 1}}
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 12)
)
CHAIN = "a0: &a0 {x: 1}\n" + "".join(f"a{level}: &a{level} {{x: *a{level - 1}}}\n" for level in range(1, 3000))


@pytest.mark.parametrize(
    "text, message",
    [
        (BOMB, r":\d+: a\d: more than 100,000 values once its aliases are filled in"),
        (CHAIN, r":\d+: a\d+: 100 levels and more once its aliases are filled in"),
        ("method: " + "[" * 3000 + "]" * 3000, r":1: not valid YAML: nested more than 100 levels deep"),
        ("method: " + "{a: " * 3000 + "1" + "}" * 3000, r":1: not valid YAML: nested more than 100 levels deep"),
        ("\n".join(" " * level + "a:" for level in range(3000)), r":\d+: not valid YAML: nested more than 100"),
    ],
    ids=["alias bomb", "chain of aliases", "lists", "mappings", "indented"],
)
def test_a_recipe_has_bounds(recipe_file, text, message):
    (line,) = problems(recipe_file(text), check=False)
    assert re.search(message, line) and len(line) < 400, line


@pytest.mark.parametrize(
    "override", ["a." * 3000 + "b=1", f"optim.lr={'[' * 3000}", f"optim={'{a: ' * 3000}1{'}' * 3000}"]
)
def test_an_override_has_bounds(recipe_file, override):
    with pytest.raises(RecipeError, match=r"3001 levels, more than 100|nested more than 100 levels") as caught:
        load_recipe(recipe_file(RECIPE), [override], check=False)
    assert len(str(caught.value)) < 500


def test_a_mapping_that_yaml_could_not_hold_is_refused():
    deep: dict = {}
    for _ in range(100_000):
        deep = {"a": deep}
    for values in ({"method": deep}, {"method": {"name": object()}}):
        with pytest.raises(RecipeError, match="settings are mappings, lists, texts"):
            load_recipe(values, check=False)


def test_a_recipe_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"method: \xff\xfe")
    assert "not a text file in UTF-8" in problems(tmp_path / "x.yaml")[0]
    assert "cannot be read: File name too long" in problems(tmp_path / ("x" * 5000))[0]


def test_a_missing_recipe_names_the_nearest_one(recipe_file, tmp_path):
    recipe_file(name="simclr_shapes.yaml")
    recipe_file(name="dino.yaml")
    assert problems(tmp_path / "simclr_shape.yaml")[0].endswith(f"did you mean {tmp_path / 'simclr_shapes.yaml'}?")
    assert problems(tmp_path / "simclr_shape")[0].endswith("simclr_shapes.yaml?")
    assert problems(tmp_path / "zzz.yaml")[0].endswith("dino.yaml, simclr_shapes.yaml")
    assert problems(tmp_path)[0].endswith("name one of its recipes: dino.yaml, simclr_shapes.yaml")
    assert "there is no folder" in problems(tmp_path / "nowhere" / "x.yaml")[0]


def test_a_missing_recipe_is_looked_for_among_those_that_begin_so_and_in_recipes(recipe_file, tmp_path, monkeypatch):
    (tmp_path / "recipes").mkdir()
    for name in ("simclr_resnet", "simclr_v2", "simcls", "dino_vit", "dinov2"):
        recipe_file(name=f"recipes/{name}.yaml")
    (tmp_path / ".hidden.yaml").touch()
    monkeypatch.chdir(tmp_path)
    nearest = {
        "recipes/simclr.yaml": "simclr_resnet",
        "simclr_resne.yaml": "simclr_resnet",
        "recipes/dino.yaml": "dino_vit",
        "simcl_v2": "simclr_v2",
        "recipes/simcls.yam": "simcls",
    }
    for typed, name in nearest.items():
        assert problems(typed)[0].endswith(f"did you mean recipes/{name}.yaml?"), typed
    assert "recipes in recipes: dino_vit.yaml, dinov2.yaml, " in problems("nope.yaml")[0]


def test_evaluators_and_built_in_data_are_checked_beside_other_problems(recipe_file):
    tasks = "eval.tasks={kn: {}, knn: {kk: 2, k: x}, linear: {strengths: 1}, features: {a: 1}, retrieval: false}"
    lines = problems(recipe_file(), "eval.every=0", tasks, "data.path=builtin/shape", "eval.path=builtin/digit")
    expected = [
        "eval.every: expected a whole number of at least 1 or null, got 0",
        "eval.tasks.kn: no evaluator 'kn' is installed; did you mean 'knn'?",
        "eval.tasks.knn.kk: unknown key; did you mean 'k'?",
        "eval.tasks.knn.k: expected a whole number of at least 1, got 'x' (text)",
        "eval.tasks.linear.strengths: expected a list of ",
        "eval.tasks.features.a: unknown key; there is none to set",
        "data.path: there is no builtin/shape; did you mean 'builtin/shapes'?",
        "eval.path: there is no builtin/digit; did you mean 'builtin/digits'?",
    ]
    assert len(lines) == len(expected), lines
    for text in expected:
        assert any(line.startswith(f"command line: {text}") for line in lines), (text, lines)


def test_views_are_changed_for_all_first_then_by_name(recipe_file):
    recipe = load_recipe(recipe_file(), ["views={all: {size: 48, blur: 1}, local: {size: 24, scale: [0.1, 0.3]}}"])
    first, second = recipe.resolved_views()
    assert (first.size, first.blur, first.scale) == (48, 1.0, (0.4, 1.0))
    assert (second.size, second.blur, second.scale, second.key) == (24, 1.0, (0.1, 0.3), "local_pixel_values")
    assert recipe.resolved_views(RecipeDemo) == (first, second)


def test_views_under_one_key_must_keep_one_size(recipe_file, demo, monkeypatch):
    monkeypatch.setattr(demo, "views", (View(name="a", size=64), View(name="b", size=64)))
    (line,) = problems(recipe_file(), "views.a.size=32")
    assert "views: views under one batch key" in line


def test_the_fingerprint_tells_what_a_resumed_run_may_change(recipe_file):
    recipe = load_recipe(recipe_file())
    free = ["data.workers=3", "data.cache=false", "train.output=x", "train.log_every=3", "train.checkpoint_every=7"]
    free += ["train.keep_checkpoints=9", "train.resume=never", "train.device=cpu", "eval.knn_k=3", "track.to=[wandb]"]
    assert load_recipe(recipe_file(), free).fingerprint() == recipe.fingerprint()
    bound = ["method.temperature=1", "backbone=timm/resnet34", "data.split=test", "views.all.size=48", "optim.lr=1"]
    hashes = {load_recipe(recipe_file(), [one]).fingerprint().hash for one in [*bound, "train.seed=1"]}
    assert len(hashes | {recipe.fingerprint().hash}) == 7


def test_differences_name_the_setting_and_both_values(recipe_file):
    old, new = load_recipe(recipe_file()), load_recipe(recipe_file(), ["optim.lr=0.2", "views.local.size=16"])
    assert old.difference(new) == ["views.local.size: 32 -> 16", "optim.lr: 0.001 -> 0.2"]
    assert differences({"a": {"b": "x"}}, {"a": {"c": 1}}) == ["a.b: x -> null", "a.c: null -> 1"]


def test_the_evaluation_rows_are_those_of_the_training_set_unless_named(recipe_file):
    recipe = load_recipe(recipe_file(), ["data.label_column=kind", "data.name=small", "eval.name=large"])
    source = recipe.evaluation_source()
    assert (source["path"], source["label_column"], source["name"]) == ("builtin/shapes", "kind", "large")
    recipe = load_recipe(recipe_file(), ["data.label_column=kind", "eval.path=builtin/digits"])
    source = recipe.evaluation_source()
    assert (source["path"], source["label_column"]) == ("builtin/digits", None)
    assert recipe.data.source()["split"] == "train"


def test_a_mapping_works_like_a_file_and_is_not_changed():
    values = {"method": {"name": "recipe-demo"}, "backbone": "timm/resnet18", "data": {"path": "x"}, "optim": None}
    recipe = load_recipe(values, ["train.steps=3"])
    assert isinstance(recipe, Recipe) and recipe.train.output is None and "train" not in values
    assert problems(values)[0].startswith("recipe: train.epochs: ")


def accepts(schema: dict, value, root: dict) -> bool:
    """A JSON-schema validator of the few keywords that the recipe's schema uses."""
    if "$ref" in schema:
        return accepts(root["$defs"][schema["$ref"].rsplit("/", 1)[1]], value, root)
    if "anyOf" in schema and not any(accepts(part, value, root) for part in schema["anyOf"]):
        return False
    if "oneOf" in schema and sum(accepts(part, value, root) for part in schema["oneOf"]) != 1:
        return False
    if "const" in schema and value != schema["const"] or "enum" in schema and value not in schema["enum"]:
        return False
    if "pattern" in schema and isinstance(value, str) and not re.search(schema["pattern"], value):
        return False
    types = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool, "number": (int, float)}
    wanted = [schema["type"]] if isinstance(schema.get("type"), str) else schema.get("type", [])
    fits = [
        value is None
        if kind == "null"
        else isinstance(value, types[kind]) and (kind == "boolean") == (type(value) is bool)
        for kind in wanted
    ]
    if wanted and not any(fits):
        return False
    if isinstance(value, dict) and "properties" in schema:
        extra = schema.get("additionalProperties", True)
        if not set(schema.get("required", [])) <= set(value) or (
            extra is False and set(value) - set(schema["properties"])
        ):
            return False
        return all(accepts(schema["properties"].get(key, {}), item, root) for key, item in value.items())
    if isinstance(value, dict) and isinstance(schema.get("additionalProperties"), dict):
        return all(accepts(schema["additionalProperties"], item, root) for item in value.values())
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        return all(accepts(schema["items"], item, root) for item in value)
    return not isinstance(value, (int, float)) or value >= schema.get("minimum", value)


def test_the_schema_accepts_what_the_loader_accepts_and_refuses_mistakes(recipe_file, demo):
    schema = json_schema({"recipe-demo": demo})
    good = load_recipe(recipe_file()).to_dict()
    assert accepts(schema, good, schema)
    wrong = [
        {"method": {"name": "simclr"}},
        {"method": {"name": "recipe-demo", "temprature": 1}},
        {"method": {"name": "recipe-demo", "head": "mpl"}},
        {"optim": {"lrr": 1}},
        {"train": {"batch_size": "64"}},
        {"views": {"all": {"sise": 3}}},
        {"backbone": "facebook/dinov2-small"},
        {"evall": {}},
    ]
    assert [change for change in wrong if accepts(schema, {**good, **change}, schema)] == []


def test_the_schema_carries_meanings_and_defaults(demo):
    schema = json_schema({"recipe-demo": demo})
    temperature = schema["properties"]["method"]["oneOf"][0]["properties"]["temperature"]
    assert temperature["description"] == "Divides the similarities, above 0." and temperature["default"] == 0.1
    assert all(field.get("description") for field in schema["$defs"]["OptimSection"]["properties"].values())


def test_reading_a_recipe_imports_no_deep_learning(recipe_file):
    code = (
        "import importlib.util, sys, types\n"
        "package = types.ModuleType('hfcontrast'); package.__path__ = sys.argv[2:]\n"
        "sys.modules['hfcontrast'] = package\n"  # the package itself registers the methods
        "from hfcontrast.recipe import load_recipe\n"
        "load_recipe(sys.argv[1], ['train.steps=3'], check=False)\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'timm', 'numpy'} & set(sys.modules)))"
    )
    import hfcontrast

    command = [sys.executable, "-c", code, str(recipe_file()), *hfcontrast.__path__]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_an_open_data_set_stands_for_its_name(recipe_file, tmp_path):
    """It reaches the rows that are trained on and evaluated; the saved recipe says what it was, and that it is wanted again."""
    from datasets import Dataset, DatasetDict

    from hfcontrast.data import available_splits, load_rows
    from hfcontrast.errors import DataError

    train, test = (Dataset.from_dict({"image": [b"png"] * n, "label": list(range(n))}) for n in (8, 3))
    splits = DatasetDict(train=train, test=test)
    named = {**MAPPING, "data": {"path": train.to_iterable_dataset()}, "eval": {"path": splits}}
    for recipe in (
        load_recipe({**MAPPING, "data": {"path": splits, "split": "train[:5]"}}),
        load_recipe(recipe_file(RECIPE), ["data.split=train[:5]"], dataset=splits).check(),
    ):
        assert (
            recipe.data.path == "memory/DatasetDict(image, label)" and load_rows(**recipe.data.source()).num_rows == 5
        )
        evaluated = recipe.evaluation_source()
        assert available_splits(path=evaluated["path"]) == ["train", "test"]
        assert load_rows(**evaluated, split="test").num_rows == 3
    recipe.save(tmp_path / "saved.yaml")
    again = load_recipe(tmp_path / "saved.yaml")
    assert again.to_dict() == recipe.to_dict() and again.fingerprint() == recipe.fingerprint()
    with pytest.raises(DataError, match=r"open in Python, memory/DatasetDict\(image, label\): hand it over again"):
        load_rows(**again.data.source())
    recipe = load_recipe(named)
    assert (
        load_rows(**recipe.data.source()).streaming
        and load_rows(**recipe.evaluation_source(), split="test").num_rows == 3
    )
    assert load_recipe(named, ["data.path=builtin/digits"]).data.path == "builtin/digits"
    assert load_recipe(recipe_file(RECIPE), dataset=train).data.path == "memory/Dataset(image, label)"


@pytest.mark.parametrize("value", [[1, 2], "builtin/digits", {}, {"train": [1]}])
def test_what_is_no_data_set_is_refused_at_once(value):
    expected = (
        f"dataset is a {type(value).__name__}, expected Dataset, DatasetDict, IterableDataset or IterableDatasetDict"
    )
    with pytest.raises(RecipeError, match=expected):
        load_recipe(MAPPING, dataset=value)


def test_settings_that_came_later_leave_the_hashes_of_older_recipes():
    """By which finished runs are known again; that of this recipe was written down before the settings were there."""
    recipe = {"method": {"name": "simclr"}, "backbone": {"model_type": "resnet"}, "data": {"path": "builtin/digits"}}
    recipe["train"] = {"epochs": 1}
    assert load_recipe(recipe).fingerprint().hash == "4d1ea1b675f3e19c"
    assert load_recipe(recipe, ["data.max_unreadable=0.2"]).fingerprint().hash == "4d1ea1b675f3e19c"
    same = ["views.view.rotate=0", "views.view.noise_std=[0.05, 0.15]", "views.view.unaugmented=0"]
    assert load_recipe(recipe, same).fingerprint().hash == "4d1ea1b675f3e19c"
    views = ("views.view.rotate=0.1", "views.view.cutout_size=0.4", "views.view.unaugmented=1")
    others = ("optim.layer_decay=0.9", "optim.no_decay=[positions]", "data.max_pixels=1000", "data.workers=0")
    for change in (*views, *others):
        free = change == "data.workers=0"
        assert (load_recipe(recipe, [change]).fingerprint().hash == "4d1ea1b675f3e19c") is free


def test_weights_beside_an_architecture_say_what_to_give(recipe_file):
    file = recipe_file(RECIPE.replace("backbone: timm/resnet18", "backbone: {model_type: resnet, depths: [1]}"))
    [problem] = problems(file, "backbone.pretrained=some/model")
    assert "backbone.model_type: weights bring their architecture" in problem
    assert "'backbone={pretrained: some/model}'" in problem


def test_a_folder_instead_of_a_recipe(tmp_path):
    with pytest.raises(
        RecipeError, match=f"no recipes in it; a folder of images is trained on with --images {tmp_path}"
    ):
        load_recipe(tmp_path)
