"""Settings that recipes share, in one file: precedence, places of errors, and which files are runs."""

from pathlib import Path

import pytest

from hfcontrast.commands import cli
from hfcontrast.comparison.plan import plan
from hfcontrast.errors import RecipeError
from hfcontrast.recipe import load_recipe

COMPARISON = Path(__file__).parents[2] / "recipes" / "comparison"
SHARED = """\
backbone: {model_type: resnet, embedding_size: 8, hidden_sizes: [8, 16], depths: [1, 1], layer_type: basic}
data: {path: builtin/digits, workers: 0}
views:
  all: {size: 8, jitter: 0.5}
optim:
  lr: 0.001
  weight_decay: 0.1
train:
  epochs: 2
  batch_size: 16
"""


@pytest.fixture
def write(tmp_path):
    """Writes a file of settings."""

    def write(name: str, text: str) -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


@pytest.fixture
def shared(write):
    return write("common.yaml", SHARED)


def test_a_recipes_own_settings_go_before_the_shared_ones_and_the_command_line_before_both(write, shared, tmp_path):
    one = write("one.yaml", "method: {name: simclr}\noptim: {lr: 0.5}\nviews:\n  all: {size: 12}\n")
    (run,) = plan([one], ["optim.weight_decay=0.3"], tmp_path / "out")
    recipe = run.recipe
    assert (recipe.optim.lr, recipe.optim.weight_decay, recipe.train.batch_size) == (0.5, 0.3, 16)
    view = recipe.resolved_views()[0]
    assert view.size == 12 and view.jitter != 0.5  # a setting counts as a whole
    assert run.arguments[:3] == ["--common", str(shared), str(one)]
    assert load_recipe(one, run.overrides, common=shared).to_dict() == recipe.to_dict()
    again = write("again.yaml", recipe.to_yaml())  # what stands in the run's folder is whole
    assert load_recipe(again).fingerprint() == recipe.fingerprint()


def test_a_backbone_counts_as_a_whole_and_one_of_two_ways_to_say_a_thing_replaces_the_other(write, shared, tmp_path):
    text = "method: {name: simclr}\nbackbone: {model_type: vit, hidden_size: 8, num_attention_heads: 1}\ntrain: {steps: 7}\n"
    (run,) = plan([write("one.yaml", text)], [], tmp_path / "out")
    assert run.recipe.backbone == {"model_type": "vit", "hidden_size": 8, "num_attention_heads": 1}
    assert (run.recipe.train.steps, run.recipe.train.epochs) == (7, None)


def test_errors_are_where_they_are_written(write, shared, tmp_path):
    one = write("one.yaml", "method:\n  name: simclr\n  temprature: 0.1\n")
    shared.write_text(SHARED.replace("weight_decay", "weight_deky"))
    with pytest.raises(RecipeError) as error:
        plan([one], ["train.epochz=1"], tmp_path / "out")
    lines = str(error.value).splitlines()
    starts = [f"{one}:3: method.temprature", f"{shared}:7: optim.weight_deky", "command line: train.epochz"]
    assert [line.startswith(start) for line, start in zip(lines, starts, strict=True)] == [True] * 3, lines


def test_the_shared_file_is_no_run_but_a_recipe_of_its_name_is(write, shared, tmp_path):
    one = write("one.yaml", "method: {name: simclr}\n")
    assert [run.name for run in plan([shared, one], [], tmp_path / "out")] == ["one"]
    with pytest.raises(RecipeError, match=r"common\.yaml: no recipe to train"):
        plan([shared], [], tmp_path / "out")
    shared.write_text(f"method: {{name: byol}}\n{SHARED}")
    whole = write("two.yaml", f"method: {{name: simclr}}\n{SHARED}")
    assert [(run.name, run.common) for run in plan([shared, whole], [], tmp_path / "out")] == [
        ("common", None),
        ("two", None),
    ]


def test_another_file_can_be_the_shared_one(write, shared, tmp_path):
    one = write("one.yaml", "method: {name: simclr}\n")
    other = write("other.yaml", SHARED.replace("batch_size: 16", "batch_size: 32"))
    runs = plan([other, one], [], tmp_path / "out", common=other)
    assert [(run.name, run.recipe.train.batch_size) for run in runs] == [("one", 32)]
    with pytest.raises(RecipeError, match=r"one\.yaml:1: method: a file that recipes share has none"):
        plan([write("two.yaml", "method: {name: byol}\n")], [], tmp_path / "out", common=one)
    for typed, told in (
        ("nope.yaml", "no such file, expected one with settings"),
        ("othr.yaml", r"did you mean .*other\.yaml"),
    ):
        with pytest.raises(RecipeError, match=told):
            plan([one], [], tmp_path / "out", common=tmp_path / typed)


def test_a_recipe_alone_says_where_the_rest_of_it_is(write, shared, capsys):
    one = write("one.yaml", "method: {name: simclr}\n")
    assert cli.main(["train", str(one)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {one}: add --common {shared}: ")
    assert cli.main(["train", str(shared)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "not a recipe: " in line and line.endswith(f"such as {one} --common {shared}")
    with pytest.raises(RecipeError) as error:
        load_recipe(one, ["backbone=timm/resnet18", "data={path: builtin/digits}", "optim.lr=fast"])
    assert "--common" not in str(error.value)


def test_the_recipes_of_the_comparison_are_what_they_were(tmp_path):
    """Their hashes, by which an interrupted comparison is resumed, are those of before they shared a file."""
    files = [COMPARISON / f"{name}.yaml" for name in ("simclr", "dino", "igpt", "common")]
    runs = {run.name: run.hash for run in plan(files, [], tmp_path)}
    assert runs == {"simclr": "83900808fcea0f55", "dino": "08c64281778a23bc", "igpt": "71f335086c7b187c"}
