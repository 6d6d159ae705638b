"""The plan of a comparison: its runs, and when one counts as finished."""

import json
import shutil

import pytest

from hfcontrast.comparison.plan import (
    finished_result,
    former_result,
    pixels_evaluated,
    plan,
    split_arguments,
    unequal_settings,
)
from hfcontrast.errors import CheckpointError, RecipeError

OTHER = "{model_type: resnet, embedding_size: 8, hidden_sizes: [8, 32], depths: [1, 1], layer_type: basic}"


def test_every_recipe_and_seed_has_a_folder_of_its_own(recipe_file, tmp_path):
    files = [recipe_file("one"), recipe_file("two", "dino")]
    runs = plan(files, ["train.steps=3"], tmp_path / "out")
    assert [(run.name, run.folder, run.seed) for run in runs] == [
        ("one", tmp_path / "out" / "one", 0),
        ("two", tmp_path / "out" / "two", 0),
    ]
    assert all(run.recipe.train.steps == 3 for run in runs)
    runs = plan(files, [], tmp_path / "out", [0, 7])
    assert [run.folder.name for run in runs] == ["one_seed0", "one_seed7", "two_seed0", "two_seed7"]
    assert [run.recipe.train.seed for run in runs] == [0, 7, 0, 7]
    assert len({run.hash for run in runs}) == 4


def test_the_probe_is_fitted_and_nothing_is_evaluated_midway_unless_the_user_says_so(recipe_file, tmp_path):
    usual = plan([recipe_file("one")], [], tmp_path)[0].recipe.eval
    assert (usual.linear_probe, usual.every) == (True, None)
    own = plan([recipe_file("one")], ["eval.linear_probe=false", "eval.every=5"], tmp_path)[0].recipe.eval
    assert (own.linear_probe, own.every) == (False, 5)


def test_a_folder_with_spaces_and_colons(recipe_file, tmp_path):
    folder = tmp_path / "a: b, #c"
    assert plan([recipe_file("one")], [], folder)[0].folder == folder / "one"


