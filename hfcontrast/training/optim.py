"""Optimizers and their parameter groups: AdamW, SGD, LARS as SimCLR uses it, and timm's."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..encoders.layers import KINDS, is_patch_embedding, layer_distances, named_kinds
from ..errors import RecipeError, under
from ..recipe import timm_optimizers
from ..recipe.optimization import OptimSection


class LARS(Optimizer):
    """Layer-wise adaptive rate scaling (You et al., 2017, arXiv:1708.03888), in the form of SimCLR's authors.

    For a weight w with gradient g::

        g <- g + weight_decay * w
        v <- momentum * v + lr * trust_coefficient * |w| / |g| * g
        w <- w - v

    The trust ratio is 1 where |w| or |g| is 0, and in groups with ``adapt=False`` (biases and norms).

    Args:
        params: Parameters or groups; a group may set ``adapt``.
        lr: Learning rate.
        momentum: Momentum.
        weight_decay: L2 penalty, part of the gradient whose norm is taken.
        trust_coefficient: The coefficient eta.
    """

    def __init__(self, params, lr=1.0, momentum=0.9, weight_decay=0.0, trust_coefficient=0.001):
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient,
            "adapt": True,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure=None):
        """One update of all parameters that have gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            for p in params:
                if "momentum_buffer" not in self.state[p]:
                    self.state[p]["momentum_buffer"] = torch.zeros_like(p)
            velocities = [self.state[p]["momentum_buffer"] for p in params]
            gradients: Any = [p.grad for p in params]
            if group["weight_decay"]:
                gradients = torch._foreach_add(gradients, params, alpha=group["weight_decay"])
            if group["adapt"]:
                gradients = torch._foreach_mul(gradients, _trust_ratios(params, gradients, group["trust_coefficient"]))
            torch._foreach_mul_(velocities, group["momentum"])
            torch._foreach_add_(velocities, gradients, alpha=group["lr"])
            torch._foreach_sub_(params, velocities)
        return loss


def _trust_ratios(params: list[Tensor], gradients: list[Tensor], coefficient: float) -> list[Tensor]:
    weight_norms = torch.stack(torch._foreach_norm(params))
    gradient_norms = torch.stack(torch._foreach_norm(gradients))
    ratios = coefficient * weight_norms / gradient_norms
    defined = (weight_norms > 0) & (gradient_norms > 0)
    return list(torch.where(defined, ratios, torch.ones_like(ratios)).unbind())


def parameter_groups(
    model: nn.Module, weight_decay: float, decay_norm_and_bias: bool = False, constant_lr: tuple[str, ...] = ()
) -> list[dict]:
    """Groups of the trainable parameters, all with one learning rate: see :func:`grouped`."""
    settings = OptimSection(weight_decay=float(weight_decay), decay_norm_and_bias=decay_norm_and_bias)
    return grouped(model, settings, constant_lr)


def grouped(model: nn.Module, settings: OptimSection, constant_lr: tuple[str, ...] = ()) -> list[dict]:
    """Groups of the trainable parameters: with and without weight decay, with and without a schedule, by learning rate.

    Args:
        model: The method.
        settings: Its ``weight_decay``, ``decay_norm_and_bias``, ``no_decay``, ``layer_decay`` and ``patch_embed_lr_mult``.
        constant_lr: Names of submodules whose learning rate stays at its base value.

    Returns:
        Groups with ``decayed`` and ``scheduled`` flags and ``lr_scale``, a factor, beside torch's settings.

    Raises:
        RecipeError: ``no_decay``, ``layer_decay`` or ``patch_embed_lr_mult`` is for parameters that the model does not have.
    """
    spared, scales = not_decayed(model, settings.no_decay), lr_scales(model, settings)
    groups: dict[tuple[bool, bool, float], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decayed = settings.decay_norm_and_bias or (parameter.ndim > 1 and not name.endswith(".bias"))
        scheduled = not any(name == module or name.startswith(module + ".") for module in constant_lr)
        key = (decayed and name not in spared, scheduled, scales.get(name, 1.0))
        groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": settings.weight_decay if decayed else 0.0,
            "decayed": decayed,
            "scheduled": scheduled,
            "lr_scale": scale,
        }
        for (decayed, scheduled, scale), parameters in groups.items()
    ]


