"""Gradient caching gives the gradients of the whole batch, dropout included, on one process and on two."""

import copy

import pytest
import torch
from accelerate import Accelerator
from tiny_runs import RECIPES, REST, metrics, run

from hfcontrast.data.augment.color import ColorAugmentation
from hfcontrast.errors import RecipeError
from hfcontrast.losses import siglip as pairs
from hfcontrast.losses import tiles
from hfcontrast.methods.base import MethodOutput
from hfcontrast.methods.clip import CLIP
from hfcontrast.methods.contract.arguments import named_by
from hfcontrast.methods.dino import DINO
from hfcontrast.methods.siglip import SigLIP
from hfcontrast.methods.simclr import SimCLR
from hfcontrast.testing import build, random_batch
from hfcontrast.training.grad_cache import GradientCache, check_cacheable
from hfcontrast.view import View

VIT = {"model_type": "dinov2", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 16}
TINY_RESNET = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8], "depths": [1], "layer_type": "basic"}
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
        batch[view.key + "_color"] = torch.tensor([1.0, 1, 1, 0, 0, 0, 0, 2]).repeat(rows, view.count, 1)
    return batch


@pytest.mark.parametrize("name", METHODS)
def test_the_gradients_are_those_of_one_graph(name):
    """The reference keeps the graphs of all pieces, so that its masks of dropout are the same."""
    method_class, options = METHODS[name]
    method = build(method_class, VIT, **options)
    augmentation, batch = ColorAugmentation(VIEWS[name], [0.5] * 3, [0.5] * 3), raw_batch(VIEWS[name], 8)
    reference = copy.deepcopy(method)
    pieces = [{key: value[start : start + 3] for key, value in batch.items()} for start in (0, 3, 6)]
    torch.manual_seed(5)
    parts = [reference.embed(**named_by(reference.embed, augmentation(p, "cpu"))) for p in pieces]
    joined = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    expected = reference.objective(joined)
    expected.loss.backward()

    torch.manual_seed(5)
    output = GradientCache(method, Accelerator(cpu=True), augmentation, rows=3).backward(batch)
    assert output.loss.item() == pytest.approx(expected.loss.item(), abs=1e-6)
    for (key, parameter), other in zip(method.named_parameters(), reference.parameters()):
        if other.grad is None:
            assert parameter.grad is None, key
        else:
            torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-4, atol=1e-6, msg=key)


class HeadInEmbed(SimCLR):
    """Its projection head, with batch normalization, is in the wrong place."""

    def embed(self, pixel_values):
        return {"features": self.projector(self.encode(pixel_values))}

    def objective(self, embeddings):
        return MethodOutput(loss=embeddings["features"].square().mean())


def cached(method, rows):
    return GradientCache(method, Accelerator(cpu=True), ColorAugmentation(VIEWS["simclr"], [0.5] * 3, [0.5] * 3), rows)


def test_batch_statistics_in_pieces_are_refused():
    """The encoder's before anything is computed, those of a head in ``embed`` in the first step; one piece is the whole batch."""
    method, batch = build(SimCLR, TINY_RESNET), raw_batch(VIEWS["simclr"], 8)
    with pytest.raises(
        RecipeError, match=r"grad_cache .* encoder\.embedder\..* statistics of the 4 samples .* use train.grad"
    ):
        check_cacheable(method, 4, 8)
    check_cacheable(method, None, 8)
    check_cacheable(build(SimCLR, VIT), 4, 8)
    with pytest.raises(RecipeError, match="projector"):
        cached(build(HeadInEmbed, VIT), 4).backward(batch)
    check_cacheable(method, 8, 8)
    plain = copy.deepcopy(method)
    plain(**cached(plain, 8).augmentation(batch, "cpu")).loss.backward()
    cached(method, 8).backward(batch)
    for (key, value), expected in zip(method.named_buffers(), plain.buffers()):
        torch.testing.assert_close(value, expected, msg=key)


def test_batch_normalization_that_is_held_still_is_exact():
    method, batch = build(SimCLR, TINY_RESNET), raw_batch(VIEWS["simclr"], 8)
    method.keep_in_eval_mode("encoder")
    check_cacheable(method, 3, 8)
    plain = copy.deepcopy(method)
    plain(**cached(plain, 3).augmentation(batch, "cpu")).loss.backward()
    cached(method, 3).backward(batch)
    for (key, parameter), expected in zip(method.named_parameters(), plain.parameters()):
        assert (parameter.grad is None) == (expected.grad is None), key
        if expected.grad is not None:  # sums in another order: what an entry may differ by depends on the largest
            rounding = 1e-4 * expected.grad.abs().max().item()
            torch.testing.assert_close(parameter.grad, expected.grad, rtol=1e-3, atol=rounding)


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
    augmentation = ColorAugmentation(views, [0.5] * 3, [0.5] * 3)
    reference = copy.deepcopy(method)
    whole = reference(**augmentation(batch, "cpu"))
    whole.loss.backward()
    monkeypatch.setattr(tiles, "WHOLE", 0)
    monkeypatch.setattr(tiles, "TILE", 5)
    monkeypatch.setattr(pairs, "AT_ONCE", 5 * 24)
    output = GradientCache(method, Accelerator(cpu=True), augmentation, 7).backward(batch)
    torch.testing.assert_close(output.loss.detach(), whole.loss.detach())
    for (name, found), expected in zip(method.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(
            found.grad, expected.grad, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )
