"""Old keys of recipes: they keep working, with one warning, wherever a recipe comes from; the fingerprint stays."""

import warnings

import pytest
import yaml

from hfcontrast.errors import RecipeError
from hfcontrast.recipe import load_recipe, renamed
from hfcontrast.recipe.renamed import RENAMED

TEXT = """
method: {name: simclr}
backbone: timm/resnet18
data: {path: builtin/shapes}
train: {steps: 1}
"""


@pytest.fixture
def file(tmp_path):
    def write(more=""):
        path = tmp_path / "recipe.yaml"
        path.write_text(TEXT + more)
        return path

    return write


def load(recipe, *overrides):
    return load_recipe(recipe, overrides, check=False)


def test_an_old_key_is_the_new_one_with_one_warning(file):
    path = file("eval:\n  every: 3\n  max_bank: 7\n")
    with pytest.warns(
        FutureWarning, match=r"recipe.yaml:8: eval.max_bank is called eval.max_train now; .* until"
    ) as caught:
        recipe = load(path)
    assert len(caught) == 1 and caught[0].filename == __file__
    assert recipe.eval.max_train == 7 and "max_bank" not in recipe.to_yaml()
    with pytest.warns(FutureWarning, match="eval.max_bank is called eval.max_train now"):
        assert recipe.eval.max_bank == 7
    with pytest.raises(AttributeError):
        recipe.eval.no_such_key  # noqa: B018
    with pytest.warns(FutureWarning, match="command line: eval.max_queries is called eval.max_test"):
        assert load(file(), "eval.max_queries=5").eval.max_test == 5
    with pytest.warns(FutureWarning, match="command line: eval.max_queries"):
        assert load(file(), "eval={max_queries: 5}").eval.max_test == 5
    with pytest.warns(
        FutureWarning, match="command line: eval.max_bank"
    ) as caught:  # goes before the file's, however called
        assert load(file("eval: {max_train: 4}\n"), "eval.max_bank=6").eval.max_train == 6
    assert len(caught) == 1
    with pytest.warns(FutureWarning, match="recipe.yaml:6: eval.max_bank"):
        assert load(path.parent / file("eval: {max_bank: 4}\n").name, "eval.max_train=8").eval.max_train == 8


@pytest.mark.parametrize(
    "text, overrides",
    [
        ("eval: {max_bank: 1, max_train: 2}\n", []),
        ("", ["eval.max_bank=1", "eval.max_train=2"]),
        ("", ["eval.max_train=2", "eval.max_bank=1"]),
        ("", ["eval={max_bank: 1, max_train: 2}"]),
    ],
)
def test_both_names_are_an_error(file, text, overrides):
    with pytest.raises(
        RecipeError, match="eval.max_bank: it is called eval.max_train now, and both are given: keep eval.max_train"
    ):
        load(file(text), *overrides)


def test_a_key_given_twice_is_reported_with_the_other_mistakes(file):
    text = "eval: {max_bank: 1, max_train: 2, knn_k: none}\ntrack: {too: [x]}\n"
    with pytest.raises(RecipeError) as caught:
        load_recipe(file(text), ["optim.lr=fast", "method.temperature=x"])
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        "eval.max_bank",
        "eval.knn_k",
        "track.too",
        "optim.lr",
        "method.temperature",
    ]
    assert all(line.split(": ")[0].endswith(("recipe.yaml:6", "recipe.yaml:7", "command line")) for line in lines)


def test_a_wrong_value_is_found_where_it_was_written_by_the_name_it_has_there(file):
    with pytest.warns(FutureWarning), pytest.raises(RecipeError, match=r"recipe.yaml:6: eval.max_bank: expected"):
        load(file("eval: {max_bank: x}\n"))
    with pytest.warns(FutureWarning), pytest.raises(RecipeError, match="command line: eval.max_bank: expected"):
        load(file("eval: {max_train: 4}\n"), "eval.max_bank=x")
    with pytest.warns(FutureWarning), pytest.raises(RecipeError, match="command line: eval.max_train: expected"):
        load(file("eval: {max_bank: 4}\n"), "eval.max_train=x")


def test_commands_print_a_line_of_each_old_name(file, capsys):
    from hfcontrast.run import main

    path = file("eval: {max_bank: 7}\n")
    assert main([str(path), "train.steps=none"]) == 2
    warning, error = capsys.readouterr().err.splitlines()
    assert warning == (
        f"warning: {path}:6: eval.max_bank is called eval.max_train now; the old name works until hfcontrast 0.3"
    )
    assert error.startswith("error: command line: train.steps")


def test_a_resumed_run_says_nothing_of_old_keys_in_its_own_folder(file, tmp_path):
    from hfcontrast.errors import CheckpointError
    from hfcontrast.training.output_folder import check_same_run

    (tmp_path / "checkpoints" / "step_1").mkdir(parents=True)
    file("eval: {max_bank: 7}\n")
    values = yaml.safe_load(TEXT) | {"eval": {"max_train": 7}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_same_run(load_recipe(values), tmp_path)
        with pytest.raises(CheckpointError, match="optim.lr: .* -> 7"):
            check_same_run(load_recipe(values, ["optim.lr=7"]), tmp_path)


def test_a_renamed_key_changes_no_fingerprint(file, monkeypatch):
    monkeypatch.setattr(renamed, "RENAMED", {})
    before = load(file()).fingerprint()
    monkeypatch.setattr(renamed, "RENAMED", {"data.former": "data.split", "optim.older": "train.batch_size"})
    after = load(file()).fingerprint()
    assert after.settings == before.settings and after.hash != before.hash  # which is made of the names that were first
    assert renamed.with_old_names(after.settings)["data"]["former"] == "train"
    assert renamed.with_old_names(after.settings)["optim"]["older"] == after.settings["train"]["batch_size"]
    with pytest.warns(FutureWarning, match="optim.older is called train.batch_size now"):  # into another section
        assert load(file(), "optim.older=8").train.batch_size == 8


def test_every_new_key_exists():
    from hfcontrast.recipe.sections import SECTIONS

    for old, new in RENAMED.items():
        section, name = new.split(".")[:2]
        assert (
            name in SECTIONS[section].model_fields and old.split(".")[1] not in SECTIONS[old.split(".")[0]].model_fields
        )