def not_decayed(model: nn.Module, wanted: list[str]) -> set[str]:
    """Names of the parameters that ``optim.no_decay`` names: by their kind, or by a part of their names.

    Raises:
        RecipeError: An entry is not a kind, and no parameter has it in its name.
    """
    kinds, names = named_kinds(model), [name for name, _ in model.named_parameters()]
    spared = {name for name, kind in kinds.items() if kind in wanted}
    for entry in wanted:
        if entry in KINDS:
            continue
        found = {name for name in names if f".{entry}." in f".{name}."}
        if not found:
            raise RecipeError(
                f"optim.no_decay: {entry!r} is not a kind of parameters ({', '.join(KINDS)}) and part of no parameter's name; names "
                f"are such as {names[0]} and {names[-1]}"
            )
        spared |= found
    return spared


def lr_scales(model: nn.Module, settings: OptimSection) -> dict[str, float]:
    """What the learning rate of each parameter is multiplied by, by its name, where that is not 1.

    Raises:
        RecipeError: The encoder's layers are not known, or it has no patch embedding.
    """
    encoder, scales = getattr(model, "encoder", model), {}
    prefix = "" if encoder is model else "encoder."
    if settings.layer_decay is not None:
        with under("optim.layer_decay"):
            distances = layer_distances(encoder)
        scales = {prefix + name: settings.layer_decay**distance for name, distance in distances.items()}
    if settings.patch_embed_lr_mult is not None:
        patches = [prefix + name for name, _ in encoder.named_parameters() if is_patch_embedding(name)]
        if not patches:
            raise RecipeError("optim.patch_embed_lr_mult: the encoder has no patch embedding: leave it out")
        scales |= {name: scales.get(name, 1.0) * settings.patch_embed_lr_mult for name in patches}
    return scales


def build_optimizer(
    model: nn.Module, settings: OptimSection, constant_lr: tuple[str, ...] = (), peak_lr: float | None = None
) -> Optimizer:
    """The optimizer of a recipe's ``optim`` section; its learning rate is set at every step.

    Args:
        model: The method.
        settings: The section.
        constant_lr: Names of submodules whose learning rate stays at its base value.
        peak_lr: The highest learning rate of the schedule, by which some of timm's optimizers correct their weight decay; None:
            ``lr`` of the section.

    Raises:
        RecipeError: As :func:`grouped`.
    """
    groups = grouped(model, settings, constant_lr)
    if timm_optimizers.is_timm(settings.name):
        return timm_optimizer(groups, settings, settings.lr if peak_lr is None else peak_lr)
    if settings.name == "lars":
        for group in groups:
            group["adapt"] = group["decayed"]
        return LARS(groups, settings.lr, settings.momentum, trust_coefficient=settings.trust_coefficient)
    if settings.name == "sgd":
        # Not fused: that one fails when a parameter gets its first gradient late, as frozen prototypes do.
        return torch.optim.SGD(groups, settings.lr, settings.momentum, foreach=True)
    return torch.optim.AdamW(groups, settings.lr, (settings.betas[0], settings.betas[1]), settings.eps, fused=True)


def timm_optimizer(groups: list[dict], settings: OptimSection, peak_lr: float) -> Optimizer:
    """One of timm's optimizers, by its ``create_optimizer_v2``.

    Muon and its kin move what has no weight decay (biases, norms, what ``no_decay`` names) by AdamW, as timm's
    ``fallback_no_weight_decay`` does, beside what is not a matrix.
    """
    from timm.optim import create_optimizer_v2

    for group in groups:
        group["use_fallback"] = not group["decayed"]
    return create_optimizer_v2(groups, lr=peak_lr, **timm_optimizers.keywords(settings))


@torch.no_grad()
def clip_each_gradient(parameters: list[Tensor], max_norm: float) -> None:
    """Scales every gradient down to at most ``max_norm`` by its own L2 norm, as DINO's authors do."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norms = torch.stack(torch._foreach_norm(gradients))
    torch._foreach_mul_(gradients, list((max_norm / (norms + 1e-6)).clamp(max=1.0).unbind()))
