"""Gradient caching gives the gradients of the whole batch, dropout included, on one process and on two."""

import copy

import pytest
import torch
from accelerate import Accelerator
from tiny_runs import RECIPES, REST, metrics, run

from hfcontrast.data.photometry import Photometry
from hfcontrast.losses import pairs, tiles
from hfcontrast.methods.clip import CLIP
from hfcontrast.methods.dino import DINO
from hfcontrast.methods.siglip import SigLIP
from hfcontrast.methods.simclr import SimCLR
from hfcontrast.testing import build, random_batch
from hfcontrast.training.grad_cache import GradientCache
from hfcontrast.view import View

VIT = {"model_type": "dinov2", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 16}
VIT |= {"patch_size": 8, "hidden_dropout_prob": 0.2, "drop_path_rate": 0.2}
METHODS = {"simclr": (SimCLR, {}), "dino": (DINO, {"out_dim": 32, "hidden_dim": 32, "head_batch_norm": True})}
VIEWS = {
    "simclr": (View(count=2, size=16),),
    "dino": (View(name="g", count=2, size=16), View(name="l", key="local_pixel_values", count=2, size=8)),
}


def raw_batch(views, rows):
    generator = torch.Generator().manual_seed(0)
    batch = {"index": torch.arange(rows)}
    for view in views:
        shape = (rows, view.count, view.size, view.size, 3)
        batch[view.key] = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        batch[view.key + "_photometry"] = torch.tensor([1.0, 1, 1, 0, 0, 0, 0, 2]).repeat(rows, view.count, 1)
    return batch


@pytest.mark.parametrize("name", METHODS)
def test_the_gradients_are_those_of_one_graph(name):
    """The reference keeps the graphs of all pieces, so that its masks of dropout are the same."""
    method_class, options = METHODS[name]
    method = build(method_class, VIT, **options)
    photometry, batch = Photometry(VIEWS[name], [0.5] * 3, [0.5] * 3), raw_batch(VIEWS[name], 8)
    reference = copy.deepcopy(method)
    pieces = [{key: value[start : start + 3] for key, value in batch.items()} for start in (0, 3, 6)]
    torch.manual_seed(5)
    parts = [reference.embed(**reference._named_by(reference.embed, photometry(p, "cpu"))) for p in pieces]
    joined = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    expected = reference.objective(joined)
    expected.loss.backward()

    torch.manual_seed(5)
    output = GradientCache(method, Accelerator(cpu=True), photometry, rows=3).backward(batch)
    assert output.loss.item() == pytest.approx(expected.loss.item(), abs=1e-6)
    for (key, parameter), other in zip(method.named_parameters(), reference.parameters()):
        if other.grad is None:
            assert parameter.grad is None, key
        else:
            torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-4, atol=1e-6, msg=key)


def test_batch_statistics_move_once():
    cnn = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8], "depths": [1], "layer_type": "basic"}
    method = build(SimCLR, cnn)
    photometry, batch = Photometry(VIEWS["simclr"], [0.5] * 3, [0.5] * 3), raw_batch(VIEWS["simclr"], 8)
    once = copy.deepcopy(method)
    for start in (0, 4):
        once.embed(photometry({key: value[start : start + 4] for key, value in batch.items()}, "cpu")["pixel_values"])
    GradientCache(method, Accelerator(cpu=True), photometry, rows=4).backward(batch)
    for (key, value), expected in zip(method.encoder.named_buffers(), once.encoder.buffers()):
        torch.testing.assert_close(value, expected, msg=key)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_cached_run_is_the_plain_run(processes, tmp_path):
    """The whole way, on one process and on two: a ViT with SimCLR, whose loss sees the whole batch."""
    recipe = tmp_path / "vit.yaml"
    simclr = RECIPES["simclr"].replace(RECIPES["simclr"].splitlines()[2], "")
    dino_backbone = next(line for line in RECIPES["dino"].splitlines() if line.startswith("backbone"))
    recipe.write_text(simclr + dino_backbone.replace("drop_path_rate: 0.2", "drop_path_rate: 0.0") + REST)
    plain, cached = tmp_path / "plain", tmp_path / "cached"
    calm = "optim.lr=0.1"  # a step too long would make much of rounding
    assert run(recipe, plain, calm).code == 0
    ended = run(recipe, cached, calm, "train.grad_cache=5", processes=processes)
    assert ended.code == 0, ended.output
    for expected, actual in zip(metrics(plain), metrics(cached), strict=True):
        if "loss" in expected:
            assert actual["loss"] == pytest.approx(expected["loss"], rel=1e-3)


def test_pieces_and_micro_batches_together_are_refused(recipe_file, tmp_path):
    code, output = run(recipe_file("simclr"), tmp_path / "run", "train.grad_cache=4", "train.accumulation=2")
    assert code == 2
    assert "train.grad_cache" in output and "keep one of them" in output


@pytest.mark.parametrize("method_class", [CLIP, SigLIP])
def test_pieces_of_pairs_and_tiles_of_similarities_give_the_gradients_of_the_plain_way(method_class, monkeypatch):
    """What lets 32,768 pairs fit where 1,024 would: the towers see a piece at a time, and no B x B matrix is held."""
    views = (View(size=32),)
    method = build(method_class)
    batch = random_batch(method_class, 24) | raw_batch(views, 24)
    photometry = Photometry(views, [0.5] * 3, [0.5] * 3)
    reference = copy.deepcopy(method)
    whole = reference(**photometry(batch, "cpu"))
    whole.loss.backward()
    monkeypatch.setattr(tiles, "WHOLE", 0)
    monkeypatch.setattr(tiles, "TILE", 5)
    monkeypatch.setattr(pairs, "AT_ONCE", 5 * 24)
    output = GradientCache(method, Accelerator(cpu=True), photometry, 7).backward(batch)
    torch.testing.assert_close(output.loss.detach(), whole.loss.detach())
    for (name, found), expected in zip(method.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(
            found.grad, expected.grad, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )
