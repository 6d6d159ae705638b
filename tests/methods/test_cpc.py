"""CPC: its patches, its loss written out prediction by prediction, the papers' settings, and what it learns of signals."""

import doctest
import math

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from hfcontrast.encoders import SignalEncoderConfig, SignalEncoderModel, encode
from hfcontrast.errors import RecipeError
from hfcontrast.methods import cpc
from hfcontrast.methods.base import Progress
from hfcontrast.methods.contract.steps import start_step
from hfcontrast.methods.cpc import CPC, CPCConfig
from hfcontrast.methods.cpc.context import GRUContext, MaskedConvContext
from hfcontrast.testing import (
    TINY_BACKBONE,
    build,
    check_forward_changes_nothing,
    check_gradients,
    check_learns,
    check_method,
    check_processes,
    check_round_trip,
    check_samples_apart,
    check_step,
    random_batch,
)

TINY_RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "layer_type": "basic",
}
SMALL = {"patch_size": 8, "stride": 8, "patch_jitter": 0, "prediction_steps": 2, "context_dim": 8, "context_layers": 2, "target_dim": 5}  # fmt: skip
SIGNALS = {"conv_dim": [24, 24, 24], "conv_kernel": [8, 4, 4], "conv_stride": [4, 2, 2], "hidden_size": 24}


def of_signals(steps=3, **options):
    config = SignalEncoderConfig(**SIGNALS)
    return CPC(CPCConfig(backbone_config=config, prediction_steps=steps, **options)).train()


def info_nce(predictions, candidates, places):
    losses = []
    for place, prediction in zip(places, predictions):
        scores = candidates @ prediction
        losses.append(torch.logsumexp(scores, dim=0) - scores[place])
    return torch.stack(losses).mean()


def test_patches_are_distorted_by_the_images_number_and_the_step():
    kinds = {
        "patch_jitter": 3,
        "patch_contrast": 0.5,
        "patch_brightness": 0.5,
        "patch_color_drop": 0.5,
        "patch_flip": 0.5,
    }
    method = build(CPC, **{**SMALL, **kinds})
    images, index = torch.randn(3, 1, 3, 32, 32), torch.tensor([4, 9, 2])
    start_step(method, Progress(5, 10))
    first = method.embed(images, index=index)["features"]
    torch.testing.assert_close(method.embed(images[1:], index=index[1:])["features"], first[1:], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        method.embed(images.flip(0), index=index.flip(0))["features"].flip(0), first, rtol=1e-4, atol=1e-5
    )
    assert method.embed(images)["features"].shape == first.shape
    start_step(method, Progress(6, 10))
    assert not torch.allclose(method.embed(images, index=index)["features"], first)


@pytest.mark.parametrize("context", ["conv", "gru"])
@pytest.mark.parametrize("skipped", [0, 1])
def test_the_loss_is_that_of_every_prediction(context, skipped):
    method = build(CPC, **SMALL, context=context, skipped_steps=skipped, directions=["down", "left"])
    batch = random_batch(CPC, 3)
    features = torch.stack(  # (3, 4, 4, D), each patch by itself
        [
            torch.stack(
                [encode(method.encoder, batch["pixel_values"][:, 0, :, 8 * r : 8 * r + 8, 8 * c : 8 * c + 8]) for c in range(4)],
                dim=1,
            )
            for r in range(4)
        ],
        dim=1,
    )  # fmt: skip
    losses = []
    for direction in ("down", "left"):
        heads = method.predictors[direction]
        grid = features if direction == "down" else features.transpose(1, 2).flip(1)
        contexts, targets = heads.context(grid), heads.target(grid)
        for number, step in enumerate(range(skipped + 1, 3)):
            predictions, places = [], []
            for b in range(3):
                for r in range(4 - step):
                    for c in range(4):
                        predictions.append(0.1 * heads.predict[number](contexts[b, r, c]))
                        places.append((b * 4 + r + step) * 4 + c)
            losses.append(info_nce(predictions, targets.flatten(0, 2), places))
    output = method(**batch)
    expected = torch.stack(losses).mean()
    torch.testing.assert_close(output.loss, expected, rtol=1e-4, atol=1e-5)
    bound = math.log(3 * 4 * 4) - expected.item()
    assert output.metrics["mutual_information"].item() == pytest.approx(bound, abs=1e-4)
    assert output.embeddings.shape == (3, 16, 5)
    assert {type(heads.context) for heads in method.predictors.values()} == {
        {"conv": MaskedConvContext, "gru": GRUContext}[context]
    }


