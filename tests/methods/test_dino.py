"""DINO: what its teacher, its center, its temperatures and its frozen layer do, and the paper's settings."""

import math

import pytest
import torch

from hfcontrast.methods.base import Progress
from hfcontrast.methods.contract.freezing import drop_frozen_gradients
from hfcontrast.methods.dino import DINO, DINOConfig
from hfcontrast.testing import TINY_BACKBONE, build, check_method, random_batch
from hfcontrast.training.optim import parameter_groups

SMALL = {"out_dim": 24, "hidden_dim": 16, "bottleneck_dim": 8}
TINY_RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "layer_type": "basic",
}


def train_step(method, batch, progress):
    """One optimizer step as the training does it."""
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=0.01, weight_decay=0.1)
    method.before_step(progress)
    output = method(**batch)
    output.loss.backward()
    drop_frozen_gradients(method, progress)
    optimizer.step()
    method.after_step([output], progress)
    return output


@pytest.mark.parametrize("learn_norm", [False, True])
def test_the_last_layer_is_frozen_in_the_first_epochs(learn_norm):
    method = build(DINO, **SMALL, freeze_last_layer_epochs=2, learn_prototype_norm=learn_norm)
    batch = random_batch(DINO, 4)
    before = {name: p.clone() for name, p in method.named_parameters() if p.requires_grad}
    train_step(method, batch, Progress(9, 100, steps_per_epoch=5))  # the last step of the second epoch
    for name, value in before.items():
        moved = not torch.equal(method.get_parameter(name), value)
        assert moved != name.startswith("prototypes."), name
    train_step(method, batch, Progress(10, 100, steps_per_epoch=5))
    assert not torch.equal(method.prototypes.weight, before["prototypes.weight"])


def test_the_teachers_temperature_warms_up_by_epochs():
    warmup = {"warmup_teacher_temperature": 0.04, "warmup_teacher_temperature_epochs": 30}
    method = build(DINO, **SMALL, teacher_temperature=0.07, **warmup)
    found = []
    for epoch in (0, 10, 15, 30, 99):
        method.before_step(Progress(epoch * 7 + 3, 700, steps_per_epoch=7))
        found.append(method.teacher_temperature)
    assert found == pytest.approx([0.04, 0.05, 0.055, 0.07, 0.07])
    plain = build(DINO, **SMALL, teacher_temperature=0.06)
    plain.before_step(Progress(0, 10))
    assert plain.teacher_temperature == 0.06


def test_the_temperature_reaches_the_loss():
    warmup = {"warmup_teacher_temperature": 0.01, "warmup_teacher_temperature_epochs": 10}
    method = build(DINO, **SMALL, teacher_temperature=1, **warmup)
    batch = random_batch(DINO, 4)
    losses = []
    for step in (0, 10):
        method.before_step(Progress(step, 20, 1))
        losses.append(method(**batch).loss.item())
    assert losses[0] != losses[1]


def test_the_center_follows_the_mean_of_the_teachers_logits():
    method = build(DINO, **SMALL, center_momentum=0.7)
    batches = [random_batch(DINO, 4), {k: v.flip(-1) if v.ndim > 1 else v for k, v in random_batch(DINO, 4).items()}]
    torch.nn.init.normal_(method.center)
    center, logits = method.center.clone(), []
    outputs = [method(**batch) for batch in batches]  # two micro-batches of one step
    for batch in batches:
        with torch.no_grad():
            features = method.encode(batch["pixel_values"], method.teacher_encoder)
            logits.append(method.teacher_prototypes(method.teacher_head(features)))
    method.after_step(outputs, Progress(3, 10))
    expected = 0.7 * center + 0.3 * torch.cat(logits).flatten(0, 1).mean(0)
    torch.testing.assert_close(method.center, expected)


