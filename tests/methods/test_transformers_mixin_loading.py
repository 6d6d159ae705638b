"""transformers' common tests of models, for every method: saving, loading, initialization and copies.

``test_transformers_mixin.py`` has the table of them.
"""

import copy
import json
import pickle

import pytest
import torch
from every_method import NAMES, batch_of
from safetensors.torch import load_file, save_file
from trained_methods import (
    assert_same_results,
    assert_same_tensors,
    fresh,
    shared,
    tensors,
    trained,
    uninitialized_memory_is_nan,
)
from transformers import AutoConfig, AutoModel

every = pytest.mark.parametrize("name", NAMES)
WEIGHTS = "model.safetensors"
FEW = ("simclr", "clip", "dino", "mae", "moco_v2")  # a head, towers, teachers, a decoder, a queue


@every
def test_a_saved_method_is_loaded_as_it_was(name, saved, tmp_path):
    """The same tensors, results and files; nothing missing or left over; what is not trained stays so."""
    expected = trained(name)
    loaded, info = type(expected).from_pretrained(saved(name), output_loading_info=True)
    assert not any(info.values()), info
    assert not loaded.training
    assert_same_tensors(loaded, expected)
    assert all(value.is_contiguous() for value in tensors(loaded).values())
    loaded.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", WEIGHTS]
    first, second = (load_file(folder / WEIGHTS) for folder in (saved(name), tmp_path))
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    first, second = (json.loads((folder / "config.json").read_text()) for folder in (saved(name), tmp_path))
    assert without_types(first) == without_types(second)  # nor the folder that it was loaded from
    assert_same_results(loaded, expected, name)
    # A teacher that shared memory with its source would follow it at once, and safetensors drops one of two names.
    assert shared(loaded) == shared(expected)
    declared = loaded.all_tied_weights_keys
    for first, *others in shared(loaded):
        assert all(other in declared or declared.get(first) == other for other in others), (first, others)


def without_types(settings):
    """A configuration without the ``dtype`` that loading adds to those within it."""
    return {
        key: without_types(value) if isinstance(value, dict) else value
        for key, value in settings.items()
        if key != "dtype"
    }


@every
def test_what_a_checkpoint_lacks_is_initialized(name, tmp_path):
    """All keys are told as missing, and every tensor gets values of the kind that a new method has."""
    new = fresh(name)
    new.config.save_pretrained(tmp_path)
    save_file({"nobodys": torch.zeros(2)}, tmp_path / WEIGHTS, metadata={"format": "pt"})
    with uninitialized_memory_is_nan():
        loaded, info = type(new).from_pretrained(tmp_path, output_loading_info=True)
    tied = set(new.all_tied_weights_keys)
    assert set(info["missing_keys"]) - tied == set(new.state_dict()) - tied
    assert set(info["unexpected_keys"]) == {"nobodys"}
    found = tensors(loaded)
    for key, value in tensors(new).items():
        assert_of_a_kind(key, found[key], value)
    for teacher, source in loaded.teachers.items():
        copies = getattr(loaded, teacher).state_dict()
        assert all(torch.equal(copies[key], value) for key, value in getattr(loaded, source).state_dict().items())


def assert_of_a_kind(key, found, expected):
    assert found.shape == expected.shape and found.dtype == expected.dtype, key
    if not found.is_floating_point() or bool((expected == expected.flatten()[:1]).all()):
        assert torch.equal(found, expected), key
        return
    assert bool(found.isfinite().all()), key
    if found.numel() >= 100:
        spread = expected.std().item()
        assert 0.5 * spread < found.std().item() < 2 * spread, key
        assert abs(found.mean() - expected.mean()).item() < 8 * spread / found.numel() ** 0.5, key


@every
def test_a_method_built_without_memory_gets_its_buffers_and_weights(name):
    """On the meta device, as in sharded loading: what is not saved is made by ``init_weights``, and no tensor is left behind."""
    expected = trained(name)
    with torch.device("meta"):
        method = AutoModel.from_config(copy.deepcopy(expected.config))
    assert type(method) is type(expected)
    with uninitialized_memory_is_nan():
        method.to_empty(device="cpu")
    method.init_weights()
    method.load_state_dict(expected.state_dict())
    assert_same_tensors(method.eval(), expected)
    assert_same_results(method, expected, name)