def test_the_encoder_sees_patches_and_is_published():
    method = build(CPC, **SMALL)
    seen = []
    method.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    embeddings = method.embed(random_batch(CPC, 2)["pixel_values"])
    assert seen == [(2 * 16, 3, 8, 8)] and embeddings["features"].shape == (2, 4, 4, 32)
    assert method.export_encoder() is method.encoder


def test_the_views_and_settings_are_the_papers():
    (view,) = CPC.views
    assert (view.count, view.size, view.ratio, view.horizontal_flip, view.grayscale) == (1, 256, (1.0, 1.0), 0.5, 1.0)
    assert view.scale[0] == view.scale[1] == pytest.approx((256 / 300) ** 2, abs=1e-3)
    config = CPCConfig()
    assert (config.patch_size, config.stride, config.patch_jitter, config.directions) == (64, 32, 4, ("down",))
    assert config.patch_contrast == config.patch_brightness == config.patch_color_drop == config.patch_flip == 0
    images = build(CPC)
    assert list(images.steps) == [1, 2, 3, 4, 5] and images.scale == 0.1
    assert images.predictors["down"].target.out_features == 64 and len(images.predictors["down"].context.blocks) == 5
    signals = CPC(CPCConfig(backbone_config=SignalEncoderConfig()))
    assert list(signals.steps) == list(range(1, 13)) and signals.scale == 1
    assert signals.encoder.config.hidden_size == 256
    predict = signals.predictors["down"].predict
    assert {(layer.in_features, layer.out_features) for layer in predict} == {(256, 512)}


@pytest.mark.parametrize(
    "options, words",
    [
        ({"stride": 0}, "stride is 0, expected 1 pixel or more"),
        ({"patch_jitter": 64}, "patch_jitter is 64, expected 0 or more pixels, fewer than patch_size"),
        ({"patch_contrast": -1}, "patch_contrast is -1, expected 0 or more"),
        ({"patch_flip": 1.5}, "patch_flip is 1.5, expected a probability between 0 and 1"),
        ({"directions": []}, r"directions is \[\], expected different ones of down, up, right, left"),
        ({"directions": ["up", "up"]}, "expected different ones"),
        (
            {"skipped_steps": 3, "prediction_steps": 3},
            "prediction_steps is 3 and skipped_steps 3: expected more of the first",
        ),
        ({"skipped_steps": -1}, "skipped_steps -1"),
        ({"prediction_scale": 0}, "prediction_scale is 0, expected a number above 0"),
    ],
)
def test_settings_out_of_range_are_refused(options, words):
    with pytest.raises(Exception, match=words):
        CPCConfig(**options)


def test_data_that_do_not_fit_are_refused():
    method = build(CPC, **{**SMALL, "prediction_steps": 4})
    with pytest.raises(
        ValueError, match="4 steps lie in a row of patches.*to predict 4 steps ahead: lower prediction_steps"
    ):
        method(**random_batch(CPC, 2))
    with pytest.raises(ValueError, match="CPC takes one crop of an image, which it cuts into patches; got 2"):
        method.embed(torch.randn(1, 2, 3, 32, 32))
    with pytest.raises(ValueError, match="this CPC encodes signals: give it input_values"):
        of_signals()(pixel_values=torch.randn(1, 1, 3, 32, 32))
    with pytest.raises(ValueError, match="too few to predict 3 steps ahead.*or longer signals"):
        of_signals()(input_values=torch.randn(2, 1, 40))
    with pytest.raises(ValueError, match="skipped_steps is 5, and 5 steps are predicted: set prediction_steps"):
        build(CPC, skipped_steps=5)
    with pytest.raises(ValueError, match="a signal is predicted forward only"):
        of_signals(directions=["down", "up"])
    timm_vit = {"model_type": "timm_wrapper", "architecture": "vit_tiny_patch16_224", "model_args": {"img_size": 32}}
    with pytest.raises(RecipeError, match="method.patch_size is 64 px, which encoder .* cannot take.*dynamic_img_size"):
        build(CPC, timm_vit)


