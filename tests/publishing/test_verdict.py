"""The last lines of a run: which baselines are not beaten, why that may be, and what figures without labels mean."""

import re
from pathlib import Path

import pytest

from hfcontrast.publishing.cause import RunFacts
from hfcontrast.publishing.causes import RULES, color, few_images, likeliest_causes, overwritten, understated
from hfcontrast.publishing.verdict import (
    Verdict,
    command_for,
    concluding,
    data_settings,
    headlines,
    not_beaten,
    told_label_free,
    told_not_beaten,
    told_sentences,
    without_classes,
)
from hfcontrast.recipe import load_recipe

VIEW = load_recipe("photos/simclr").views["view"]
PLAIN = VIEW | {"hue": 0.0, "grayscale": 0.0, "saturation": 0.0, "size": 128, "scale": [0.3, 1.0]}
SCORES = {
    "chance": {"knn_accuracy": 0.1, "linear_accuracy": 0.1},
    "raw_pixels": {"knn_accuracy": 0.45, "linear_accuracy": 0.3},
    "untrained": {"knn_accuracy": 0.4, "linear_accuracy": 0.5},
    "trained": {"knn_accuracy": 0.42, "linear_accuracy": 0.6},
}


def facts(**changes):
    """A long run on many images whose views change no color, of which nothing is wrong."""
    given = {
        "steps": 20_000,
        "epochs": 200,
        "batch_size": 128,
        "lr": 0.002,
        "views": {"view": PLAIN},
        "images": 10_000,
        "losses": [5.0 - number / 100 for number in range(100)],
        "test_images": 10_000,
        "scores": SCORES,
        "lost_to": {"knn_accuracy": ["raw_pixels"]},
    }
    return RunFacts(**given | changes)


def test_baselines_that_are_not_beaten_are_found_and_said():
    assert not_beaten(SCORES) == {"knn_accuracy": ["raw_pixels"]}
    assert told_not_beaten(SCORES, not_beaten(SCORES)) == (
        "The trained encoder does not beat its baselines: kNN accuracy 42.0 % (raw pixels 45.0 %)."
    )
    equal = SCORES | {"untrained": {"linear_accuracy": 0.6}, "raw_pixels": {"knn_accuracy": 0.42004}}
    assert not_beaten(equal) == {"knn_accuracy": ["raw_pixels"], "linear_accuracy": ["untrained"]}
    assert not_beaten(SCORES | {"raw_pixels": {}}) == not_beaten({"trained": {"effective_rank": 1.0}}) == {}


@pytest.mark.parametrize(
    "changes, said, tried",
    [
        ({"constant": True}, "the same in every step", "optim.lr=0.00067"),
        (
            {"collapsed": True, "advice": "a larger batch"},
            "have collapsed: .* [(]a larger batch[)]",
            "optim.lr=0.00067",
        ),
        ({"steps": 120, "epochs": 5}, "120 steps, 5 passes over the images, are few", "train.steps=2000"),
        ({"steps": 900, "epochs": 40, "minutes": 10}, "900 steps, 40 passes", "train.minutes=40"),
        ({"losses": [5.0] * 100}, "the loss hardly fell, from 5 to 5", "optim.lr=0.00067"),
        (
            {"test_images": 40},
            "40 test images are few [(]one is 2.5 points[)]: a difference below 22 points can be luck, and this one is of 3.0",
            None,
        ),
        ({"views": {"view": VIEW}}, "changes colors, and raw pixels score higher", "views.view.hue=0.0"),
        ({"views": {"view": PLAIN | {"vertical_flip": 0.5}}}, "upside down", "views.view.vertical_flip=0.0"),
        ({"views": {"view": PLAIN | {"scale": [0.08, 1.0]}}}, "crops of 8% of an image", "views.view.scale=[0.3, 1.0]"),
        ({"images": 300}, "300 images are few", "backbone={pretrained: facebook/dinov2-small}"),
        ({"batch_size": 16}, "a batch of 16 images", "train.batch_size=128"),
        ({"views": {"view": PLAIN | {"size": 64}}}, "at 64 px details are lost", "views.view.size=128"),
        (
            {
                "released": True,
                "lost_to": {"knn_accuracy": ["starting_point"]},
                "scores": SCORES | {"starting_point": SCORES["raw_pixels"]},
            },
            "high for pretrained weights",
            "optim.lr=0.0002",
        ),
        ({"views": {"view": PLAIN | {"count": 1}}}, "kNN understates methods of masked images", None),
        (
            {"scores": {name: dict.fromkeys(SCORES["chance"], 0.12) for name in SCORES} | {"chance": SCORES["chance"]}},
            "labels may not be about what images look like",
            None,
        ),
    ],
)
def test_the_likeliest_cause_follows_from_the_facts(changes, said, tried):
    found = likeliest_causes(facts(**changes))
    assert len(found) == 3 or len(found) == 2
    assert re.search(said, found[0].text), found
    assert found[0].overrides[:1] == ([tried] if tried else [])


