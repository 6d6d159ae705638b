"""A run is resumed where its recipe names the same files by other paths."""

import pytest

from hfcontrast.errors import CheckpointError
from hfcontrast.recipe import load_recipe
from hfcontrast.training.output_folder import check_same_run


def recipe_of(folder, **data):
    values = {
        "method": {"name": "simclr"},
        "backbone": {"model_type": "resnet", "depths": [1], "hidden_sizes": [8], "embedding_size": 8},
        "data": {"path": "imagefolder", **data},
        "train": {"steps": 2, "batch_size": 4, "output": str(folder)},
    }
    return load_recipe(values)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A folder with a checkpoint of a run on `images`, which is in the working folder beside `others`."""
    monkeypatch.chdir(tmp_path)
    for name in ("images", "others"):
        (tmp_path / name).mkdir()
    (tmp_path / "run/checkpoints/step_000000001").mkdir(parents=True)
    return tmp_path / "run"


def begin(run, **data):
    (run / "recipe.yaml").write_text(recipe_of("run", **data).to_yaml())


def test_the_same_folder_by_another_path(run, tmp_path):
    begin(run, data_dir="images")
    (tmp_path / "link").symlink_to("images")
    for path in (tmp_path / "images", "./images/", "others/../images", "link"):
        assert check_same_run(recipe_of("run", data_dir=str(path)), run) is not None
    for path in (tmp_path / "others", "gone"):
        with pytest.raises(CheckpointError, match=r"another recipe \(data\.data_dir: images -> "):
            check_same_run(recipe_of("run", data_dir=str(path)), run)


def test_the_same_patterns_by_other_paths(run, tmp_path):
    begin(run, data_files={"train": ["images/*.png", "others/*.png"]})
    absolute = [f"{tmp_path}/images/*.png", f"{tmp_path}/others/*.png"]
    assert check_same_run(recipe_of("run", data_files={"train": absolute}), run) is not None
    with pytest.raises(CheckpointError, match="another recipe"):
        check_same_run(recipe_of("run", data_files={"train": absolute[::-1]}), run)
