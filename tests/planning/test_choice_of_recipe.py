"""What is chosen for images, machine and time: sensible from a hundred images to a million, and from a minute to a day."""

import math

import pytest

from hfcontrast.planning.choice import MOST_EPOCHS, batch_size, choose, recipe_for
from hfcontrast.planning.images import ImageFacts
from hfcontrast.planning.kinds import KINDS
from hfcontrast.planning.machine import Machine
from hfcontrast.recipe import load_recipe

CPU, GPU = Machine("cpu", cores=2), Machine("cuda", "GPU", 80 * 2**30, 8)
MACHINES = {
    "photos/simclr": CPU,
    "photos/simclr_gpu": GPU,
    "photos/simclr_multi_gpu": Machine("cuda", "GPU", 80 * 2**30, 8, 4),
}


@pytest.fixture(scope="module")
def recipes():
    return {name: load_recipe(name) for name in (*MACHINES, "photos/dino_vit", "photos/barlow_twins")}


def test_the_recipe_is_that_of_the_machine():
    assert {recipe_for(machine): machine for machine in MACHINES.values()} == MACHINES
    assert recipe_for(Machine("mps")) == recipe_for(Machine("cpu", processes=2)) == "photos/simclr"


@pytest.mark.parametrize(
    "width, height, cpu, gpu",
    [(28, 28, 32, 32), (32, 200, 32, 32), (40, 40, 32, 32), (64, 64, 64, 64), (96, 120, 64, 64), (500, 375, 64, 128)],
)
def test_views_are_no_larger_than_the_images_need(width, height, cpu, gpu):
    facts = ImageFacts(3000, width=width, height=height)
    for machine, expected in ((CPU, cpu), (GPU, gpu)):
        recipe = load_recipe(recipe_for(machine, facts))
        settings = choose(facts, machine, recipe, picked=True).settings
        assert settings.get("views.view.size", recipe.views["view"]["size"]) == expected
    several = MACHINES["photos/simclr_multi_gpu"]
    assert choose(facts, several, load_recipe("photos/simclr_multi_gpu")).settings.get("views.view.size") is None


@pytest.mark.parametrize("count", [16, 77, 300, 3068, 100_000, 2_000_000])
@pytest.mark.parametrize("minutes", [1.0, 30.0, 1440.0])
@pytest.mark.parametrize("name", MACHINES)
def test_settings_are_sensible_for_any_count_and_time(recipes, count, minutes, name):
    recipe, machine = recipes[name], MACHINES[name]
    chosen = choose(ImageFacts(count), machine, recipe, minutes, None)
    batch = chosen.settings.get("train.batch_size", recipe.train.batch_size)
    assert batch % machine.processes == 0 and batch <= min(recipe.train.batch_size, count)
    assert batch <= max(count / 4, 16)
    if recipe.optim.scale_lr == "none":
        lr = chosen.settings.get("optim.lr", recipe.optim.lr)
        assert lr == pytest.approx(recipe.optim.lr * math.sqrt(batch / recipe.train.batch_size), rel=0.05)
    assert chosen.epochs <= MOST_EPOCHS and chosen.minutes <= minutes
    assert chosen.capped == (chosen.minutes < minutes)
    fixed = choose(ImageFacts(count), machine, recipe, minutes, None, {"steps": 60})
    assert "train.minutes" not in fixed.settings and not fixed.capped
    assert fixed.settings["train.checkpoint_every"] >= count // batch


@pytest.mark.parametrize(
    "count, memory, expected",
    [(3068, None, 128), (300, None, 64), (100, None, 16), (20, None, 16), (3068, 4 * 2**30, 32)],
)
def test_the_batch_leaves_some_steps_in_an_epoch_and_fits_in_memory(count, memory, expected):
    assert batch_size(count, Machine("cuda", memory=memory), 128) == expected


def test_kinds_change_the_views_by_name_and_leave_the_others_alone(recipes):
    for name in ("photos/simclr", "photos/dino_vit", "photos/barlow_twins"):
        recipe = recipes[name]
        assert not [key for key in choose(ImageFacts(3000), CPU, recipe, None, None).settings if "views" in key]
        for kind, its in KINDS.items():
            settings = choose(ImageFacts(3000), CPU, recipe, None, kind).settings
            changed = load_recipe(
                name, [f"{key}={value}" for key, value in settings.items() if key.startswith("views.")]
            ).views
            for view, before in recipe.views.items():
                assert changed[view] == before | its.views, (name, kind, view)


def test_gray_images_have_the_kind_for_them_unless_another_is_named(recipes):
    gray = ImageFacts(3000, gray=1.0)
    assert choose(gray, CPU, recipes["photos/simclr"], None, None).kind == "gray"
    assert choose(gray, CPU, recipes["photos/simclr"], None, "auto").kind == "gray"
    assert choose(gray, CPU, recipes["photos/simclr"], None, "documents").kind == "documents"
    assert choose(ImageFacts(3000, gray=0.9), CPU, recipes["photos/simclr"], None, None).kind == "photographs"


def test_a_phase_in_epochs_is_left_out_where_there_are_few(recipes):
    few = choose(ImageFacts(100_000), CPU, recipes["photos/dino_vit"], 5, None).settings
    many = choose(ImageFacts(1000), CPU, recipes["photos/dino_vit"], 60, None).settings
    assert few["method.freeze_last_layer_epochs"] == 0 and "method.freeze_last_layer_epochs" not in many
