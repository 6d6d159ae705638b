"""DINOv2: what is masked, its three losses put together by hand, its schedules, and the authors' settings."""

import math

import pytest
import torch
from torch.nn import functional as F

from hfcontrast.errors import RecipeError
from hfcontrast.losses import sinkhorn
from hfcontrast.methods.base import Progress
from hfcontrast.methods.contract.freezing import drop_frozen_gradients
from hfcontrast.methods.contract.modules import copy_teachers
from hfcontrast.methods.contract.steps import start_step
from hfcontrast.methods.dinov2 import DINOv2, DINOv2Config
from hfcontrast.testing import TINY_BACKBONE, build, check_method, random_batch
from hfcontrast.training.optim import parameter_groups

SMALL = {"out_dim": 24, "hidden_dim": 16, "bottleneck_dim": 8}
REGISTERS = {**TINY_BACKBONE, "model_type": "dinov2_with_registers", "num_register_tokens": 3}
TINY_VIT = {**TINY_BACKBONE, "model_type": "vit"}


def keys(batch):
    return {name: batch[name] for name in ("pixel_values", "index", "local_pixel_values")}


def assignments(logits, center, temperature, centering):
    """The teacher's distributions: Sinkhorn's over the batch, or a centered softmax."""
    if centering == "sinkhorn":
        return sinkhorn(logits, temperature, 3)
    return ((logits - center) / temperature).softmax(-1)


def by_hand(method, batch, masks, crops_of_koleo=1):
    """The losses as the authors' code computes them: crop by crop, patch by patch."""
    config, images = method.config, len(batch["index"])
    patch_head = "patch" if config.separate_heads else "class"
    pixels, local = batch["pixel_values"], batch["local_pixel_values"]
    skip = 1 + getattr(method.encoder.config, "num_register_tokens", 0)
    hidden = [method.encoder(pixels[:, v], bool_masked_pos=masks[:, v]).last_hidden_state for v in range(2)]
    shown = [method.teacher_encoder(pixels[:, v]).last_hidden_state for v in range(2)]
    classes = [tokens[:, 0] for tokens in hidden]
    classes += [method.encoder(local[:, v]).last_hidden_state[:, 0] for v in range(local.shape[1])]
    student = [(method.heads["class"](tokens) / 0.1).log_softmax(-1) for tokens in classes]
    logits = torch.cat([method.teacher_heads["class"](tokens[:, 0]) for tokens in shown])
    teacher = assignments(logits, method.class_center, method.teacher_temperature, config.centering).split(images)
    pairs = [-(teacher[u] * student[v]).sum(-1).mean() for u in range(2) for v in range(len(student)) if u != v]
    dino = torch.stack(pairs).mean()

    patches = [(v, n) for v in range(2) for n in range(images) if masks[n, v].any()]
    logits = [method.teacher_heads[patch_head](shown[v][n, skip:][masks[n, v]]) for v, n in patches]
    teacher = assignments(torch.cat(logits), method.patch_center, method.teacher_temperature, config.centering)
    ibot = 0.0
    for (v, n), wanted in zip(patches, teacher.split([len(part) for part in logits])):
        found = (method.heads[patch_head](hidden[v][n, skip:][masks[n, v]]) / 0.1).log_softmax(-1)
        ibot = ibot - (wanted * found).sum(-1).mean() / (2 * images)

    koleo = 0.0
    for tokens in classes[:crops_of_koleo]:
        x = F.normalize(tokens, dim=-1)
        koleo = koleo - ((x[:, None] - x).norm(dim=-1) + 10 * torch.eye(images)).min(1).values.log().mean()
    return dino, ibot, koleo