def test_nothing_is_the_cause_of_what_is_fine_but_time_and_labels():
    assert [cause.weight for cause in likeliest_causes(facts())] == [20, 15]
    assert len(likeliest_causes(facts(steps=50, epochs=1, images=100, batch_size=16, views={"view": VIEW}))) == 3
    assert all(rule.__doc__ for rule in RULES)


@pytest.mark.parametrize("name", ["photos/simclr", "photos/dino_vit", "photos/mae", "photos/barlow_twins", "simclr"])
def test_what_is_to_be_tried_is_a_recipe_that_loads(name):
    """Every cause that the recipes can have at all: its settings are accepted."""
    recipe = load_recipe(name)
    some = [
        facts(views=recipe.views, steps=50, epochs=1, minutes=2.0),
        facts(views=recipe.views, images=100, batch_size=16, collapsed=True),
        facts(views=recipe.views, losses=[5.0] * 20, released=True, lost_to={"knn_accuracy": ["starting_point"]}),
    ]
    tried = {tuple(cause.overrides) for one in some for rule in RULES if (cause := rule(one)) and cause.overrides}
    assert len(tried) >= 4
    for overrides in tried:
        load_recipe(name, overrides, check=not any("pretrained" in item for item in overrides))


def test_a_command_resumes_the_run_or_trains_beside_it():
    few, color = likeliest_causes(facts(steps=120, epochs=5, views={"view": VIEW}))[:2]
    assert command_for(few, Path("outputs/my birds")) == (
        "hfcontrast train 'outputs/my birds/checkpoints/recipe.yaml' train.steps=2000"
    )
    assert command_for(color, Path("outputs/b")).startswith(
        "hfcontrast train outputs/b/checkpoints/recipe.yaml train.output=outputs/b-2 views.view.hue=0.0 "
    )
    lines = Verdict(False, ["It does not."], [few, color]).lines(Path("outputs/b"))
    assert lines[:2] == ["It does not.", "Likeliest causes, by the facts of this run:"]
    assert lines[2].startswith("1. 120 steps, 5 passes over the images, are few; try: hfcontrast train outputs/b/")
    told = Verdict(False, ["It does not."], [few, color]).facts()
    assert told["beats_baselines"] is False and told["sentences"] == ["It does not."]
    assert told["causes"][0] == {"cause": few.text, "try": few.overrides, "resumes": True}


def test_a_baseline_is_said_once_and_a_card_has_no_advice():
    scores = SCORES | {"untrained": {"knn_accuracy": 0.4, "image_to_text_r5": 0.4}}
    scores["trained"] = SCORES["trained"] | {"image_to_text_r5": 0.2}  # no headline figure
    assert told_sentences(scores, {}) == [
        "The trained encoder does not beat its baselines: kNN accuracy 42.0 % (raw pixels 45.0 %).",
        "It beats them by linear probe 60.0 % (chance 10.0 %, raw pixels 30.0 %).",
        "The untrained encoder scores above the trained encoder: image→text R@5 40.0 % against 20.0 %.",
    ]
    notes = {"trained": scores["trained"], "evaluation": {"train_images": 9}}
    assert concluding(notes, scores, "unused") == told_sentences(scores, {})


def test_all_figures_of_texts_are_named_beside_the_one_that_is_not_beaten():
    chance = {"image_to_text_r1": 0.1, "image_to_text_r5": 0.5, "text_to_image_r1": 0.1, "text_to_image_r5": 0.5}
    own = {"image_to_text_r1": 0.1, "image_to_text_r5": 0.6, "text_to_image_r1": 0.3, "text_to_image_r5": 0.7}
    lost, better = told_sentences({"chance": chance, "trained": own}, {})
    assert lost == "The trained encoder does not beat its baselines: image→text R@1 10.0 % (chance 10.0 %)."
    assert better == (
        "It beats them by image→text R@5 60.0 % (chance 50.0 %); text→image R@1 30.0 % (chance 10.0 %); "
        "text→image R@5 70.0 % (chance 50.0 %)."
    )


def test_baselines_at_100_percent_cannot_be_beaten():
    full = {"knn_accuracy": 1.0, "linear_accuracy": 0.99996}
    scores = {"chance": SCORES["chance"], "raw_pixels": full, "untrained": {"knn_accuracy": 0.9}, "trained": full}
    told = told_sentences(scores, {"knn_accuracy": {"test_images": 8}})
    assert told == [
        "The baselines (raw pixels) already reach what the trained encoder reaches, kNN accuracy 100.0 % of 8 images, linear probe "
        "100.0 %: these images cannot show a difference between them."
    ]
    assert not_beaten(scores) == {} and headlines(scores) == {}
    worse = scores | {"trained": {"knn_accuracy": 0.9, "linear_accuracy": 1.0}}
    assert not_beaten(worse) == {"knn_accuracy": ["raw_pixels", "untrained"]} and len(told_sentences(worse, {})) == 2


