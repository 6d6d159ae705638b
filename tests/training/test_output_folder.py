"""Where nothing can be written, every command reports it before it loads anything."""

from pathlib import Path

import pytest

from hfcontrast.commands import cli
from hfcontrast.errors import DataError, RecipeError
from hfcontrast.recipe import load_recipe
from hfcontrast.run_training import run_training
from hfcontrast.training import build as setup
from hfcontrast.training.output_folder import keep_former_size

UNWRITABLE = Path("/proc/self/task")  # not even root can write here
needs_proc = pytest.mark.skipif(not UNWRITABLE.is_dir(), reason="a system without /proc")


@pytest.fixture
def nothing_is_loaded(monkeypatch):
    """Fails where rows are opened."""
    monkeypatch.setattr(setup, "load_rows", lambda **_: pytest.fail("the data was opened"))


def folder_in_the_way(output: Path, name: str) -> Path:
    (output / name).mkdir(parents=True)
    return output / name


def file_in_the_way(output: Path, name: str) -> Path:
    output.mkdir()
    (output / name).write_text("mine")
    return output / name


def unwritable_inside(output: Path, name: str) -> Path:
    output.mkdir()
    (output / name).symlink_to(UNWRITABLE)
    return output / name


@pytest.mark.parametrize(
    "prepare, name",
    [
        (folder_in_the_way, "recipe.yaml"),
        (folder_in_the_way, "metrics.jsonl"),
        (folder_in_the_way, "model.safetensors"),
        (file_in_the_way, "checkpoints"),
        (file_in_the_way, "method"),
        pytest.param(unwritable_inside, "checkpoints", marks=needs_proc),
        pytest.param(unwritable_inside, "", marks=needs_proc),
    ],
)
def test_obstacles_of_a_run_are_reported_first(prepare, name, recipe_file, tmp_path, nothing_is_loaded):
    output = tmp_path / "run"
    place = prepare(output, name) if name else output
    if not name:
        output.symlink_to(UNWRITABLE)
    with pytest.raises(RecipeError, match="train.output: nothing can be written to ") as error:
        setup.build_training(load_recipe(recipe_file("simclr"), [f"train.output={output}"]))
    assert f" {place} (" in str(error.value)


@pytest.mark.parametrize("exists", [False, True])
def test_a_refused_run_leaves_no_empty_folder(recipe_file, tmp_path, exists):
    output, options = tmp_path / "runs/first", ["data.path=/no/such/folder"]
    if exists:
        output.mkdir(parents=True)
    with pytest.raises(DataError):
        run_training(load_recipe(recipe_file("simclr"), [f"train.output={output}", *options]))
    assert output.exists() == (tmp_path / "runs").exists() == exists


@needs_proc
@pytest.mark.parametrize(
    "arguments, words",
    [
        (["evaluate", "no/model", "builtin/shapes", "--json", f"{UNWRITABLE}/x.json"], "--json: "),
        (["evaluate", "no/model", "builtin/shapes", "--json", "/nowhere/x.json"], "--json: "),
        (
            ["evaluate", "no/model", "builtin/shapes", "--json", "/tmp"],
            "--json: /tmp cannot be written: Is a directory",
        ),
        (["embed", "no/model", "builtin/shapes", "--output", str(UNWRITABLE)], "--output: nothing can be written"),
        (["embed", "no/model", "builtin/shapes", "--output", f"{UNWRITABLE}/a/b"], "--output: nothing can be written"),
        (["embed", "no/model", "builtin/shapes", "--output", "/etc/hostname"], "--output: nothing can be written"),
        (["compare", "{recipe}", "--output", str(UNWRITABLE)], "--output: nothing can be written"),
    ],
)
def test_commands_try_their_output_first(arguments, words, recipe_file, capsys):
    arguments = [str(recipe_file("simclr")) if item == "{recipe}" else item for item in arguments]
    assert cli.main(arguments) == 2
    assert capsys.readouterr().err.startswith(f"error: {words}")


def test_a_run_that_was_begun_without_a_size_for_the_cache_goes_on_so(recipe_file, tmp_path):
    output = tmp_path / "run"
    recipe = load_recipe(recipe_file("simclr"), [f"train.output={output}", "data.cache_size=auto"])
    plain = load_recipe(recipe_file("simclr"), [f"train.output={output}"])
    assert recipe.fingerprint().hash != plain.fingerprint().hash
    assert "cache_size" not in plain.fingerprint().settings["data"]
    assert keep_former_size(recipe, output) is None and recipe.data.cache_size == "auto"  # a new run
    output.mkdir()
    plain.save(output / "recipe.yaml")
    assert "data.cache_size: null" in keep_former_size(recipe, output)
    assert recipe.fingerprint().hash == plain.fingerprint().hash