@pytest.mark.parametrize(
    "backbone, options",
    [
        (None, {}),
        (REGISTERS, {"separate_heads": False, "koleo_crops": 2}),
        (None, {"centering": "softmax", "patch_bottleneck_dim": 5, "ibot_weight": 2, "dino_weight": 0.5}),
    ],
    ids=["sinkhorn", "registers, shared head", "softmax"],
)
def test_the_losses_are_those_of_the_authors_code(backbone, options):
    method = build(DINOv2, backbone, **SMALL, **options).double()
    if method.class_center is not None:
        torch.nn.init.normal_(method.class_center)
        torch.nn.init.normal_(method.patch_center)
    with torch.no_grad():  # a teacher that differs from its student
        for parameter in method.teacher_heads.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    batch = {k: v.double() if v.is_floating_point() else v for k, v in random_batch(DINOv2, 6).items()}
    start_step(method, Progress(2, 10))
    output = method(**batch)
    masks = method.masks(batch["index"], batch["pixel_values"])
    expected = by_hand(method, batch, masks, options.get("koleo_crops", 1))
    for name, value in zip(("dino", "ibot", "koleo"), expected):
        torch.testing.assert_close(output.metrics[name].double(), value.detach(), rtol=1e-4, atol=1e-4)
    total = (
        options.get("dino_weight", 1) * expected[0] + options.get("ibot_weight", 1) * expected[1] + 0.1 * expected[2]
    )
    torch.testing.assert_close(output.loss.double(), total, rtol=1e-4, atol=1e-4)
    trained = {name: p for name, p in method.named_parameters() if p.requires_grad}
    found, wanted = (torch.autograd.grad(loss, list(trained.values())) for loss in (output.loss, total))
    largest = max(float(gradient.abs().max()) for gradient in wanted)
    for name, mine, reference in zip(trained, found, wanted):
        assert (mine - reference).abs().max() < 1e-3 * largest, name


def test_half_of_the_crops_are_masked_and_the_masks_are_the_images_own():
    method = build(DINOv2, **SMALL)
    index, pixels = torch.arange(300), torch.zeros(300, 2, 3, 112, 112)  # 14 x 14 patches
    start_step(method, Progress(5, 10, seed=3))
    masks = method.masks(index, pixels)
    assert masks.shape == (300, 2, 196) and masks.dtype == torch.bool
    counts = masks.sum(-1)
    assert ((counts > 0).sum(1) == 1).all()  # one of the two
    assert 0.4 < (counts[:, 0] > 0).float().mean() < 0.6  # either
    shares = counts.max(1).values / 196
    assert 0.08 < shares.min() < 0.12 and 0.48 < shares.max() <= 0.5 and 0.28 < shares.mean() < 0.32
    torch.testing.assert_close(method.masks(index[40:50], pixels[40:50]), masks[40:50])
    for other in (Progress(6, 10, seed=3), Progress(5, 10, seed=4)):
        start_step(method, other)
        assert not torch.equal(method.masks(index, pixels), masks)


@pytest.mark.parametrize("probability", [0, 1])
def test_no_crop_or_every_crop_masked(probability):
    method = build(DINOv2, **SMALL, mask_probability=probability, mask_ratio_min=0.5)
    batch = random_batch(DINOv2, 4)
    masks = method.masks(batch["index"], batch["pixel_values"])
    assert (masks.any(-1) == bool(probability)).all()
    output = method(**batch)
    output.loss.backward()
    assert torch.isfinite(output.loss)
    assert (output.metrics["ibot"] > 0) == bool(probability)
    gradient = (
        method.encoder.embeddings.mask_token.grad
    )  # there even when it is zero: distributed training waits for it
    assert (gradient.abs().sum() > 0) == bool(probability)