@pytest.mark.parametrize("name, rule", [("raw_pixels", color), ("starting_point", overwritten)])
def test_a_baseline_that_is_equal_is_not_said_to_be_better(name, rule):
    scores = {"trained": {"knn_accuracy": 0.42}, name: {"knn_accuracy": 0.42004}}
    given = {"views": {"view": VIEW}, "released": True, "lost_to": {"knn_accuracy": [name]}}
    equal = rule(facts(scores=scores, **given))
    assert equal is None or "raw pixels" not in equal.text
    better = rule(facts(scores=scores | {name: {"knn_accuracy": 0.43}}, **given))
    assert "raw pixels score higher" in better.text or "were overwritten" in better.text


def test_a_probe_that_shows_nothing_is_not_said_to_be_better():
    views = {"view": PLAIN | {"count": 1}}
    assert "by the linear probe the encoder is better" in understated(facts(views=views)).text
    equal = {name: {"knn_accuracy": 0.5, "linear_accuracy": 1.0} for name in ("raw_pixels", "trained")}
    assert understated(facts(views=views, scores=equal)) is None


@pytest.mark.parametrize("changes, name", [({"texts": True}, "photos/captions"), ({}, "photos/continue")])
def test_released_weights_are_advised_by_a_recipe_that_takes_them(changes, name):
    """Neither a method with a text tower nor one of parts of a single view can take any encoder of images."""
    views = {"view": PLAIN | {"count": 2 if changes else 1}}
    cause = few_images(facts(images=50, batch_size=8, views=views, **changes))
    data = ["data.path=imagefolder", "data.data_dir=my captions", "data.caption_column=text"]
    own = load_recipe("clip", [*data, "data.name=", "eval.zero_shot="])
    lines = Verdict(False, ["It does not."], [cause], data_settings(own)).lines(Path("outputs/c"))
    assert lines[2].partition("; try: ")[2] == (
        f"hfcontrast train {name} train.output=outputs/c-2 data.path=imagefolder 'data.data_dir=my captions' "
        "data.caption_column=text train.batch_size=8"
    )
    found = load_recipe(name, [*data_settings(own), *cause.overrides])
    assert (found.data.data_dir, found.data.caption_column, found.train.batch_size) == ("my captions", "text", 8)
    assert Verdict(False, [], [cause]).facts()["causes"][0]["recipe"] == name
    large = few_images(facts(images=900, batch_size=512, views=views, **changes))
    assert large.recipe == name and large.overrides == []


def test_figures_that_are_100_percent_by_chance_are_not_compared():
    scores = SCORES | {"chance": {"knn_accuracy": 1.0}, "raw_pixels": {"knn_accuracy": 0.6}}
    assert not_beaten(scores) == {} and headlines(scores).keys() == {"linear_accuracy"}
    assert told_sentences(scores, {}) == []


def test_figures_without_labels_are_explained_beside_those_of_before():
    scores = {
        "chance": {"label_free_neighbor_agreement": 0.01},
        "untrained": {"label_free_neighbor_agreement": 0.3, "label_free_rankme": 12.04},
        "trained": {"label_free_neighbor_agreement": 0.55, "label_free_rankme": 40.0},
    }
    counts = {"label_free_neighbor_agreement": {"images": 1024, "k": 10}}
    told = told_label_free(scores, counts)
    assert "two augmented views of 1,024 images agree on 55.0 % of the 10 nearest neighbors" in told
    assert "before the training 30.0 %, by chance 1.0 %" in told and "more than before" in told
    assert "40.0 directions (RankMe, before 12.0)" in told
    spread = {"trained": scores["trained"] | {"label_free_uniformity": -1.5, "label_free_alignment": 0.25}}
    spread["untrained"] = scores["untrained"] | {"label_free_uniformity": -0.5}
    told = told_label_free(spread, counts)
    assert "alignment, the distance of two views of an image, is 0.250; " in told
    assert "uniformity, lower the more evenly images are spread, is -1.500 (before -0.500). " in told
    assert "more than before" not in told_label_free(
        scores | {"trained": {"label_free_neighbor_agreement": 0.2}}, counts
    )
    assert not_beaten(scores | {"trained": {"label_free_neighbor_agreement": 0.2}}) == {
        "label_free_neighbor_agreement": ["untrained"]
    }
    assert without_classes({"trained": scores["trained"], "evaluation": {"test_images": 60}})
    assert not without_classes({"trained": scores["trained"], "evaluation": {"train_images": 240}})
