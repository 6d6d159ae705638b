"""Projection heads, between the encoder's features and the loss; they are discarded after training."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from .standardized import StandardizedLinear


class MLPHead(nn.Sequential):
    """Linear layers with ReLU between them and, optionally, normalization.

    Args:
        sizes: Width of the input, of every hidden layer and of the output.
        batch_norm: Batch normalization after every hidden layer.
        batch_norm_last: Batch normalization after the output layer: "affine", "scale" (its shift stays 0), "plain" (no
            weights) or None.
        bias: Biases in the layers without a following batch normalization.
        bias_last: The same for the output layer alone; None takes ``bias``.
        norm: Normalization of the hidden layers in place of batch normalization, per sample: "layer", "group"
            or None.
        groups: Number of groups for "group"; divides the hidden widths.
        standardize: Weight standardization of all linear layers (see ``StandardizedLinear``).
    """

    def __init__(
        self,
        *sizes: int,
        batch_norm: bool = True,
        batch_norm_last: str | None = None,
        bias: bool = True,
        bias_last: bool | None = None,
        norm: str | None = None,
        groups: int = 16,
        standardize: bool = False,
    ):
        linear = StandardizedLinear if standardize else nn.Linear
        kind = norm or ("batch" if batch_norm else "none")
        makers: dict[str, Callable[[int], nn.Module]] = {
            "batch": nn.BatchNorm1d,
            "layer": nn.LayerNorm,
            "group": lambda width: nn.GroupNorm(groups, width),
        }
        layers: list[nn.Module] = []
        for before, after in zip(sizes[:-2], sizes[1:-1]):
            layers.append(linear(before, after, bias=bias and kind != "batch"))
            if kind != "none":
                layers.append(makers[kind](after))
            layers.append(nn.ReLU(inplace=True))
        bias_last = bias if bias_last is None else bias_last
        layers.append(linear(sizes[-2], sizes[-1], bias=bias_last and batch_norm_last is None))
        if batch_norm_last is not None:
            layers.append(nn.BatchNorm1d(sizes[-1], affine=batch_norm_last != "plain"))
            if batch_norm_last == "scale":
                layers[-1].bias.requires_grad_(False)
        super().__init__(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """Maps (..., D_in) to (..., D_out); all leading dimensions together form the batch of the statistics."""
        return super().forward(features.flatten(0, -2)).unflatten(0, features.shape[:-1])


class _CosineLinear(torch.autograd.Function):
    """x @ W^T / |w|: the norms scale the small product, without a normalized copy of a large W in the graph."""

    @staticmethod
    def forward(ctx, features, weight, norms):
        outputs = features @ weight.T / norms
        ctx.save_for_backward(features, weight, norms, outputs)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream):
        features, weight, norms, outputs = ctx.saved_tensors
        scaled = upstream / norms
        radial = ((scaled * outputs).sum(dim=0, dtype=torch.float32) / norms.float()).to(weight.dtype)
        gradient = (scaled.T @ features).addcmul_(weight, radial.unsqueeze(1), value=-1)
        return scaled @ weight, gradient, None


class Prototypes(nn.Module):
    """K unit vectors; the outputs are inner products with them: a weight-normalized linear layer without bias.

    Args:
        dim: Width of the input.
        count: Number of prototypes, K.
        learn_gain: Learn the norm of every prototype (weight normalization's g, starting at 1) instead of fixing it at 1.
    """

    def __init__(self, dim: int, count: int, learn_gain: bool = False):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, dim))
        self.gain = nn.Parameter(torch.empty(count, 1)) if learn_gain else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)  # as torch.nn.Linear
        if self.gain is not None:
            nn.init.ones_(self.gain)

    def directions(self) -> Tensor:
        """The prototypes as the forward pass uses them, (K, D)."""
        weight = F.normalize(self.weight, dim=1)
        return weight if self.gain is None else weight * self.gain

    def forward(self, features: Tensor) -> Tensor:
        """Maps (..., D) to (..., K)."""
        norms = torch.linalg.vector_norm(self.weight.detach(), dim=1).clamp_min(1e-12)
        dtype = (
            torch.get_autocast_dtype(features.device.type) if torch.is_autocast_enabled(features.device.type) else None
        )
        inputs = (features.flatten(0, -2), self.weight, norms)
        with torch.autocast(features.device.type, enabled=False):
            outputs = _CosineLinear.apply(*(value.to(dtype or features.dtype) for value in inputs))
        outputs = outputs if self.gain is None else outputs * self.gain.squeeze(1)
        return outputs.unflatten(0, features.shape[:-1])


class DINOHead(nn.Module):
    """DINO's head (Caron et al., 2021, section 3.2 and appendix C): an MLP with GELU to a bottleneck, then its L2 norm.

    The prototypes are a separate module, :class:`Prototypes`.

    Args:
        sizes: Width of the input, of every hidden layer and of the bottleneck.
        batch_norm: Batch normalization in the hidden layers (the paper's choice for convolutional encoders).
        init_std: Standard deviation of the initial weights, with zero biases: 0.02 in the authors' code. None: that of
            ``torch.nn.Linear``, which grows with narrower layers.
    """

    def __init__(self, *sizes: int, batch_norm: bool = False, init_std: float | None = 0.02):
        super().__init__()
        self.init_std = init_std
        layers: list[nn.Module] = []
        for before, after in zip(sizes[:-2], sizes[1:-1]):
            layers.append(nn.Linear(before, after))
            if batch_norm:
                layers.append(nn.BatchNorm1d(after))
            layers.append(nn.GELU())
        layers.append(nn.Linear(sizes[-2], sizes[-1]))
        self.layers = nn.Sequential(*layers)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        if self.init_std is None:
            return
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=self.init_std)
                nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Maps (..., D_in) to unit vectors (..., D_bottleneck)."""
        bottleneck = self.layers(features.flatten(0, -2)).unflatten(0, features.shape[:-1])
        return F.normalize(bottleneck.float(), dim=-1)
