"""`hfcontrast train --images FOLDER`: what is found, said and written, and what is refused in one sentence."""

import argparse
import json
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hfcontrast.data.sources import load_rows
from hfcontrast.errors import CheckpointError, DataError, HFContrastError, RecipeError
from hfcontrast.planning.arguments import given_of, minutes
from hfcontrast.planning.channels import of_one_number
from hfcontrast.planning.choice import FEW_EPOCHS
from hfcontrast.planning.images import look, source_of
from hfcontrast.planning.plan import plan_run, run_name
from hfcontrast.recipe import load_recipe
from hfcontrast.run import add_run_arguments, main, recipe_of
from hfcontrast.training import timed
from hfcontrast.training.schedules import schedule_phases


def images_in(folder, count=20, gray=False, size=(60, 48), mode="RGB"):
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(len(str(folder)))
    for number in range(count):
        pixels = random.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
        pixels = np.repeat(pixels[..., :1], 3, axis=2) if gray else pixels
        Image.fromarray(pixels).convert(mode).save(folder / f"{number:03}.png")
    return folder


def look_at(folder):
    return look({**source_of(str(folder)), "split": "train"}, str(folder))


@pytest.fixture
def birds(tmp_path):
    for name in ("crow", "gull"):
        images_in(tmp_path / "birds" / name, 12)
    return tmp_path / "birds"


@pytest.mark.parametrize(
    "text, expected", [("30m", 30), ("2h", 120), ("1h30m", 90), ("1.5h", 90), ("90s", 1.5), ("20", 20), ("1 day", 1440)]
)
def test_times(text, expected):
    assert minutes(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "m", "0m", "-5m", "3x", "1h30", "5m later", "1000d"])
def test_what_is_no_time(text):
    with pytest.raises(argparse.ArgumentTypeError, match="30m, 2h or 1h30m"):
        minutes(text)


def test_a_recipe_is_told_from_overrides():
    assert given_of("train.seed=1", ["optim.lr=2"], "photos") == (None, ["train.seed=1", "optim.lr=2"])
    assert given_of("photos/mae", ["optim.lr=2"], "photos") == ("photos/mae", ["optim.lr=2"])
    with pytest.raises(HFContrastError, match="--images FOLDER"):
        given_of("train.seed=1", [], None)


@pytest.mark.parametrize(
    "path, name",
    [
        ("/my/birds", "birds"),
        ("/my/birds/", "birds"),
        ("/my/birds/train", "birds"),
        ("/my/birds/images/Train", "birds"),
        ("/my/birds.zip", "birds"),
        ("/my/birds.tar.gz", "birds"),
        ("/images", "images"),
    ],
)
def test_the_output_folder_is_called_as_the_images(path, name):
    assert run_name(path) == name


