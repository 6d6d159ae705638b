"""SimCLR v2: its deeper head, its memory, the layers that stay for fine-tuning, and the paper's settings."""

import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModel, AutoModelForImageClassification

from hfcontrast.encoders import encode
from hfcontrast.methods.base import Progress
from hfcontrast.methods.simclr import SimCLR
from hfcontrast.methods.simclr_v2 import SimCLRV2, SimCLRV2Config
from hfcontrast.testing import TINY_BACKBONE, build, check_method, random_batch

TINY_RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "layer_type": "basic",
}
VIT = {
    "model_type": "vit",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}
VIT |= {"image_size": 32, "patch_size": 8}
TIMM = {"model_type": "timm_wrapper", "architecture": "test_resnet", "model_args": {}, "num_labels": 0}
MEMORY = {"memory": True, "memory_size": 40, "projection_dim": 8}


def project(head, rows):
    """Linear, batch normalization and ReLU, three times; no ReLU after the last."""
    for number in range(0, len(head), 3):
        linear, norm = head[number], head[number + 1]
        rows = F.batch_norm(rows @ linear.weight.T, None, None, norm.weight, norm.bias, True)
        rows = rows.relu() if number + 2 < len(head) else rows
    return F.normalize(rows, dim=1)


def by_hand(z, memory, temperature):
    """NT-Xent, views 2k and 2k + 1 a pair, with the memory's rows in every denominator."""
    similarity = (z @ z.T / temperature).exp()
    similarity = similarity - torch.diag(similarity.diagonal())
    pair = torch.arange(len(z)) ^ 1
    sums = similarity.sum(1) + (z @ memory.T / temperature).exp().sum(1)
    return -(similarity[torch.arange(len(z)), pair] / sums).log().mean()


@pytest.mark.parametrize("options", [{"projection_dim": 8}, MEMORY], ids=["plain", "memory"])
@pytest.mark.parametrize("layers", [2, 3, 4])
def test_the_loss_is_that_of_the_parts(options, layers):
    method = build(SimCLRV2, **options, hidden_dim=12, head_layers=layers, temperature=0.5)
    pixels = random_batch(SimCLRV2, 5)["pixel_values"]
    z = project(method.projector, encode(method.encoder, pixels.flatten(0, 1)))
    memory = method.memory.rows if options.get("memory") else torch.zeros(0, 8)
    output = method(pixel_values=pixels)
    torch.testing.assert_close(output.loss, by_hand(z, memory, 0.5), rtol=1e-4, atol=1e-5)


def test_the_head_is_the_papers():
    method = build(SimCLRV2)
    layers = ["Linear", "BatchNorm1d", "ReLU"]
    assert [type(layer).__name__ for layer in method.projector] == [*layers, *layers, "Linear", "BatchNorm1d"]
    width = method.feature_size
    assert [method.projector[n].out_features for n in (0, 3, 6)] == [width, width, 128]
    assert not method.projector[-1].bias.requires_grad and method.projector[-1].weight.requires_grad
    assert not hasattr(method, "memory") and not method.teachers


def test_the_memory_is_filled_after_the_loss():
    method = build(SimCLRV2, **MEMORY, memory_momentum=0.5)
    with torch.no_grad():
        for parameter in (*method.memory_encoder.parameters(), *method.memory_projector.parameters()):
            parameter.add_(torch.randn_like(parameter) * 0.05)
    pixels, before = random_batch(SimCLRV2, 5)["pixel_values"], method.memory.rows.clone()
    keys = project(method.memory_projector, encode(method.memory_encoder, pixels.flatten(0, 1)))
    output = method(pixel_values=pixels)
    assert torch.equal(method.memory.rows, before)
    weights = {name: p.clone() for name, p in method.named_parameters()}
    method.after_step([output], Progress(0, 10))
    torch.testing.assert_close(method.memory.rows[:10], keys.detach(), rtol=1e-4, atol=1e-5)
    assert torch.equal(method.memory.rows[10:], before[10:])
    for name, parameter in method.named_parameters():
        if name.startswith("memory_"):
            source = name.removeprefix("memory_")
            torch.testing.assert_close(parameter, (weights[name] + weights[source]) / 2, rtol=1e-4, atol=1e-6)
            assert not parameter.requires_grad


