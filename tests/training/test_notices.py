"""Notices before the first step: phases that a run is too short for, and settings that have no effect."""

import pytest
import torch

from hfcontrast.data.rows import rows_of
from hfcontrast.data.sources import load_rows
from hfcontrast.encoders.config import Backbone
from hfcontrast.errors import RecipeError
from hfcontrast.methods.base import Phase, Progress
from hfcontrast.methods.contract.freezing import drop_frozen_gradients, frozen_phases
from hfcontrast.methods.contract.steps import start_step
from hfcontrast.methods.registry import get_method
from hfcontrast.recipe import load_recipe
from hfcontrast.recipe.sections import OptimSection
from hfcontrast.recipe.unread import unread_settings
from hfcontrast.recipe.unread_views import unread_views
from hfcontrast.recipe.views import check_recipe_views
from hfcontrast.testing import build, random_batch
from hfcontrast.training.notices import incomparable_rows, missed_phases, missing_kinds, small_cache, unused_tags
from hfcontrast.training.schedules import learning_rate, schedule_phases

EPOCH, BATCH = 3, 4  # steps of an epoch, images of a step
TINY_RESNET = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}


def recipe(**sections):
    return load_recipe(
        {
            "method": {"name": "simclr"},
            "backbone": {**TINY_RESNET, "layer_type": "basic"},
            "data": {"path": "builtin/digits"},
            "train": {"steps": 4, "batch_size": 256},
            **sections,
        }
    )


def prototypes_move(method):
    """Whether gradients of this step reach the optimizer."""
    modules = method.heads.values() if hasattr(method, "heads") else [method]
    parameters = [
        p for m in modules for n, p in m.named_parameters() if "teacher" not in n and p.requires_grad and p.grad is None
    ]
    return not parameters


PHASES = {
    # name: (settings, what a user reads before "the training has", whether it is so at a step)
    "dino": (
        {"freeze_last_layer_epochs": 2, "warmup_teacher_temperature_epochs": 3, "teacher_temperature": 0.07}
        | {"out_dim": 16, "hidden_dim": 16, "bottleneck_dim": 8},
        {
            "method.freeze_last_layer_epochs is 2 (6 steps)": prototypes_move,
            "method.warmup_teacher_temperature_epochs is 3 (9 steps)": lambda m: m.teacher_temperature == 0.07,
        },
    ),
    "dinov2": (
        {"freeze_last_layer_epochs": 1, "warmup_teacher_temperature_epochs": 2, "teacher_temperature": 0.07}
        | {"out_dim": 16, "hidden_dim": 16, "bottleneck_dim": 8},
        {
            "method.freeze_last_layer_epochs is 1 (3 steps)": prototypes_move,
            "method.warmup_teacher_temperature_epochs is 2 (6 steps)": lambda m: m.teacher_temperature == 0.07,
        },
    ),
    "swav": (
        {"freeze_prototypes_steps": 4, "queue_length": 10, "queue_start_epoch": 2, "prototypes": 6}
        | {"hidden_dim": 16, "projection_dim": 8},
        {
            "method.freeze_prototypes_steps is 4": prototypes_move,
            "method.queue_length is 10, method.queue_start_epoch is 2 (9 steps)": lambda m: m.queue_is_full,
        },
    ),
    "deepcluster_v2": (
        {"prototypes": [3], "hidden_dim": 16, "projection_dim": 8},
        {"the first epoch fills the memory (3 steps)": prototypes_move},
    ),
    "moco": (
        {"queue_size": 10, "projection_dim": 8},
        {"method.queue_size is 10 (3 steps)": lambda m: m.queue.filled == 10},
    ),
    "nnclr": (
        {"queue_size": 8, "projection_dim": 8, "hidden_dim": 16, "predictor_dim": 16},
        {"method.queue_size is 8 (2 steps)": lambda m: m.queue.filled == 8},
    ),
    "simclr_v2": (
        {"memory": True, "memory_size": 20, "projection_dim": 8, "hidden_dim": 16},
        {"method.memory_size is 20 (3 steps)": lambda m: m.memory.filled == 20},
    ),
}


@pytest.mark.parametrize("name", PHASES)
def test_a_phase_ends_at_the_step_that_the_method_names(name):
    """A training of real steps: what the phase brings is so from its step on, and at none before."""
    options, phases = PHASES[name]
    cls = get_method(name)
    method = build(cls, **options)
    named = [*frozen_phases(method, EPOCH), *method.config.training_phases(EPOCH, BATCH)]
    assert [phase.missed(1).partition(", the training has 1 step: ")[0] for phase in named] == list(phases)
    batch = random_batch(cls, BATCH)
    for step in range(10):
        start_step(method, progress := Progress(step, 20, EPOCH))
        method.zero_grad()
        output = method(**{**batch, "index": (batch["index"] + step * BATCH) % (EPOCH * BATCH)})
        output.loss.backward()
        drop_frozen_gradients(method, progress)
        for phase, is_so in zip(named, phases.values()):
            assert bool(is_so(method)) is (step >= phase.step), (phase, step)
        method.after_step([output], progress)


