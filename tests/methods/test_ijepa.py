"""I-JEPA: its loss patch by patch, what the context hides, that images are apart, its target encoder, and the paper's settings."""

import pytest
import torch
from torch.nn import functional as F

from hfcontrast.encoders.vit import sincos_positions
from hfcontrast.errors import RecipeError
from hfcontrast.methods.base import Progress
from hfcontrast.methods.contract.steps import start_step
from hfcontrast.methods.ijepa import IJEPA, IJEPAConfig
from hfcontrast.testing import build, check_method, random_batch

SMALL = {"predictor_width": 16, "predictor_depth": 2}
VIT = {
    "model_type": "ijepa",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 4,
    "initializer_range": 0.2,  # so that tokens of a narrow model move each other
}


def apart(method):
    """The method with a target encoder that differs from its encoder."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in method.target_encoder.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return method


def predictions_by_hand(method, crop, context, target):
    """One block of one image: the context's tokens alone through the layers, then the predictor with that block alone."""
    encoder, predictor = method.encoder, method.predictor
    tokens = encoder.embeddings(crop.unsqueeze(0))[:, context]
    for layer in encoder.layers:
        tokens = layer(tokens)
    positions = sincos_positions(8, 8, 16)
    tokens = predictor.embed(encoder.layernorm(tokens)) + positions[context]
    queries = predictor.mask_token[0] + positions[target]
    tokens = torch.cat([tokens, queries], dim=1)
    for layer in predictor.blocks.layers:
        tokens = layer(tokens)
    return predictor.project(predictor.blocks.norm(tokens))[0, int(context.sum()) :]


def test_the_loss_is_that_of_the_authors_code_image_by_image():
    method, batch = apart(build(IJEPA, VIT, **SMALL)), random_batch(IJEPA, 5)
    start_step(method, Progress(9, 20, 5, seed=3))
    crops = batch["pixel_values"][:, 0]
    context, targets = method.masks(batch["index"], crops)
    assert len(set(context.sum(dim=1).tolist())) > 1 and len(set(targets[:, 0].sum(dim=1).tolist())) > 1
    errors = []
    for sample in range(5):
        features = method.target_encoder(crops[sample : sample + 1]).last_hidden_state[0]
        wanted = (features - features.mean(-1, keepdim=True)) / (
            features.var(-1, unbiased=False, keepdim=True) + 1e-5
        ).sqrt()
        for target in targets[sample]:
            away = (predictions_by_hand(method, crops[sample], context[sample], target) - wanted[target]).abs()
            errors.append(torch.where(away < 1, away**2 / 2, away - 0.5).mean(dim=1))
    expected, output = torch.cat(errors).mean(), method(**batch)
    torch.testing.assert_close(output.loss, expected, rtol=1e-4, atol=1e-5)
    assert float(output.metrics["predicted_patches"]) == pytest.approx(len(torch.cat(errors)) / 5)
    trained = {name: p for name, p in method.named_parameters() if p.requires_grad}
    mine, reference = (torch.autograd.grad(loss, list(trained.values())) for loss in (output.loss, expected))
    largest = max(float(gradient.abs().max()) for gradient in reference)
    for name, found, wanted in zip(trained, mine, reference):
        assert (found - wanted).abs().max() < 1e-3 * largest, name


def test_nothing_outside_the_context_reaches_a_prediction():
    method, batch = build(IJEPA, VIT, **SMALL).eval(), random_batch(IJEPA, 4)
    crops = batch["pixel_values"][:, 0]
    with torch.no_grad():
        context, targets = method.masks(batch["index"], crops)
        prediction, places, present = method.predict(crops, context, targets)
        seen = F.interpolate(context.view(4, 1, 8, 8).float(), scale_factor=4).bool()
        hidden, *_ = method.predict(torch.where(seen, crops, 9.0), context, targets)
        shown, *_ = method.predict(torch.where(seen, 9.0, crops), context, targets)
    torch.testing.assert_close(hidden[present], prediction[present])
    assert (shown - prediction)[present].abs().max() > 0.1
    for sample, block in ((0, 0), (3, 2)):
        assert (
            places[sample, block][present[sample, block]].tolist()
            == targets[sample, block].nonzero().flatten().tolist()
        )


def test_an_image_is_not_touched_by_the_others_in_its_batch():
    """Others have longer contexts and larger blocks, so that it is padded."""
    method, batch = build(IJEPA, VIT, **SMALL).eval(), random_batch(IJEPA, 12)
    with torch.no_grad():
        together = method.embed(batch["pixel_values"], batch["index"])
        for sample in range(12):
            alone = method.embed(batch["pixel_values"][sample : sample + 1], batch["index"][sample : sample + 1])
            for name, value in alone.items():
                torch.testing.assert_close(value[0], together[name][sample], rtol=1e-4, atol=1e-5)


def test_masks_are_functions_of_seed_epoch_and_image():
    method, index, crops = build(IJEPA, VIT, **SMALL), torch.arange(40), torch.zeros(40, 3, 32, 32)

    def masks(step, seed=0, pick=slice(None)):
        start_step(method, Progress(step, 60, 5, seed=seed))
        return torch.cat([part.flatten(1) for part in method.masks(index[pick], crops[pick])], dim=1)

    first = masks(6)
    assert torch.equal(masks(9), first) and torch.equal(masks(6, pick=slice(20, 30)), first[20:30])
    assert not torch.equal(masks(10), first) and not torch.equal(masks(6, seed=1), first)
    assert len(first.unique(dim=0)) == 40
    assert (method.masks(index, crops)[0].sum(dim=1) >= 10).all()
    small = torch.zeros(40, 3, 16, 16)  # 4 x 4 patches: a quarter of them at least
    assert (method.masks(index, small)[0].sum(dim=1) >= 4).all()


