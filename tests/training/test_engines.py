"""What a launcher may ask for, and runs beside other accelerators in one Python process."""

from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from tiny_runs import metrics

import hfcontrast.run
from hfcontrast.errors import LauncherError
from hfcontrast.recipe import load_recipe
from hfcontrast.training import engines, precision
from hfcontrast.training.build import build_training

LAUNCHED = {  # what `accelerate launch` sets by default
    "ACCELERATE_MIXED_PRECISION": "no",
    "ACCELERATE_DYNAMO_BACKEND": "NO",
    "ACCELERATE_DYNAMO_MODE": "default",
    "ACCELERATE_USE_CPU": "False",
}


@pytest.fixture
def recipe(recipe_file, tmp_path):
    """Reads the tiny SimCLR recipe, which writes to a folder of the test."""

    def load(*overrides: str):
        return load_recipe(recipe_file("simclr"), [f"train.output={tmp_path / 'run'}", *overrides])

    return load


@pytest.fixture(autouse=True)
def former_states():
    """Restores accelerate's state after a test."""
    with engines.own_states():
        yield


@pytest.mark.parametrize(
    "environment, overrides, words",
    [
        ({"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"}, [], "DeepSpeed .*multi_gpu"),
        ({"ACCELERATE_USE_FSDP": "true"}, [], "FSDP .*multi_gpu"),
        ({"ACCELERATE_USE_FSDP": "1"}, [], "FSDP"),  # which accelerate overlooks
        ({"ACCELERATE_USE_MEGATRON_LM": "True"}, [], "Megatron-LM"),
        ({"ACCELERATE_USE_PARALLELISM_CONFIG": "true"}, [], "parallelism"),
        ({"ACCELERATE_MIXED_PRECISION": "bf16"}, ["train.precision=fp32"], "bf16 .*train.precision fp32: set .*=bf16"),
        ({"ACCELERATE_MIXED_PRECISION": "fp16"}, [], "train.precision auto, here fp32"),
        ({"ACCELERATE_MIXED_PRECISION": "fp8"}, ["train.precision=bf16"], "fp8 .*launch with `--mixed_precision no`"),
        ({"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"}, [], "inductor .*train.compile=true"),
        ({"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"}, [], "train.accumulation 1: set train.accumulation=4"),
        ({"ACCELERATE_USE_CPU": "True"}, ["train.device=cuda"], "train.device cuda: set train.device=cpu"),
        ({"WORLD_SIZE": "2"}, [], "WORLD_SIZE is 2, but 1 process has joined"),
    ],
)
def test_what_a_run_would_not_do_is_refused(recipe, environment, overrides, words):
    settings = recipe(*overrides)
    with pytest.raises(LauncherError, match=words) as caught:
        engines.check_launcher(settings, {**LAUNCHED, **environment})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "environment, overrides",
    [
        ({}, []),
        (LAUNCHED, ["train.precision=bf16"]),
        (LAUNCHED, ["train.compile=true", "train.accumulation=2"]),
        ({**LAUNCHED, "ACCELERATE_MIXED_PRECISION": "bf16"}, ["train.precision=bf16"]),
        ({"ACCELERATE_USE_FSDP": "false", "ACCELERATE_USE_DEEPSPEED": "0"}, []),
        ({"ACCELERATE_USE_CPU": "True"}, []),
        ({"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}, []),
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}, []),
    ],
)
def test_what_launchers_say_without_being_asked_contradicts_nothing(recipe, environment, overrides):
    engines.check_launcher(recipe(*overrides), environment)


