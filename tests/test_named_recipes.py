"""Recipes by name: shipped ones are found from anywhere, a file of the working folder goes before them, and the wheel has them."""

import fnmatch
import runpy
from pathlib import Path

import pytest
import setuptools

import hfcontrast.recipe.named as named
from hfcontrast.commands.cli import main
from hfcontrast.errors import RecipeError
from hfcontrast.recipe import load_recipe
from hfcontrast.recipe.missing import missing
from hfcontrast.recipe.named import recipe_file, shipped_folder, shipped_recipes

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "given, file",
    [
        ("photos/simclr", "photos/simclr"),
        ("photos/dino", "photos/dino_vit"),
        ("photos/simclr_gpu", "photos/simclr_gpu"),
        ("simclr", "simclr_resnet"),
        ("dino", "dino_vit"),
        ("mae", "mae"),
        ("recipes/mae.yaml", "mae"),
        ("recipes/photos/mae", "photos/mae"),
        ("imagenet/simclr", "imagenet/simclr_resnet50"),
    ],
)
def test_a_shipped_recipe_is_found_by_its_name_or_that_of_its_method(given, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert recipe_file(given) == ROOT / "recipes" / f"{file}.yaml"


@pytest.mark.parametrize("given", ["nope", "../recipes/mae", "/mae", "photos/dino_v", "comparison/common", "[s]imclr"])
def test_other_names_stay_what_they_are(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert recipe_file(given) == Path(given)
    with pytest.raises(RecipeError, match="no such recipe"):
        load_recipe(given)


def test_a_recipe_that_is_almost_named_is_proposed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        RecipeError, match="photos is a folder of shipped recipes; name one of them: photos/barlow_twins, "
    ):
        load_recipe("photos")
    with pytest.raises(RecipeError, match="did you mean the shipped recipe photos/simclr[?] `hfcontrast recipes`"):
        load_recipe("photo/simclr")


@pytest.mark.parametrize("file", ["simclr", "simclr.yaml"])
def test_a_file_of_the_working_folder_goes_before_a_shipped_recipe_which_is_said(file, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hfcontrast.console._said", set())
    Path(file).write_text((ROOT / "recipes/mae.yaml").read_text())
    assert load_recipe("simclr").method.name == "mae"
    assert f"simclr is read from the file {file}, and not the shipped recipe simclr_resnet" in caplog.text


def test_a_folder_of_the_name_is_no_recipe_and_in_a_clone_nothing_is_said(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    Path("mae").mkdir()
    assert load_recipe("mae").source.endswith("recipes/mae.yaml")
    monkeypatch.chdir(ROOT)
    assert recipe_file("recipes/mae") == Path("recipes/mae.yaml")
    assert caplog.text == ""


def test_installed_recipes_are_in_the_package(tmp_path, monkeypatch):
    package = tmp_path / "site/hfcontrast"
    (package / "recipe").mkdir(parents=True)
    (tmp_path / "site/recipes").mkdir()  # another package's
    monkeypatch.setattr(named, "__file__", str(package / "recipe/named.py"))
    assert shipped_folder() is None and shipped_recipes() == {} and recipe_file("mae") == Path("mae")
    (package / "recipes").mkdir()
    assert shipped_folder() == package / "recipes"


def test_the_wheel_has_every_recipe(monkeypatch):
    given = {}
    monkeypatch.setattr(setuptools, "setup", given.update)
    monkeypatch.chdir(ROOT)
    runpy.run_path("setup.py")
    assert {"hfcontrast", "hfcontrast.recipe", "hfcontrast.recipes"} <= set(given["packages"])
    assert given["package_dir"] == {f"hfcontrast.{name}": name for name in ("recipes", "model_cards")}
    folder = ROOT / given["package_dir"]["hfcontrast.recipes"]
    patterns = given["package_data"]["hfcontrast.recipes"]
    for file in folder.rglob("*.*"):
        path = file.relative_to(folder).as_posix()
        assert any(fnmatch.fnmatch(path, one) and path.count("/") == one.count("/") for one in patterns), path


def test_recipes_are_listed_with_what_they_train_and_what_it_costs(capsys):
    found = shipped_recipes()
    assert list(found)[:2] == ["photos", ""] and sum(map(len, found.values())) == len(
        [file for file in (ROOT / "recipes").rglob("*.yaml") if file.name != "common.yaml"]
    )
    for recipe in (*found["photos"], *found[""]):
        assert recipe.summary and recipe.cost and load_recipe(recipe.file, check=False), recipe
    by_name = {one.name: one for recipes in found.values() for one in recipes}
    assert by_name["dino_vit"].summary == "DINO with a very small ViT and multi-crop, on generated images"
    assert by_name["dino_vit"].cost == "about two minutes on two CPU cores"
    assert by_name["imagenet/mae"].cost == "64 GPUs, 800 epochs"
    assert main(["recipes", "photos"]) == 0
    shown = capsys.readouterr().out
    assert "photos/simclr" in shown and "imagenet/mae" not in shown
    assert main(["recipes", "show", "photos/simclr"]) == 0
    assert capsys.readouterr().out == (ROOT / "recipes/photos/simclr.yaml").read_text()


@pytest.mark.parametrize(
    "words, said",
    [
        (["show"], "recipes show needs the NAME of a recipe"),
        (["show", "photos/simcl"], "did you mean the shipped recipe photos/simclr?"),
        (["foto"], "there is no folder of recipes called 'foto'; there are photos, "),
        (["photos", "simclr"], "write `hfcontrast recipes show NAME`"),
    ],
)
def test_what_cannot_be_shown_is_said_in_a_sentence(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["recipes", *words]) == 2
    assert said in capsys.readouterr().err


def test_names_of_nothing_lead_to_the_list_and_a_folder_names_all_its_recipes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "`hfcontrast recipes` lists" in missing(Path("nope"))
    assert "photos/simclr_small_gpu" in missing(Path("photos"))