@pytest.mark.parametrize("step", [0, 30, 100])
def test_the_teacher_is_a_moving_average(step):
    method = build(DINO, **SMALL, teacher_momentum=0.9)
    batch = random_batch(DINO, 4)
    with torch.no_grad():
        for parameter in method.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    students = {
        f"teacher_{name}": p for part in ("encoder", "head", "prototypes") for name, p in method.named_parameters()
        if name.split(".")[0] == part
    }  # fmt: skip
    before = {name: method.get_parameter(name).clone() for name in students}
    output = method(**batch)
    method.after_step([output], Progress(step, 100))
    momentum = 1 - 0.1 * (1 + math.cos(math.pi * step / 100)) / 2
    for name, student in students.items():
        expected = momentum * before[name] + (1 - momentum) * student
        torch.testing.assert_close(method.get_parameter(name), expected, rtol=1e-4, atol=1e-6)


def test_the_teacher_is_not_optimized():
    method = build(DINO, **SMALL)
    trained = {id(p) for group in parameter_groups(method, 0.1) for p in group["params"]}
    names = {name.split(".")[0] for name, p in method.named_parameters() if id(p) in trained}
    assert names == {"encoder", "head", "prototypes"}
    assert len(trained) == sum(p.requires_grad for p in method.parameters())


def test_local_crops_go_to_the_student_only():
    method = build(DINO, **SMALL)
    batch = random_batch(DINO, 3)
    seen = {"encoder": [], "teacher_encoder": []}
    for name, sizes in seen.items():
        getattr(method, name).register_forward_pre_hook(lambda _, inputs, s=sizes: s.append(tuple(inputs[0].shape)))
    embeddings = method.embed(batch["pixel_values"], batch["local_pixel_values"])
    assert seen["encoder"] == [(6, 3, 32, 32), (24, 3, 16, 16)] and seen["teacher_encoder"] == [(6, 3, 32, 32)]
    assert embeddings["student"].shape == (3, 10, 32) and embeddings["teacher"].shape == (3, 2, 32)
    assert not embeddings["teacher"].requires_grad
    # Student and teacher are equal at first: its first views are the global crops, in order.
    torch.testing.assert_close(embeddings["student"][:, :2], embeddings["teacher"], rtol=1e-4, atol=1e-5)


def test_two_global_crops_are_enough():
    method = build(DINO, **SMALL)
    output = method(pixel_values=random_batch(DINO, 3)["pixel_values"])
    assert torch.isfinite(output.loss)


def test_the_published_encoder_is_the_teacher():
    method = build(DINO, **SMALL)
    assert method.export_encoder() is method.teacher_encoder


def test_the_views_are_the_papers():
    first, second, local = DINO.views
    for view in DINO.views:
        assert (view.brightness, view.contrast, view.saturation, view.hue, view.jitter) == (0.4, 0.4, 0.2, 0.1, 0.8)
        assert (view.grayscale, view.horizontal_flip, view.blur_sigma) == (0.2, 0.5, (0.1, 2.0))
    for view in (first, second):
        assert (view.key, view.count, view.size, view.scale) == ("pixel_values", 1, 224, (0.4, 1.0))
    assert (local.key, local.count, local.size, local.scale) == ("local_pixel_values", 8, 96, (0.05, 0.4))
    assert [view.blur for view in DINO.views] == [1.0, 0.1, 0.5]
    assert [view.solarize for view in DINO.views] == [0.0, 0.2, 0.0]


def test_the_settings_are_the_papers():
    config = DINOConfig()
    assert (config.out_dim, config.hidden_dim, config.bottleneck_dim, config.head_layers) == (65536, 2048, 256, 3)
    assert (config.student_temperature, config.teacher_temperature) == (0.1, 0.04)
    assert (config.teacher_momentum, config.center_momentum, config.freeze_last_layer_epochs) == (0.996, 0.9, 1)


@pytest.mark.parametrize(
    "name, value", [("student_temperature", 0), ("teacher_momentum", 1.5), ("center_momentum", -1)]
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(Exception, match=f"{name} is {value}, expected a number"):
        DINOConfig(**{name: value})


@pytest.mark.parametrize(
    "backbone, options",
    [(TINY_BACKBONE, {}), (TINY_RESNET, {"head_batch_norm": True}), (TINY_BACKBONE, {"learn_prototype_norm": True})],
    ids=["vit", "resnet", "learned norms"],
)
def test_contract(backbone, options):
    check_method(DINO, backbone, **SMALL, **options)