def test_phases_of_methods_with_a_memory_bank_and_of_data2vec():
    for name in ("instdisc", "pirl", "cmc"):
        (phase,) = build(get_method(name), negatives=4).config.training_phases(EPOCH, BATCH)
        assert phase.missed(EPOCH + 1) is None
        assert phase.missed(EPOCH).endswith(
            "(3 steps), the training has 3 steps: no image is compared with its own embedding"
        )
    assert build(get_method("cmc"), negatives="batch").config.training_phases(EPOCH, BATCH) == []
    data2vec = {"model_type": "data2vec-vision", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    method = build(
        get_method("data2vec"),
        {**data2vec, "image_size": 32, "patch_size": 8},
        ema_anneal_end_step=30,
        ema_decay=0.9,
        ema_end_decay=0.99,
        average_top_k_layers=1,
    )
    assert "momentum never reaches" in method.config.training_phases(EPOCH, BATCH)[0].missed(20)


def test_phases_of_the_schedules_are_where_the_learning_rate_turns():
    settings = OptimSection(
        lr=1.0, scale_lr="none", warmup_epochs=1.5, schedule="drops", lr_drops=[2, 60], lr_drop_factor=0.5
    )
    rates = [learning_rate(settings, step, 1000, 10, 256) for step in range(1000)]
    warmup, first, second = schedule_phases(settings, 10)
    assert rates.index(1.0) == warmup.step == 15
    assert rates.index(0.5) == first.step == 20 and rates.index(0.25) == second.step == 600
    assert second.missed(600) == (
        "an epoch of optim.lr_drops is 60 (600 steps), the training has 600 steps: the learning rate does not drop there"
    )
    assert second.missed(601) is None
    (steps,) = schedule_phases(OptimSection(warmup_steps=30), 10)
    assert steps.missed(30).startswith("optim.warmup_steps is 30, the training has 30 steps: ")
    assert schedule_phases(OptimSection(), 10) == []


def test_a_run_names_what_it_is_too_short_for():
    settings = recipe(method={"name": "swav", "prototypes": 6}, optim={"warmup_epochs": 10})
    method = build(get_method("swav"), **settings.method.options)
    found = missed_phases(settings, method, total_steps=30, steps_per_epoch=6)
    assert (
        found[0]
        == "method.freeze_prototypes_steps is 313, the training has 30 steps: the weights of prototypes are never updated"
    )
    assert [sentence.split(" is ")[0] for sentence in found] == [
        "method.freeze_prototypes_steps",
        "method.queue_length",
        "optim.warmup_epochs",
    ]
    assert missed_phases(settings, method, total_steps=1000, steps_per_epoch=6) == []


def test_a_plugins_phases_are_named_too():
    class PhasedConfig:
        def training_phases(self, steps_per_epoch, batch_size):
            return [Phase("method.pause", 2, 2 * steps_per_epoch, "nothing is learned")]

    class Phased(torch.nn.Module):
        config = PhasedConfig()

        def frozen(self):
            return {}

    (sentence,) = missed_phases(recipe(), Phased(), 4, 3)
    assert sentence == "method.pause is 2 (6 steps), the training has 4 steps: nothing is learned"


@pytest.mark.parametrize(
    "sections, said",
    [
        (
            {"optim": {"momentum": 0.95}},
            "optim.momentum is 0.95 and has no effect: optim.name is adamw; it is for sgd and lars",
        ),
        ({"optim": {"momentum": 0.9}}, "optim.momentum is 0.9 "),  # the default, but it was written
        ({"optim": {"name": "sgd", "betas": [0.9, 0.95]}}, "optim.betas is [0.9, 0.95] and"),
        ({"optim": {"name": "sgd", "trust_coefficient": 0.02}}, "optim.trust_coefficient is 0.02"),
        ({"optim": {"schedule": "constant", "min_lr": 1e-5}}, "optim.min_lr is 1e-05"),
        ({"optim": {"lr_drop_factor": 0.5}}, "optim.lr_drop_factor is 0.5"),
        ({"data": {"path": "builtin/digits", "shuffle_block": 64}}, "data.shuffle_block is 64"),
        ({"text": {"vocab_size": 600}}, "text.vocab_size is 600"),
        ({"track": {"run_name": "mine"}}, "track.run_name is mine"),
        ({"eval": {"retrieval": True}}, "eval.retrieval is True"),
    ],
)
def test_a_setting_that_nothing_reads_is_named(sections, said):
    (sentence,) = unread_settings(recipe(**sections), captions=False)
    assert sentence.startswith(said)


def test_settings_that_are_read_are_not_named():
    given = {"name": "lars", "momentum": 0.8, "trust_coefficient": 0.01, "min_lr": 1e-5}
    assert unread_settings(recipe(optim=given, track={"to": ["wandb"], "run_name": "mine"}), captions=False) == []
    assert unread_settings(recipe(), captions=False) == []
    with_texts = recipe(text={"tokenizer": "x", "vocab_size": 600, "max_length": 9})
    assert [s.split()[0] for s in unread_settings(with_texts, captions=True)] == ["text.vocab_size"]


@pytest.mark.parametrize(
    "method, views, said",
    [
        (
            "simclr",
            {"all": {"cutout_size": 0.3}},
            ["views.view.cutout_size is 0.3 and has no effect: views.view.cutout is 0"],
        ),
        ("simclr", {"view": {"noise_std": [0.2, 0.3]}}, ["views.view.noise_std is [0.2, 0.3]"]),
        ("simclr", {"view": {"jitter": 0, "brightness": 0.3}}, []),  # switched off, and how strong it would be
        (
            "simclr",
            {"view": {"jitter": 0.5, "brightness": 0, "contrast": 0, "saturation": 0, "hue": 0}},
            ["views.view.jitter is 0.5"],
        ),
        ("simclr", {"view": {"unaugmented": 2, "rotate": 0.5}}, ["views.view.rotate is 0.5"]),
        ("byol", {"all": {"solarize_threshold": 99}}, []),  # one of its two views is solarized
        (
            "byol",
            {"all": {"solarize_threshold": 99, "solarize": 0}},
            ["views.view_1.solarize_t", "views.view_2.solarize_t"],
        ),
        ("simclr", {"view": {"cutout": 0.5, "cutout_size": 0.3}}, []),
        ("simclr", {"all": {"jitter": 0, "brightness": 0.0, "blur": 0}}, []),  # off, in both ways
    ],
)
def test_settings_of_an_operation_that_is_off_are_named(method, views, said):
    own = get_method(method)
    found = unread_views(own.views, check_recipe_views(own, views)[0])
    assert len(found) == len(said) and all(map(str.startswith, found, said)), found


def test_images_that_are_made_smaller_than_the_views_are_named():
    views = get_method("simclr").views
    for size, said in ((32, True), (views[0].size, False), ("auto", False), (None, False)):
        assert bool(small_cache(recipe(data={"path": "builtin/digits", "cache_size": size}), views)) is said


def test_what_is_shown_of_a_setting_is_what_it_has():
    (sentence,) = unread_settings(recipe(eval={"zero_shot": [{"task": "x", "split": "test"}]}), captions=False)
    assert "'task': 'x'" in sentence and "'split': 'test'" in sentence and "None" not in sentence


def test_kinds_of_parameters_that_the_model_has_not_are_named():
    method = build(get_method("simclr"))  # with a DINOv2 of transformers
    (sentence,) = missing_kinds(method, ["class_token", "relative_positions", "projector.0"])
    assert sentence == "optim.no_decay has relative_positions, and has no effect there: the model has none"


def test_what_a_run_has_written_down_names_changes_alone(tmp_path):
    """recipe.yaml of a run holds every setting, most of which the user did not write."""
    recipe(optim={"momentum": 0.95}).save(tmp_path / "recipe.yaml")
    (sentence,) = unread_settings(load_recipe(tmp_path / "recipe.yaml"), captions=False)
    assert sentence.startswith("optim.momentum is 0.95")


def test_a_learning_rate_that_would_rise_is_refused():
    with pytest.raises(
        RecipeError, match=r"optim.min_lr: is 0.001, above the peak learning rate of 0.0005 \(lr 0.001, scale_lr linear"
    ):
        recipe(optim={"lr": 1e-3, "min_lr": 1e-3}, train={"steps": 4, "batch_size": 128})
    with pytest.raises(RecipeError, match="above the peak learning rate of 0.001, and is never scaled"):
        recipe(optim={"lr": 1e-3, "min_lr": 2e-3, "scale_lr": "none"})
    recipe(optim={"lr": 1e-3, "min_lr": 1e-3})
    recipe(optim={"lr": 1e-3, "min_lr": 2e-3, "schedule": "constant"})  # said, as nothing reads it


def test_a_resumed_run_says_that_a_stream_that_was_open_cannot_be_compared():
    rows = load_rows("builtin/digits", streaming=True)
    assert incomparable_rows(rows) == []
    (sentence,) = incomparable_rows(rows_of(rows.dataset, None, "the stream"))
    assert sentence.endswith(
        "make sure that the rows of the stream are the same, in the same order, and have the same labels"
    )


def test_an_architecture_of_timm_with_the_tag_of_weights_is_said_to_start_at_random():
    name = "timm/vit_tiny_patch16_224.augreg_in21k"
    (sentence,) = unused_tags(Backbone.read(name))
    assert "starts at random" in sentence and f"backbone={{pretrained: {name}}}" in sentence
    (pair,) = unused_tags(Backbone.read({"model_type": "vision-text-dual-encoder", "vision": name, "text": {}}))
    assert f"backbone.vision={{pretrained: {name}}}" in pair
    for silent in (name.partition(".")[0], {"pretrained": name}, {"model_type": "vit"}):
        assert unused_tags(Backbone.read(silent)) == []