def test_five_lines_say_what_was_found_and_chosen(birds, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    recipe = plan_run("birds", None, ["train.device=cpu", "train.seed=3"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["images", "machine", "recipe", "length", "output"]
    assert "24 in 2 classes (crow, gull)" in lines[0] and "color, 60 x 48 px" in lines[0] and "landscape" in lines[0]
    assert "photos/simclr, the one for a CPU" in lines[2] and "photographs" in lines[2]
    assert "passes over the images by a guess, until the first steps are measured" in lines[3]
    assert timed.FEW_EPOCHS == FEW_EPOCHS
    assert (recipe.data.path, recipe.data.data_dir) == ("imagefolder", str(birds))
    assert recipe.train.output == "outputs/birds" and recipe.train.batch_size == 16 and recipe.train.seed == 3
    assert not Path("outputs").exists()


def test_small_images_have_small_views_and_an_encoder_for_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    images_in(tmp_path / "digits", size=(28, 28))
    recipe = plan_run("digits", None, ["train.device=cpu"])
    assert recipe.views["view"]["size"] == 32 and len(recipe.backbone.fields["hidden_sizes"]) == 3
    assert (
        "photos/simclr_small, the one for a CPU and images of at most 40 px: simclr at 32 px" in capsys.readouterr().out
    )
    named = plan_run("digits", "photos/simclr", ["train.device=cpu"])
    assert named.views["view"]["size"] == 64
    own = plan_run("digits", None, ["train.device=cpu", "views.all.size=48"])
    assert own.views["view"]["size"] == 48


def test_images_of_many_channels_are_seen_and_said(tmp_path, monkeypatch, capsys):
    tifffile = pytest.importorskip("tifffile")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fields").mkdir()
    random = np.random.default_rng(0)
    for number in range(20):
        pixels = random.integers(200, 4000, (50, 60, 6), dtype=np.uint16)
        options = {"photometric": "minisblack", "planarconfig": "contig"}
        tifffile.imwrite(tmp_path / f"fields/{number}.tif", pixels, **options)
    recipe = plan_run("fields", None, ["train.device=cpu"])
    assert recipe.data.channels == 6 and recipe.data.window == pytest.approx((200, 3999), abs=9)
    assert all(view.saturation == view.hue == view.grayscale == 0 for view in recipe.resolved_views())
    told = capsys.readouterr().out.splitlines()[0]
    assert "6 channels (data.channels)" in told and "60 x 50 px" in told and "gray" not in told


def seen_channels(*numbers):
    return [{"channels": number} for number in numbers]


def test_of_several_numbers_of_channels_one_has_to_be_chosen():
    for seen, said in (
        (
            seen_channels(8, 5) * 20,
            "of 40 .* 20 have 8 channels, 20 have 5 channels: .*data.channels=8 data.max_unreadable=0.6",
        ),
        (
            seen_channels(None, None, None, 5),
            "of 4 .* 3 are gray or color, 1 has 5 channels: .*data.channels=5 data.max_unreadable=0.9",
        ),
    ):
        with pytest.raises(DataError, match=f"--images fields: {said}"):
            of_one_number(seen, "fields", 0.01)
    few, most = of_one_number(seen_channels(*[None] * 200, 4), "fields", 0.01)
    assert (
        most is None
        and few[:-1] == seen_channels(*[None] * 200)
        and few[-1] == "has other channels than gray and color"
    )
    many, most = of_one_number(seen_channels(5, 8, 5), "fields", 0.5)  # as the user allows it
    assert most == 5 and many[1] == "has other channels than 5"


def test_images_that_do_not_have_the_channels_that_are_asked_for_are_refused_before_the_plan(
    birds, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    says = "--images birds: none of 24 images .* the first one has 3 channels, and data.channels is 4"
    with pytest.raises(DataError, match=says):
        plan_run("birds", None, ["train.device=cpu", "data.channels=4"])
    assert not capsys.readouterr().out


def test_overrides_go_before_what_was_chosen(birds, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = [
        "train.device=cpu",
        "train.steps=7",
        "train.batch_size=8",
        "optim.lr=0.1",
        "train.output=mine",
        "views.all.hue=0.2",
    ]
    recipe = plan_run("birds", "photos/barlow_twins", own, kind="gray")
    assert recipe.method.name == "barlow_twins" and recipe.train.output == "mine"
    assert (recipe.train.steps, recipe.train.epochs, recipe.train.batch_size, recipe.optim.lr) == (7, None, 8, 0.1)
    assert recipe.views["view_1"]["hue"] == 0.2 and recipe.views["view_1"]["saturation"] == 0


def test_released_weights_are_trained_further(birds, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    recipe = plan_run("birds", None, ["train.device=cpu"], weights="facebook/dinov2-small")
    assert recipe.backbone.pretrained == "facebook/dinov2-small" and recipe.backbone.freeze_batch_norm
    assert recipe.early_stopping.every == "auto" and recipe.views["view"]["size"] == 112
    assert 0 < recipe.optim.freeze_encoder_steps < recipe.optim.warmup_steps <= 200
    told = capsys.readouterr().out.splitlines()
    assert "photos/continue" in told[2] and "30 minutes, about 1,500 passes" in told[3]
    slower = plan_run(
        "birds", None, ["train.device=cpu", "train.output=c"], minutes=0.5, weights="facebook/dinov2-small"
    )
    assert slower.train.minutes == 0.5
    other = plan_run(
        "birds", "photos/dino_vit", ["train.device=cpu", "train.output=b"], weights="timm/resnet50.tv_in1k"
    )
    assert (other.method.name, other.backbone.pretrained) == ("dino", "timm/resnet50.tv_in1k")
    mine = ["train.device=cpu", "views.all.size=64", "optim.warmup_steps=7", "train.epochs=3"]
    own = plan_run("birds", None, mine, weights="facebook/dinov2-small")
    for steps, chosen in ((1, (0, 0)), (2, (1, 0)), (3, (2, 1)), (100, (10, 5))):
        short = plan_run(
            "birds", None, ["train.device=cpu", f"train.steps={steps}"], weights="facebook/dinov2-small"
        ).optim
        assert (short.warmup_steps, short.freeze_encoder_steps) == chosen
        assert not [phase for phase in schedule_phases(short, 1) if phase.missed(steps)]
    assert (own.views["view"]["size"], own.optim.warmup_steps, own.train.epochs) == (64, 7, 3)
    with pytest.raises(RecipeError, match="--from a/b says what to start from, and so does backbone"):
        plan_run("birds", None, ["backbone=timm/resnet18"], weights="a/b")


def test_a_run_from_other_weights_is_not_resumed(birds, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = plan_run("birds", None, ["train.device=cpu"], weights="facebook/dinov2-small")
    (tmp_path / "outputs/birds/checkpoints/step_000000001").mkdir(parents=True)
    recipe.save(tmp_path / "outputs/birds/recipe.yaml")
    assert plan_run("birds", None, [], weights="facebook/dinov2-small").backbone == recipe.backbone
    with pytest.raises(CheckpointError, match="started from facebook/dinov2-small, not from facebook/dinov2-base"):
        plan_run("birds", None, [], weights="facebook/dinov2-base")


def test_gray_images_are_found(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    images_in(tmp_path / "a", gray=True)  # as RGB
    images_in(tmp_path / "b", mode="L")
    images_in(tmp_path / "c")
    for name, gray in (("a", True), ("b", True), ("c", False)):
        facts = look_at(name)
        assert facts.all_gray == gray and facts.classes is None and facts.test == "a fifth of them", name
    views = plan_run("a", None, ["train.device=cpu"]).views["view"]
    assert (views["hue"], views["saturation"], views["grayscale"]) == (0, 0, 0)
    told = capsys.readouterr().out
    assert "without labels, gray" in told
    assert "evaluated without labels, by neighbors that two views share, on a fifth of them" in told


def test_what_files_say_of_images_is_seen(tmp_path):
    folder = images_in(tmp_path / "deep", 15)
    for number in range(5):
        Image.fromarray(np.full((30, 20), 3000, np.uint16)).save(folder / f"deep{number}.png")
    lying = Image.new("RGB", (60, 40), "red")
    exif = lying.getexif()
    exif[0x0112] = 6
    for number in range(5):
        lying.save(folder / f"lying{number}.jpg", exif=exif)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0broken")
    (folder / "metadata.csv").write_text("file_name,text\n" + "".join(f"{n:03}.png,one\n" for n in range(15)))
    facts = look_at(folder)
    assert facts.count == 26 and facts.captions == "text"
    assert facts.deep == facts.turned == pytest.approx(0.2) and facts.portrait == pytest.approx(0.4)
    assert facts.unreadable == pytest.approx(1 / 26)


def test_deep_grays_keep_their_depth_by_a_window_that_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scans").mkdir()
    for number in range(18):
        values = np.arange(500, 4100, 2, dtype=np.uint16).reshape(40, 45)
        Image.fromarray(values).save(tmp_path / f"scans/{number:02}.png")
    recipe = plan_run("scans", None, ["train.device=cpu"])
    assert recipe.data.window == (503, 4095) or recipe.data.window == pytest.approx((503, 4095), abs=3)
    assert "gray, more than 8 bits a channel, of which the values 50" in capsys.readouterr().out
    rows = load_rows(**recipe.data.source())
    assert len(np.unique(rows.reader.pixels(rows.dataset[0]["image"]))) > 250
    assert recipe.evaluation_source()["window"] == recipe.data.window
    assert "window" not in load_recipe("photos/simclr", ["data.data_dir=scans"]).evaluation_source()
    assert plan_run("scans", None, ["train.device=cpu", "data.window=[0, 65535]"]).data.window == (0, 65535)
    with pytest.raises(RecipeError, match="the darkest value is to be below"):
        plan_run("scans", None, ["data.window=[5, 5]"])


def test_archives_and_held_out_folders_are_taken(birds, tmp_path):
    with zipfile.ZipFile(tmp_path / "birds.zip", "w") as archive:
        for file in birds.rglob("*.png"):
            archive.write(file, file.relative_to(birds))
    facts = look_at(tmp_path / "birds.zip")
    assert facts.count == 24 and facts.classes == ("crow", "gull")
    images_in(tmp_path / "set/train", 20)
    images_in(tmp_path / "set/test", 5)
    assert look_at(tmp_path / "set").test == "the split test"
    assert look_at(tmp_path / "set/train").test == "the folder test beside them"


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda place: "nowhere/birds", "there is no such folder; of this path there is "),
        (lambda place: images_in(place / "bird", 3) and "brd", "did you mean bird?"),
        (lambda place: (place / "empty").mkdir() or "empty", "empty holds no images"),
        (lambda place: images_in(place / "one", 1), "holds one image, "),
        (lambda place: images_in(place / "few", 3), "holds 3 images, "),
        (lambda place: images_in(place / "a", 1) / "000.png", "is a single image: name the folder"),
        (
            lambda place: (place / "list.txt").write_text("x") and "list.txt",
            "neither an archive (zip, tar) nor a table",
        ),
        (lambda place: (place / "t").mkdir() or (place / "t/x.txt").write_text("x") and "t", "1 file of .* not used"),
        (lambda place: "USER/NAME", "hfcontrast train photos/simclr data.path=USER/NAME"),
    ],
)
def test_what_holds_no_images_is_refused_in_one_sentence(make, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = str(make(tmp_path))
    assert main(["--images", given, "train.device=cpu"]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and error[0].startswith("error: ")
    assert re.search(said.replace("(", "[(]").replace(")", "[)]").replace("?", "[?]"), error[0]), error


def test_settings_that_say_the_same_twice_are_refused(birds):
    for own in (["train.epochs=3"], ["train.steps=3"]):
        with pytest.raises(RecipeError, match="both say how long"):
            plan_run(str(birds), None, own, minutes=3)
    with pytest.raises(RecipeError, match="both|so does data.data_dir"):
        plan_run(str(birds), None, ["data.data_dir=x"])
    assert main(["photos/simclr", "--kind", "gray"]) == 2


def test_a_run_on_textures_of_an_earlier_version_is_resumed_without_rotations(birds, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = plan_run("birds", None, [], kind="textures")
    assert recipe.views["view"]["rotate"] == 0.75
    values = recipe.to_dict()
    del values["views"]["view"]["rotate"]
    folder = tmp_path / "outputs/birds/checkpoints"
    (folder / "step_000001").mkdir(parents=True)
    (folder / "recipe.yaml").write_text(json.dumps(values))
    assert plan_run("birds", None, [], kind="textures").views["view"]["rotate"] == 0


def test_a_run_is_made_and_resumed_with_what_was_chosen_for_it(birds, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    own = [
        "train.device=cpu",
        "train.steps=2",
        "views.view.size=16",
        "eval.baselines=false",
        "backbone.hidden_sizes=[8,8,8,8]",
    ]
    assert main(["--images", "birds", *own]) == 0
    first = capsys.readouterr().out
    assert "images: " in first and "Written: outputs/birds" in first
    written = Path("outputs/birds/checkpoints/recipe.yaml").read_text()
    images_in(birds / "crow", 13)  # the plan would be another one: a run is resumed by the one that it began with
    (birds / "crow/012.png").unlink()
    monkeypatch.setattr("hfcontrast.planning.choice.SMALLEST_BATCH", 8)
    recipe = plan_run("birds", None, own)
    assert "is resumed with the recipe that was chosen for it" in capsys.readouterr().out
    assert recipe.to_yaml() == written
    images_in(tmp_path / "other/birds", 20)
    with pytest.raises(CheckpointError, match="holds a run on other images"):
        plan_run("other/birds", None, own)
    with pytest.raises(CheckpointError, match="holds a run of simclr by another recipe than photos/mae"):
        plan_run("birds", "photos/mae", own)
    with pytest.raises(CheckpointError, match="holds a run with other views than those of --kind gray"):
        plan_run("birds", None, own, kind="gray")
    shutil.rmtree("outputs/birds/checkpoints")  # nothing is left to resume
    assert plan_run("birds", None, own).train.batch_size == 8 != recipe.train.batch_size


def test_a_folder_that_may_hold_anything_is_told_from_one_of_tables(tmp_path):
    import datasets

    (tmp_path / "hub/data").mkdir(parents=True)
    images = [Image.new("RGB", (8, 8), (number, 0, 0)) for number in range(20)]
    rows = datasets.Dataset.from_dict({"image": images}, datasets.Features({"image": datasets.Image()}))
    rows.to_parquet(tmp_path / "hub/data/train-00000.parquet")
    assert source_of(str(tmp_path / "hub")) == {"path": str(tmp_path / "hub")}
    assert look_at(tmp_path / "hub").count == 20
    images_in(tmp_path / "hub/images", 3)
    assert source_of(str(tmp_path / "hub"))["path"] == "imagefolder"
    with pytest.raises(DataError):
        source_of(str(tmp_path / "no"))


def test_released_weights_without_a_folder_of_images(tmp_path):
    parser = argparse.ArgumentParser()
    add_run_arguments(parser)
    where = [f"data.data_dir={tmp_path}", "backbone.lora={r: 4}"]
    recipe = recipe_of(parser.parse_args(["photos/continue", *where, "--from", "timm/vit_small_patch16_224.dino"]))
    assert recipe.backbone.pretrained == "timm/vit_small_patch16_224.dino" and recipe.backbone.lora.r == 4
    with pytest.raises(RecipeError, match="so does backbone.pretrained"):
        recipe_of(parser.parse_args(["photos/continue", "backbone.pretrained=a/b", "--from", "c/d"]))
