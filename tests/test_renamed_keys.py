"""Old keys of recipes: they keep working, with one warning, wherever a recipe comes from; the fingerprint stays."""

import pytest

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


def test_a_wrong_value_is_found_where_it_was_written(file):
    with pytest.warns(FutureWarning), pytest.raises(RecipeError, match=r"recipe.yaml:6: eval.max_train: expected"):
        load(file("eval: {max_bank: x}\n"))


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