@pytest.mark.parametrize("backbone", [None, TINY_RESNET, VIT, TIMM], ids=["dinov2", "resnet", "vit", "timm"])
@pytest.mark.parametrize("layers", [0, 1, 2])
def test_the_first_layers_stay_with_the_encoder(backbone, layers, tmp_path):
    method = build(SimCLRV2, backbone, hidden_dim=12)
    pixels = torch.randn(3, 3, 32, 32)
    for batch in torch.randn(3, 4, 2, 3, 32, 32):
        method(pixel_values=batch)  # running statistics of their own
    method.finetune_encoder(layers).save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path).eval()
    method.eval()
    with torch.no_grad():
        expected = encode(method.encoder, pixels)
        for layer in list(method.projector)[: 3 * layers]:
            expected = layer(expected)
        torch.testing.assert_close(loaded(pixels).pooler_output, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(encode(loaded, pixels), expected, rtol=1e-4, atol=1e-5)


def test_as_many_layers_are_kept_as_the_configuration_says():
    found = [build(SimCLRV2, keep_head_layers=count).finetune_encoder() for count in (0, 1, 2)]
    assert [len(model.head) for model in found] == [0, 3, 6]
    assert len(build(SimCLRV2).finetune_encoder().head) == 3  # the paper's first layer
    with pytest.raises(ValueError, match="head_layers is 3, expected at least 0 and less than 3"):
        build(SimCLRV2).finetune_encoder(3)


def test_a_copy_is_fine_tuned():
    method = build(SimCLRV2, TINY_RESNET)
    model = method.finetune_encoder()
    before = {name: value.clone() for name, value in method.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())


def test_a_classifier_is_fine_tuned_from_the_first_layer(tmp_path):
    method = build(SimCLRV2, TINY_RESNET, hidden_dim=12)
    kept = method.finetune_encoder()
    kept.save_pretrained(tmp_path)
    model = AutoModelForImageClassification.from_pretrained(tmp_path, num_labels=3).train()
    for name, value in kept.state_dict().items():
        assert torch.equal(model.model.state_dict()[name], value), name
    pixels, labels = torch.randn(6, 3, 32, 32), torch.arange(6) % 3
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(15):
        output = model(pixels, labels=labels)
        output.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(output.loss.item())
    assert losses[0] == pytest.approx(torch.log(torch.tensor(3.0)).item(), abs=1e-5)  # the classifier starts at zero
    assert losses[-1] < 0.5 * losses[0]


ELSEWHERE = """
import sys
sys.modules["hfcontrast"] = None  # any import of it fails
import torch
from transformers import AutoModel, AutoModelForImageClassification
torch.set_num_threads(1)
folder = sys.argv[1]
pixels = torch.load(f"{folder}/pixels.pt")
model = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
classifier = AutoModelForImageClassification.from_pretrained(folder, trust_remote_code=True, num_labels=5).eval()
with torch.no_grad():
    found = model(pixels).pooler_output
    assert torch.equal(classifier.model(pixels).pooler_output, found)
    assert torch.equal(classifier(pixels).logits, torch.zeros(2, 5))
torch.save(found, f"{folder}/found.pt")
"""


def test_the_kept_layers_load_without_this_package(tmp_path):
    model, pixels = build(SimCLRV2, TINY_RESNET).finetune_encoder(), torch.randn(2, 3, 32, 32)
    model.save_pretrained(tmp_path)
    torch.save(pixels, tmp_path / "pixels.pt")
    done = subprocess.run([sys.executable, "-c", ELSEWHERE, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        torch.testing.assert_close(torch.load(tmp_path / "found.pt"), model(pixels).pooler_output)


def test_the_published_encoder_is_the_plain_one():
    method = build(SimCLRV2, **MEMORY)
    assert method.export_encoder() is method.encoder


def test_the_settings_are_the_papers():
    config = SimCLRV2Config()
    assert (config.head_layers, config.keep_head_layers, config.projection_dim, config.hidden_dim) == (3, 1, 128, None)
    assert (config.temperature, config.memory_size, config.memory_momentum) == (0.1, 65536, 0.999)
    assert SimCLRV2.views == SimCLR.views


@pytest.mark.parametrize(
    "options, message",
    [
        ({"temperature": 0}, "temperature is 0, expected"),
        ({"memory_size": 0}, "memory_size is 0, expected"),
        ({"memory_momentum": 2}, "memory_momentum is 2, expected"),
        ({"head_layers": 0}, "head_layers is 0, expected"),
        ({"keep_head_layers": 3}, "keep_head_layers is 3, expected at least 0 and less than head_layers, 3"),
        ({"keep_head_layers": -1}, "keep_head_layers is -1, expected"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(Exception, match=message):
        SimCLRV2Config(**options)


@pytest.mark.parametrize(
    "backbone, options", [(TINY_BACKBONE, MEMORY), (TINY_RESNET, {"projection_dim": 8})], ids=["vit, memory", "resnet"]
)
def test_contract(backbone, options):
    check_method(SimCLRV2, backbone, **options)