@pytest.mark.parametrize("backbone, registers", [(None, 0), (REGISTERS, 3)], ids=["plain", "registers"])
def test_tokens_are_those_of_the_masked_patches(backbone, registers):
    method = build(DINOv2, backbone, **SMALL)
    batch = random_batch(DINOv2, 5)
    embeddings = method.embed(**keys(batch))
    masks = method.masks(batch["index"], batch["pixel_values"])
    assert embeddings["student"].shape == (5, 10, 32) and embeddings["teacher"].shape == (5, 2, 32)
    assert embeddings["student_patches"].shape == embeddings["teacher_patches"].shape == (5, 2, 8, 32)
    assert not embeddings["teacher"].requires_grad and not embeddings["teacher_patches"].requires_grad
    for image in range(5):
        for crop in range(2):
            mask, weights = masks[image, crop], embeddings["patch_weights"][image, crop]
            count = int(mask.sum())
            torch.testing.assert_close(weights, torch.tensor([1 / max(count, 1)] * count + [0.0] * (8 - count)))
            pixels = batch["pixel_values"][image, crop : crop + 1]
            student = method.encoder(pixels, bool_masked_pos=mask[None]).last_hidden_state[0]
            teacher = method.teacher_encoder(pixels).last_hidden_state[0]  # which sees the crop whole
            for name, tokens in (("student", student), ("teacher", teacher)):
                torch.testing.assert_close(embeddings[name][image, crop], tokens[0], rtol=1e-4, atol=1e-4)
                found = embeddings[f"{name}_patches"][image, crop, :count]
                torch.testing.assert_close(found, tokens[1 + registers :][mask], rtol=1e-4, atol=1e-4)


def test_running_means_follow_the_teachers_logits():
    method = build(DINOv2, **SMALL, centering="softmax", center_momentum=0.7)
    batches = [random_batch(DINOv2, 4), random_batch(DINOv2, 4)]
    batches[1]["index"] = batches[1]["index"] + 100  # other masks
    torch.nn.init.normal_(method.class_center)
    torch.nn.init.normal_(method.patch_center)
    before = method.class_center.clone(), method.patch_center.clone()
    logits = [], []
    for batch in batches:
        embeddings = method.embed(**keys(batch))
        logits[0].append(method.teacher_heads["class"](embeddings["teacher"]).flatten(0, 1))
        logits[1].append(method.teacher_heads["patch"](embeddings["teacher_patches"][embeddings["patch_weights"] > 0]))
    method.after_step([method(**batch) for batch in batches], Progress(3, 10))
    for old, values, new in zip(before, logits, (method.class_center, method.patch_center)):
        torch.testing.assert_close(new, 0.7 * old + 0.3 * torch.cat(values).mean(0).detach(), rtol=1e-4, atol=1e-5)
    assert build(DINOv2, **SMALL).class_center is None  # Sinkhorn keeps nothing


@pytest.mark.parametrize("step", [0, 30, 100])
def test_the_teacher_is_a_moving_average(step):
    method = build(DINOv2, **SMALL, teacher_momentum=0.9)
    with torch.no_grad():
        for parameter in (*method.encoder.parameters(), *method.heads.parameters()):
            parameter.add_(torch.randn_like(parameter) * 0.1)
    pairs = {
        f"teacher_{name}": p for name, p in method.named_parameters() if name.split(".")[0] in ("encoder", "heads")
    }
    before = {name: method.get_parameter(name).clone() for name in pairs}
    method.after_step([method(**random_batch(DINOv2, 4))], Progress(step, 100))
    momentum = 1 - 0.1 * (1 + math.cos(math.pi * step / 100)) / 2
    for name, student in pairs.items():
        expected = momentum * before[name] + (1 - momentum) * student
        torch.testing.assert_close(method.get_parameter(name), expected, rtol=1e-4, atol=1e-6)
    assert method.export_encoder() is method.teacher_encoder


def test_the_teachers_temperature_rises_step_by_step():
    method = build(DINOv2, **SMALL, warmup_teacher_temperature_epochs=10)
    found = []
    for step in (0, 25, 50, 99):
        start_step(method, Progress(step, 100, steps_per_epoch=5))
        found.append(method.teacher_temperature)
    assert found == pytest.approx([0.04, 0.055, 0.07, 0.07])
    method = build(DINOv2, **SMALL, warmup_teacher_temperature_epochs=0)
    start_step(method, Progress(0, 100))
    assert method.teacher_temperature == 0.07


def test_both_heads_prototypes_are_frozen_in_the_first_epochs():
    method = build(DINOv2, **SMALL, freeze_last_layer_epochs=2)
    prototypes = ("heads.class.1.", "heads.patch.1.")
    for step, frozen in ((9, True), (10, False)):
        method(**random_batch(DINOv2, 4)).loss.backward()
        drop_frozen_gradients(method, Progress(step, 100, steps_per_epoch=5))
        for name, parameter in method.named_parameters():
            if parameter.requires_grad:
                assert (parameter.grad is None) == (frozen and name.startswith(prototypes)), name
        method.zero_grad()


