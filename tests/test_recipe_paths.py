"""The paths of recipes: expanded where a recipe is read, and written back as they were."""

import pytest

from hfcontrast.errors import RecipeError
from hfcontrast.recipe import load_recipe

RECIPE = {
    "method": {"name": "simclr"},
    "backbone": {"pretrained": "~/encoder"},
    "data": {"path": "~/photos", "data_dir": "train", "data_files": {"train": ["~/photos/*.jpg"]}},
    "text": {"tokenizer": "~/tokenizer"},
    "train": {"steps": 1, "output": "~/runs/first"},
    "eval": {
        "data_dir": "~/test",
        "zero_shot": [{"task": "pets", "data_dir": "~/pets"}],
        "tasks": {"zero-shot": {"tasks": [{"data_dir": "~/flowers"}]}},
    },
}


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(**sections):
    return load_recipe(RECIPE | sections, check=False)


def test_home_is_expanded_in_every_path(home):
    recipe = read()
    assert (recipe.data.path, recipe.data.data_dir) == (f"{home}/photos", "train")
    assert recipe.data.data_files == {"train": [f"{home}/photos/*.jpg"]}
    assert recipe.train.output == f"{home}/runs/first" and recipe.text.tokenizer == f"{home}/tokenizer"
    assert recipe.backbone.pretrained == f"{home}/encoder" and recipe.eval.data_dir == f"{home}/test"
    assert recipe.eval.zero_shot[0]["data_dir"] == f"{home}/pets"
    assert recipe.eval.tasks["zero-shot"]["tasks"][0]["data_dir"] == f"{home}/flowers"
    towers = {"model_type": "vision-text-dual-encoder", "vision": {"pretrained": "~/a"}, "text": {"pretrained": "~/b"}}
    weights = read(backbone=towers).backbone.weights
    assert [weights[tower].name for tower in ("vision", "text")] == [f"{home}/a", f"{home}/b"]


def test_a_saved_recipe_has_the_paths_as_they_were_written(home):
    """So its hash is that of versions which did not expand them, and a run that they have begun is resumed."""
    recipe = read()
    saved = recipe.to_dict()
    for section in ("data", "backbone", "text"):
        assert RECIPE[section].items() <= saved[section].items()
    assert saved["train"]["output"] == "~/runs/first" and saved["eval"]["zero_shot"] == RECIPE["eval"]["zero_shot"]
    assert load_recipe(saved, check=False).data.path == f"{home}/photos"
    recipe.data.path = "builtin/digits"
    assert recipe.to_dict()["data"]["path"] == "builtin/digits" and recipe.data.data_dir == "train"


def test_no_output_folder_is_called_like_the_home_folder(home, monkeypatch):
    with pytest.raises(RecipeError, match=r"train.output: .*/~/run has a folder called ~ in it"):
        read(train={"steps": 1, "output": f"{home}/~/run"})
    assert not list(home.iterdir())


@pytest.mark.parametrize(
    "text, value",
    [
        ("/p/My photos #1", "/p/My photos #1"),
        ("#1", "#1"),
        ("[2024]/a", "[2024]/a"),
        ("[2024]", "[2024]"),
        ("2024", "2024"),
        ("007", "007"),
        ("true", "true"),
        ("a: b", "a: b"),
        ("100%", "100%"),
        ("%a", "%a"),
        ("@a", "@a"),
        ("*a", "*a"),
        ("!a b", "!a b"),
        ("it's", "it's"),
        ('"in quotes"', "in quotes"),
        ("'#1'", "#1"),
        ('"say" x', '"say" x'),
        ("{a}", "{a}"),
        ("写真 😀", "写真 😀"),
        ("", None),
        ("~", None),
        ("null", None),
    ],
)
def test_a_path_on_the_command_line_is_taken_as_it_is(text, value):
    for key, section in (("data.data_dir", "data"), ("train.output", "train"), ("text.tokenizer", "text")):
        recipe = load_recipe(RECIPE, [f"{key}={text}"], check=False)
        assert getattr(getattr(recipe, section), key.partition(".")[2]) == value, key
    other = load_recipe(RECIPE, ["track.run_name=a #1"], check=False)
    assert other.track.run_name == "a"  # no path: YAML


def test_lists_and_mappings_of_files_are_yaml(home):
    for text, value in (("[a.tar, b.tar]", ["a.tar", "b.tar"]), ("{train: '#1/*.tar'}", {"train": "#1/*.tar"})):
        assert load_recipe(RECIPE, [f"data.data_files={text}"], check=False).data.data_files == value
    (home / "[a].tar").touch()
    (home / "{a: b}").touch()
    for name in ("[a].tar", "{a: b}"):
        assert load_recipe(RECIPE, [f"data.data_files={name}"], check=False).data.data_files == name


def test_a_folder_with_a_hash_in_its_name_is_no_comment(home):
    for name in ("photos", "photos #1"):
        (home / name).mkdir()
    text = (
        "method: {name: simclr}\nbackbone: timm/resnet18\ntrain: {steps: 1}\ndata:\n  path: imagefolder\n  data_dir: "
    )
    for written, read in (
        ("photos #1", "photos #1"),
        ("photos #2", "photos"),
        ("'photos' #1", "photos"),
        ("~/photos #1", "photos #1"),
    ):
        (home / "r.yaml").write_text(f"{text}{written}\n  label_column: photos #1\n")
        recipe = load_recipe(home / "r.yaml", check=False)
        assert recipe.data.data_dir.removeprefix(f"{home}/") == read and recipe.data.label_column == "photos"