def test_the_target_encoder_follows_along_a_line_and_is_published():
    method, batch = build(IJEPA, VIT, **SMALL, momentum=0.9), random_batch(IJEPA, 4)
    assert method.export_encoder() is method.target_encoder
    output = method(**batch)
    with torch.no_grad():
        method.encoder.layernorm.weight.fill_(3.0)
    for step, momentum in ((0, 0.9), (5, 0.95), (10, 1.0)):
        before = method.target_encoder.layernorm.weight.clone()
        method.after_step([output], Progress(step, 10))
        torch.testing.assert_close(method.target_encoder.layernorm.weight, before * momentum + 3 * (1 - momentum))


def test_positions_are_sines_and_cosines_in_both_encoders():
    method = build(IJEPA, VIT, **SMALL)
    for encoder in (method.encoder, method.target_encoder):
        positions = encoder.embeddings.position_embeddings
        assert not positions.requires_grad and torch.equal(positions[0], sincos_positions(8, 8, 32))
    assert method.predictor.mask_token.requires_grad and 0.1 < method.predictor.mask_token.std() < 0.3
    assert 0.18 < method.predictor.blocks.layers[0].mlp.fc1.weight.std() < 0.22


def test_other_sizes_than_the_configured_one():
    method = build(IJEPA, VIT, **SMALL)
    embeddings = method.embed(torch.randn(3, 1, 3, 48, 48), torch.arange(3))
    assert torch.isfinite(embeddings["error"]).all() and (embeddings["context"] > 10).all()


def test_several_views_of_an_image_have_masks_of_their_own():
    method = build(IJEPA, VIT, **SMALL)
    crops = torch.randn(3, 1, 3, 32, 32).expand(-1, 2, -1, -1, -1)
    context, _ = method.masks(torch.arange(3), crops.flatten(0, 1))
    assert len(context.unique(dim=0)) == 6
    embeddings = method.embed(crops, torch.arange(3))
    assert embeddings["features"].shape == (3, 2, 32) and embeddings["error"].shape == (3,)
    assert torch.equal(embeddings["context"], context.sum(dim=1).view(3, 2).sum(dim=1))


def test_images_show_context_targets_and_features():
    method, batch = build(IJEPA, VIT, **SMALL).eval(), random_batch(IJEPA, 4)
    with torch.no_grad():
        pictures = method.visualize(batch["pixel_values"], batch["index"])
    assert list(pictures) == ["context", "targets", "target features", "predicted features", "original"]
    assert all(picture.shape == (4, 3, 32, 32) for picture in pictures.values())
    context, targets = method.masks(batch["index"], batch["pixel_values"][:, 0])
    for heading, mask in (("context", context), ("targets", targets.any(dim=1))):
        kept = F.interpolate(mask.view(4, 1, 8, 8).float(), scale_factor=4)
        assert torch.equal(pictures[heading], pictures["original"] * kept)
    colored = pictures["predicted features"][:, :, ::4, ::4].abs().sum(dim=1).flatten(1) > 0
    assert torch.equal(colored, targets.any(dim=1))


def test_half_precision_computes_errors_in_full_precision():
    method, batch = apart(build(IJEPA, VIT, **SMALL)), random_batch(IJEPA, 4)
    exact = method(**batch).loss
    with torch.autocast("cpu", torch.bfloat16):
        output = method(**batch)
    assert output.loss.dtype == torch.float32 and output.loss.item() == pytest.approx(exact.item(), rel=0.03)


def test_an_encoder_that_is_no_ijepa_is_refused():
    with pytest.raises(RecipeError, match="use a backbone with model_type ijepa"):
        build(IJEPA, **SMALL)


def test_heads_must_divide_the_predictors_width():
    with pytest.raises(ValueError, match="3 attention heads do not divide a width of 16"):
        build(IJEPA, VIT, **SMALL, predictor_heads=3)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"targets": 0}, "targets is 0, expected 1 or more"),
        ({"target_scale": [0.3, 0.2]}, r"target_scale is \[0.3, 0.2\], expected a range"),
        ({"context_scale": [0.5, 1.5]}, r"expected a range \[low, high\] within"),
        ({"target_aspect": [0.0, 1.5]}, r"expected a range \[low, high\] above 0"),
        ({"target_scale": [0.2]}, "expected a range"),
        ({"predictor_width": 30}, "predictor_width is 30, expected a multiple of 4"),
        ({"momentum": 1.5}, "momentum is 1.5, expected a number between 0 and 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, words):
    with pytest.raises(Exception, match=words):
        IJEPAConfig(**options)


def test_the_settings_are_the_papers():
    config, (view,) = IJEPAConfig(), IJEPA.views
    assert (config.targets, tuple(config.target_scale), tuple(config.target_aspect)) == (4, (0.15, 0.2), (0.75, 1.5))
    assert (tuple(config.context_scale), config.min_keep, config.momentum) == ((0.85, 1.0), 10, 0.996)
    assert (config.predictor_width, config.predictor_depth) == (384, 6)
    assert (view.size, view.scale, view.horizontal_flip, view.jitter, view.blur) == (224, (0.3, 1.0), 0, 0, 0)


def test_contract():
    check_method(IJEPA, VIT, **SMALL)