def test_what_is_trained_is_the_student_and_its_mask_token(tmp_path):
    method = build(DINOv2, **SMALL)
    method.save_pretrained(tmp_path)
    for model in (method, DINOv2.from_pretrained(tmp_path)):
        trained = {id(p) for group in parameter_groups(model, 0.1) for p in group["params"]}
        names = {name for name, p in model.named_parameters() if id(p) in trained}
        assert names == {n for n, _ in model.named_parameters() if not n.startswith("teacher_")}
        assert "encoder.embeddings.mask_token" in names


def test_released_weights_reach_the_teacher():
    method = build(DINOv2, **SMALL)
    with torch.no_grad():
        method.encoder.embeddings.cls_token.fill_(3.0)
    copy_teachers(method)
    assert (method.teacher_encoder.embeddings.cls_token == 3).all()


@pytest.mark.parametrize("backbone", [TINY_VIT, {**TINY_BACKBONE, "use_mask_token": False}], ids=["vit", "no token"])
def test_an_encoder_that_takes_no_masks_is_refused(backbone):
    with pytest.raises(RecipeError, match="model_type dinov2 or dinov2_with_registers and its mask token"):
        build(DINOv2, backbone, **SMALL)


def test_the_settings_are_the_authors():
    config = DINOv2Config()
    # ssl_default_config.yaml, with the centring and the separate heads of section 4 and of the large models' configurations.
    assert (config.out_dim, config.hidden_dim, config.bottleneck_dim, config.head_layers) == (65536, 2048, 256, 3)
    assert (config.dino_weight, config.ibot_weight, config.koleo_weight) == (1.0, 1.0, 0.1)
    assert (config.mask_probability, config.mask_ratio_min, config.mask_ratio_max) == (0.5, 0.1, 0.5)
    assert (config.centering, config.sinkhorn_iterations, config.separate_heads) == ("sinkhorn", 3, True)
    assert (config.warmup_teacher_temperature, config.teacher_temperature) == (0.04, 0.07)
    assert (config.warmup_teacher_temperature_epochs, config.freeze_last_layer_epochs) == (30, 1)
    assert (config.student_temperature, config.teacher_momentum, config.koleo_crops) == (0.1, 0.992, 1)
    first, second, local = DINOv2.views
    for view in DINOv2.views:
        assert (view.brightness, view.contrast, view.saturation, view.hue, view.jitter) == (0.4, 0.4, 0.2, 0.1, 0.8)
        assert (view.grayscale, view.horizontal_flip, view.blur_sigma) == (0.2, 0.5, (0.1, 2.0))
    for view in (first, second):
        assert (view.key, view.count, view.size, view.scale) == ("pixel_values", 1, 224, (0.32, 1.0))
    assert (local.key, local.count, local.size, local.scale) == ("local_pixel_values", 8, 96, (0.05, 0.32))
    assert [view.solarize for view in DINOv2.views] == [0.0, 0.2, 0.0]


@pytest.mark.parametrize(
    "options, words",
    [
        ({"teacher_temperature": 0}, "teacher_temperature is 0, expected a number above 0"),
        ({"mask_probability": 1.5}, "mask_probability is 1.5, expected a number between 0 and 1"),
        ({"mask_ratio_min": 0.6}, "mask_ratio_min is 0.6, above mask_ratio_max 0.5"),
        ({"head_batch_norm": True, "separate_heads": False}, "it needs separate_heads"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, words):
    with pytest.raises(Exception, match=words):
        DINOv2Config(**options)


@pytest.mark.parametrize(
    "backbone, options",
    [(TINY_BACKBONE, {"head_batch_norm": True}), (REGISTERS, {"centering": "softmax", "separate_heads": False})],
    ids=["sinkhorn", "registers, softmax"],
)
def test_contract(backbone, options):
    check_method(DINOv2, backbone, **SMALL, **options)
