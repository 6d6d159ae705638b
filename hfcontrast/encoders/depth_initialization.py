"""Initial weights of ViTs whose residual branches are scaled down with depth, as in BEiT's code and code based on it."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def initialize_by_depth(
    module: nn.Module, blocks: Iterable[nn.Module], branch_ends: tuple[str, ...], std: float, cut: bool = False
) -> None:
    """Draws all linear layers and convolutions in a module: normal weights, biases 0; normalizations become the identity.

    Weights are N(0, std^2); those of the layers that end the residual branches of block n, counted from 1, N(0, std^2 / 2n)
    (``fix_init_weight`` in the authors' code of BEiT, data2vec, SimMIM's ViT and I-JEPA).

    Args:
        module: An encoder or a predictor.
        blocks: Its transformer blocks, the first one first.
        branch_ends: Path within a block of each layer that ends a residual branch.
        std: Standard deviation before it is cut.
        cut: Draw within one standard deviation, which leaves 0.54 of the spread, as BEiT, data2vec and SimMIM do.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            draw(part.weight, std, cut)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.LayerNorm):
            part.reset_parameters()
    for number, block in enumerate(blocks, start=1):
        for name in branch_ends:
            draw(block.get_submodule(name).weight, std / (2 * number) ** 0.5, cut)


def draw(parameter: Tensor, std: float, cut: bool) -> None:
    """Fills a tensor with N(0, std^2), of which ``cut`` keeps what is within one standard deviation."""
    bound = std if cut else 100 * std  # the other authors' bound is 2, which nothing reaches
    nn.init.trunc_normal_(parameter, std=std, a=-bound, b=bound)