@pytest.mark.parametrize(
    "overrides, seeds, expected",
    [
        (["train.output=elsewhere"], [], "use --output"),
        (["train.seed=3"], [0, 1], "use --seeds"),
        (["train.stepz=3"], [], "did you mean 'steps'"),
        ([], [0, 0], "the same name or seed"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_trained(
    recipe_file, tmp_path, overrides, seeds, expected
):
    with pytest.raises(RecipeError, match=expected):
        plan([recipe_file("one")], overrides, tmp_path, seeds)


def test_two_recipes_of_one_name_are_refused(recipe_file, tmp_path):
    first = recipe_file("one")
    second = tmp_path / "more" / "one.yaml"
    second.parent.mkdir()
    second.write_text(first.read_text())
    with pytest.raises(RecipeError, match="has the same name"):
        plan([first, second], [], tmp_path / "out")


def test_recipes_and_overrides_stand_in_any_order(tmp_path):
    odd = tmp_path / "a=b.yaml"
    odd.write_text("")
    items = ["r/one.yaml", "train.epochs=5", "two.yaml", "backbone={model_type: vit}", str(odd)]
    assert split_arguments(items) == (
        ["r/one.yaml", "two.yaml", str(odd)],
        ["train.epochs=5", "backbone={model_type: vit}"],
    )


def finish(run, result):
    run.folder.mkdir(parents=True)
    (run.folder / "result.json").write_text(json.dumps(result))
    (run.folder / "checkpoints" / "step_000000014").mkdir(parents=True)
    run.recipe.save(run.folder / "recipe.yaml")


def test_a_result_counts_for_its_own_recipe_only(recipe_file, tmp_path, result):
    run = plan([recipe_file("one")], [], tmp_path)[0]
    assert finished_result(run) is None
    finish(run, result(run))
    assert finished_result(run) == result(run)
    assert finished_result(plan([recipe_file("one")], ["data.workers=0", "eval.every=3"], tmp_path)[0]) is not None
    assert finished_result(plan([recipe_file("one")], ["optim.lr=0.5"], tmp_path)[0]) is None
    (run.folder / "result.json").write_text('{"recipe_ha')
    assert finished_result(run) is None


def test_a_run_that_was_evaluated_otherwise_is_refused(recipe_file, tmp_path, result):
    run = plan([recipe_file("one")], [], tmp_path)[0]
    finish(run, result(run))
    with pytest.raises(CheckpointError, match=r"eval.max_train: 64 -> 32.*another --output"):
        finished_result(plan([recipe_file("one")], ["eval.max_train=32"], tmp_path)[0])


def test_a_run_that_is_only_to_be_evaluated_by_more_is_not_finished(recipe_file, tmp_path, result):
    def planned(*overrides):
        return plan([recipe_file("one")], overrides, tmp_path)[0]

    bare = planned("eval.linear_probe=false")
    finish(bare, result(bare))
    for more in ([], ["eval.finetune=true"], ["eval.linear_probe=false", "eval.finetune.epochs=3"]):
        assert finished_result(planned(*more)) is None and former_result(planned(*more)) == result(bare)
    with pytest.raises(CheckpointError, match="eval.tasks.knn.k: 20 -> 5"):
        finished_result(planned("eval.knn_k=5"))

    shutil.rmtree(bare.folder / "checkpoints")  # without them no further evaluator can run
    assert finished_result(bare) == result(bare)
    with pytest.raises(CheckpointError, match="eval.tasks.linear"):
        finished_result(planned())
    (bare.folder / "checkpoints" / "step_000000014").mkdir(parents=True)

    tuned = planned("eval.finetune=true")
    tuned.recipe.save(tuned.folder / "recipe.yaml")
    assert finished_result(planned("eval.finetune=true")) == result(tuned)
    assert finished_result(planned("eval.finetune={epochs: 30}")) == result(tuned)  # which is what true means
    with pytest.raises(CheckpointError, match="eval.tasks.finetune"):
        finished_result(planned("eval.finetune={epochs: 31}"))
    with pytest.raises(CheckpointError, match="eval.tasks.finetune"):
        finished_result(planned())


def test_pixels_are_not_fine_tuned(recipe_file, tmp_path):
    plain, tuned = (plan([recipe_file("one")], [o], tmp_path)[0] for o in ("eval.finetune=false", "eval.finetune=true"))
    assert plain.pixels() == tuned.pixels() and plain.untrained() != tuned.untrained()


def test_baselines_are_shared_by_runs_with_the_same_encoder_and_images(recipe_file, tmp_path, result):
    files = [recipe_file("one"), recipe_file("two", temperature="0.5}"), recipe_file("three", backbone=OTHER)]
    one, two, three = plan(files, [], tmp_path)
    assert one.untrained() == two.untrained() != three.untrained()
    assert one.pixels() == two.pixels() == three.pixels()
    larger = plan(files[:1], ["views.view.size=24"], tmp_path)[0]
    fewer = plan(files[:1], ["eval.max_train=32"], tmp_path)[0]
    colored = plan(files[:1], ["data.mean=[0.5, 0.5, 0.5]", "data.std=[0.2, 0.2, 0.2]"], tmp_path)[0]
    assert len({run.pixels() for run in (one, larger, fewer, colored)}) == 4
    seeded = plan(files[:1], [], tmp_path, [0, 1])
    assert seeded[0].untrained() == seeded[1].untrained()

    one.result = result(one)
    assert not pixels_evaluated(two, [one, two, three])
    one.result = result(one, pixels=True)
    assert pixels_evaluated(two, [one, two, three]) and pixels_evaluated(three, [one, two, three])
    assert not pixels_evaluated(larger, [one, two, three])


def test_unfair_differences_are_named(recipe_file, tmp_path):
    files = [recipe_file("one"), recipe_file("two", temperature="0.5}"), recipe_file("three", backbone=OTHER)]
    assert unequal_settings(plan(files[:2], [], tmp_path, [0, 1])) == []  # a method's own settings are its own
    assert unequal_settings(plan(files, [], tmp_path)) == ["backbone"]
    assert unequal_settings(plan(files, [f"backbone={OTHER}"], tmp_path)) == []
    mixed = plan(files[:1], ["train.batch_size=64"], tmp_path) + plan(files[1:2], ["views.view.size=24"], tmp_path)
    assert unequal_settings(mixed) == ["image size (16, 24)", "train.batch_size (64, 32)"]


def test_unequal_texts_and_towers_are_named(recipe_file, tmp_path):
    """Settings of texts count only for methods that read some."""
    files = [
        recipe_file("image"),
        recipe_file("one", "clip"),
        recipe_file("two", "clip", text="{vocab_size: 600, max_length: 6}"),
    ]
    assert "text.max_length (24, 6)" in unequal_settings(plan(files[1:], [], tmp_path))
    assert not any(name.startswith("text.") for name in unequal_settings(plan(files[:2], [], tmp_path)))
    three = recipe_file("three", "clip")
    three.write_text(
        three.read_text().replace(
            "text_config: {hidden_size: 16, intermediate_size: 32", "text_config: {hidden_size: 32"
        )
    )
    assert unequal_settings(plan([files[1], three], [], tmp_path)) == ["backbone.text_config"]


def test_a_folder_stands_for_its_recipes_without_what_they_share(tmp_path):
    for given in ("recipes/comparison/augmentations", "comparison/augmentations"):
        names = [run.name for run in plan([given], [], tmp_path)]
        assert names == ["blur", "color", "crop", "cutout", "noise", "rotate", "sobel"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecipeError, match="is a folder|there are no recipes"):
        plan([tmp_path / "empty"], [], tmp_path)


def test_runs_of_a_comparison_are_not_pushed_to_one_repository(tmp_path):
    with pytest.raises(RecipeError, match="publish.push_to is me/all, to which every run"):
        plan(["comparison/augmentations"], ["publish.push_to=me/all"], tmp_path)
    runs = plan(["comparison/augmentations"], ["publish.push_to="], tmp_path)
    assert len(runs) == 7