@every
def test_meta_device_around_loading_is_refused(name, saved):
    with torch.device("meta"), pytest.raises(RuntimeError, match="meta device context manager"):
        type(trained(name)).from_pretrained(saved(name))


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in FEW else pytest.mark.slow) for name in NAMES])
def test_a_tensor_of_another_shape_is_refused_or_initialized(name, saved, tmp_path):
    """With ``ignore_mismatched_sizes`` that one is drawn anew, and all others are the checkpoint's."""
    expected = trained(name)
    outside = [key for key, value in expected.named_parameters() if value.requires_grad and value.ndim]
    key = next((key for key in outside if not key.startswith("encoder.")), outside[-1])
    weights = load_file(saved(name) / WEIGHTS)
    weights[key] = torch.zeros(len(weights[key]) + 1, *weights[key].shape[1:])
    save_file(weights, tmp_path / WEIGHTS, metadata={"format": "pt"})
    expected.config.save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        type(expected).from_pretrained(tmp_path)
    with uninitialized_memory_is_nan():
        loaded, info = type(expected).from_pretrained(tmp_path, ignore_mismatched_sizes=True, output_loading_info=True)
    assert [entry[0] for entry in info["mismatched_keys"]] == [key]
    assert_same_tensors(loaded, expected, without=key)
    assert_of_a_kind(key, tensors(loaded)[key], tensors(fresh(name))[key])


@every
def test_copies_are_equal_and_independent(name, tmp_path):
    """By ``copy.deepcopy``, ``pickle`` and ``torch.save`` of the state; after teachers have been updated."""
    method = trained(name)
    if method.teachers:
        method.update_teachers(0.5)
    method(**batch_of(name)).loss.backward()
    torch.save(method.state_dict(), tmp_path / "state.pt")
    restored = trained(name)
    with torch.no_grad():
        for value in restored.parameters():
            value.zero_()
    restored.load_state_dict(torch.load(tmp_path / "state.pt"))
    for other in (copy.deepcopy(method), pickle.loads(pickle.dumps(method)), restored):
        assert_same_tensors(other, method)
        pointers = {value.data_ptr() for value in tensors(method).values() if value.numel()}
        assert not pointers & {value.data_ptr() for value in tensors(other).values() if value.numel()}
    twin = copy.deepcopy(method)
    kept = {key: value.clone() for key, value in tensors(method).items()}
    if twin.teachers:
        twin.update_teachers(0.0)
    for teacher, source in twin.teachers.items():
        pairs = zip(getattr(twin, teacher).parameters(), getattr(twin, source).parameters())
        assert all(torch.equal(first, second) for first, second in pairs)
    assert all(torch.equal(value, kept[key]) for key, value in tensors(method).items())


@every
def test_a_configuration_survives_every_way_of_keeping_it(name, tmp_path):
    """``to_dict``, JSON, files, a subfolder, copies and ``AutoConfig``; transformers' common settings are taken."""
    method = trained(name)
    config, kind = method.config, type(method.config)
    assert config.backbone_config is method.encoder.config
    config.save_pretrained(tmp_path / "config")
    ways = {
        "to_dict": kind.from_dict(config.to_dict()),
        "JSON": kind.from_dict(json.loads(config.to_json_string())),
        "a file": kind.from_pretrained(tmp_path / "config"),
        "a subfolder": kind.from_pretrained(tmp_path, subfolder="config"),
        "AutoConfig": AutoConfig.from_pretrained(tmp_path / "config"),
        "a copy": copy.deepcopy(config),
        "pickle": pickle.loads(pickle.dumps(config)),
    }
    for way, other in ways.items():
        assert type(other) is kind and type(other.backbone_config) is type(config.backbone_config), way
        assert {**other.to_dict(), "_name_or_path": ""} == {**config.to_dict(), "_name_or_path": ""}, way
    other = kind.from_dict(config.to_dict(), num_labels=5, output_hidden_states=True)
    assert len(other.id2label) == 5 and other.output_hidden_states
    if name != "distill":  # which cannot be without a teacher
        assert kind.from_dict(kind().to_dict()).to_dict() == kind().to_dict()  # without arguments