@pytest.mark.parametrize(
    "backbone, options",
    [
        (TINY_BACKBONE, {"patch_jitter": 2, "directions": ["down", "right"]}),
        (TINY_RESNET, {"context": "gru", "stride": 6}),
    ],
    ids=["vit, conv", "resnet, gru"],
)
def test_contract(backbone, options):
    check_method(CPC, backbone, **{**SMALL, **options})


def test_contract_with_signals():
    """The contract suite makes images; with signals its parts are called one by one."""
    method = of_signals()
    batch = {"input_values": torch.randn(8, 1, 160), "index": torch.arange(8)}
    for check in (check_step, check_gradients, check_forward_changes_nothing, check_samples_apart, check_round_trip):
        check(method, batch)
    check_processes(method, batch)
    check_learns(of_signals(), batch, 20)


def test_the_loss_of_signals_is_that_of_every_prediction():
    method, signals = of_signals(2), torch.randn(3, 1, 128)
    outputs = method.encoder(signals)
    contexts, features = outputs.last_hidden_state, outputs.extract_features
    losses = []
    for step, predict in zip((1, 2), method.predictors["down"].predict):
        pairs = [(b, t) for b in range(3) for t in range(8 - step)]
        places = [8 * b + t + step for b, t in pairs]
        losses.append(info_nce([predict(contexts[b, t]) for b, t in pairs], features.flatten(0, 1), places))
    torch.testing.assert_close(method(input_values=signals).loss, torch.stack(losses).mean(), rtol=1e-4, atol=1e-5)


def sweeps(count, generator, length=384, noise=0.3):
    """Tones of any pitch in noise, (B, 1, T), that rise, fall, stay or waver: which of the four is their class."""
    kind = torch.arange(count) % 4
    pitch = 0.03 + 0.05 * torch.rand(count, 1, generator=generator)  # cycles a sample
    phase = torch.rand(count, 2, 1, generator=generator)
    time = torch.arange(length) / length
    slope = torch.tensor([1.0, -1.0, 0.0, 0.0])[kind].unsqueeze(1)
    frequency = torch.where(slope < 0, 2 * pitch, pitch) + slope * pitch * time
    frequency += (kind == 3).unsqueeze(1) * 0.5 * pitch * torch.sin(2 * math.pi * (6 * time + phase[:, 0]))
    signals = torch.sin(2 * math.pi * (frequency.cumsum(dim=1) + phase[:, 1]))
    signals = signals + noise * torch.randn(count, length, generator=generator)
    return (signals / signals.std()).unsqueeze(1), kind


def probe(encoder: SignalEncoderModel, train, test) -> float:
    """Accuracy of a linear classifier on the mean of the contexts."""
    with torch.no_grad():
        features, queries = (encode(encoder.eval(), signals) for signals, _ in (train, test))
    encoder.train()
    mean, std = features.mean(dim=0), features.std(dim=0) + 1e-6
    classifier = LogisticRegression(max_iter=300).fit((features - mean) / std, train[1])
    return classifier.score((queries - mean) / std, test[1])


def test_it_learns_to_predict_signals():
    generator = torch.Generator().manual_seed(0)
    train, test = sweeps(256, generator), sweeps(512, generator)
    method, steps = of_signals(6), 150
    optimizer = torch.optim.Adam(method.parameters(), lr=4e-3)
    untrained = probe(method.export_encoder(), train, test)
    for step in range(steps):
        start_step(method, Progress(step, steps))
        output = method(input_values=sweeps(16, generator)[0])
        output.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    trained = probe(method.export_encoder(), train, test)
    assert output.metrics["mutual_information"] > 0.8  # nats
    assert untrained < 0.6 and trained > untrained + 0.25, f"{untrained:.3f} before, {trained:.3f} after"


def test_the_example_runs():
    results = doctest.testmod(cpc.method)
    assert results.attempted >= 10 and results.failed == 0