def test_a_launcher_that_starts_one_process_of_several_is_reported():
    """What `accelerate launch --cpu --num_processes 2` sets."""
    asked = {**LAUNCHED, "ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    (sentence,) = engines.launched_alone(asked)
    assert "one process trains" in sentence and "torchrun" in sentence
    assert engines.launched_alone(LAUNCHED) == []
    assert engines.launched_alone({**asked, "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}) == []


def test_it_is_refused_before_anything_is_made(recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(LauncherError, match="FSDP"):
        build_training(recipe())
    assert not (tmp_path / "run").exists()


def test_processes_that_have_not_joined_are_refused(recipe, monkeypatch):
    """As with torchrun on a machine without a GPU and without train.device=cpu: each process would be alone."""
    for name, value in {"WORLD_SIZE": "2", "RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(LauncherError, match="WORLD_SIZE is 2, but 1 process has joined"):
        engines.build_accelerator(recipe("train.device=auto"))


def test_what_accelerate_cannot_start_is_one_sentence(recipe, monkeypatch):
    for name, value in {"WORLD_SIZE": "2", "RANK": "5", "LOCAL_RANK": "5", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_PORT", "no port")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # else accelerate sets the threads of all later tests
    with pytest.raises(LauncherError, match="accelerate cannot start the training here: "):
        engines.build_accelerator(recipe())


def test_runs_of_different_precision_in_one_process_beside_an_accelerator_of_the_user(recipe, tmp_path):
    for state in (PartialState, AcceleratorState, GradientState):
        state._shared_state = {}
    mine = Accelerator(cpu=True, mixed_precision="no", gradient_accumulation_steps=3)
    short = ("train.steps=2", "eval.baselines=false")
    for number, kind in enumerate(("bf16", "fp32")):
        output = tmp_path / f"run{number}"
        hfcontrast.run.run(recipe(*short, f"train.precision={kind}", f"train.output={output}"))
        assert [values["step"] for values in metrics(output) if "loss" in values] == [1, 2]
        assert mine.mixed_precision == "no" and mine.gradient_state.num_steps == 3
        assert Accelerator(cpu=True, gradient_accumulation_steps=3).mixed_precision == "no"  # the user's next one
        with mine.autocast():
            assert torch.ones(2, 2).matmul(torch.ones(2, 2)).dtype == torch.float32
    losses = [metrics(tmp_path / f"run{number}")[0]["loss"] for number in range(2)]
    assert losses[0] != losses[1]


def test_trainings_that_live_at_once_keep_their_precision(recipe, tmp_path):
    first = build_training(recipe("train.precision=bf16"))
    second = build_training(recipe("train.precision=fp32", f"train.output={tmp_path / 'other'}"))
    for training, kind in ((first, torch.bfloat16), (second, torch.float32)):
        assert training.accelerator.mixed_precision == {torch.bfloat16: "bf16", torch.float32: "no"}[kind]
        with training.accelerator.autocast():
            assert torch.ones(2, 2).matmul(torch.ones(2, 2)).dtype == kind


AMX, BF16, OLDER = {"amx_bf16", "avx512_bf16"}, {"avx512_bf16", "avx2"}, {"avx2", "avx512f"}


@pytest.mark.parametrize(
    "features, limit, named",
    [
        (AMX, "", "AMX"),
        (AMX, "ALL", "AMX"),
        (BF16, "AVX512_CORE_BF16", "AVX512-BF16"),
        (BF16, "AVX512_CORE", None),
        (OLDER, "", None),
        (set(), "", None),
    ],
)
def test_auto_is_bf16_on_cpus_that_gain_from_it(features, limit, named, recipe, monkeypatch):
    monkeypatch.setattr(precision, "cpu_features", lambda: features)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    auto = recipe("train.precision=auto")
    assert precision.bf16_feature() == named
    found = precision.resolved_precision(auto)
    assert found == ("bf16" if named else "fp32")
    told = precision.about_precision(auto, found)
    assert told is None if named is None else f"bf16, which this CPU computes faster ({named})" in told
    assert precision.resolved_precision(recipe("train.precision=fp32")) == "fp32"
    assert precision.about_precision(recipe("train.precision=bf16"), "bf16") is None


@pytest.mark.parametrize(
    "backbone, found",
    [
        ("{model_type: vit, hidden_size: 64, num_attention_heads: 2, image_size: 16, patch_size: 4}", "fp32"),
        ("{model_type: vit, hidden_size: 192, num_attention_heads: 3, image_size: 16, patch_size: 4}", "bf16"),
        ("{model_type: resnet, embedding_size: 8, hidden_sizes: [8, 16], depths: [1, 1]}", "bf16"),
        ("timm/resnet18", "bf16"),
    ],
)
def test_narrow_transformers_stay_in_full_precision(backbone, found, recipe, monkeypatch):
    monkeypatch.setattr(precision, "bf16_feature", lambda: "AMX")
    assert precision.resolved_precision(recipe(f"backbone={backbone}")) == found


def test_a_resumed_run_keeps_its_precision(recipe, monkeypatch, tmp_path, capsys):
    """On a CPU that gains from bf16 one that was begun on another, also by a version that did not note it, and the other way round."""
    longer = recipe("train.steps=6")
    hfcontrast.run.run(recipe("train.steps=4"))
    monkeypatch.setattr(precision, "bf16_feature", lambda *_: "AMX")
    assert precision.resolved_precision(longer) == "fp32"
    checkpoints = build_training(longer).checkpoints
    notes = checkpoints.notes(checkpoints.newest())
    checkpoints.replace_notes(checkpoints.newest(), {key: v for key, v in notes.items() if key != "setups"})
    assert precision.resolved_precision(longer) == "fp32"
    other = recipe("train.steps=4", f"train.output={tmp_path / 'other'}")
    hfcontrast.run.run(other)
    assert "precision: bf16, which this CPU computes faster (AMX)" in capsys.readouterr().out
    monkeypatch.setattr(precision, "bf16_feature", lambda *_: None)
    assert precision.resolved_precision(other) == "bf16" and "as before" in precision.about_precision(other, "bf16")
    assert precision.resolved_precision(recipe("train.output=")) == "fp32"


def test_processes_of_different_cpus_are_refused(recipe, monkeypatch):
    accelerator = SimpleNamespace(num_processes=2)
    monkeypatch.setattr(engines, "gather_object", lambda own: [*own, "fp32"])
    engines.check_equal_precision(accelerator, "fp32")
    with pytest.raises(LauncherError, match="comes to bf16 and fp32, as the processes run on different CPUs"):
        engines.check_equal_precision(accelerator, "bf16")
