"""``hfcontrast bench --losses``: time and memory of the losses, compared with straightforward implementations.

The plain form of a loss over all pairs of a batch holds their whole matrix, that of a loss over correlations the D x D
matrix, and that of a loss over prototypes a float32 copy of all logits. Both forms of a loss are checked to agree, then run in
turn in one process, forward and backward; medians, and the peak of the memory that the step allocates, are printed.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from ..console import plain_console
from ..losses import (
    barlow_twins,
    clip_loss,
    decoupled,
    dino_loss,
    ibot_loss,
    info_nce,
    nt_xent,
    supcon,
    vicreg,
)
from ..training.memory import memory_of
from .step import Timing, in_turn

TEMPERATURE = 0.1
STUDENT_TEMPERATURE, TEACHER_TEMPERATURE = 0.1, 0.04
CLASSES = 100  # of the labels that supcon is given
SAMPLES, WIDTH = 256, 8192  # of Barlow Twins and VICReg
IMAGES, VIEWS, GLOBAL_VIEWS, PATCHES, PROTOTYPES = 32, 10, 2, 512, 65536  # of DINO, and of iBOT's masked patches
MEBIBYTE = 2**20


@dataclass
class Pair:
    """A loss in two forms.

    Attributes:
        name: What it is called in the table.
        plain: The plain form.
        ours: The form of ``hfcontrast.losses``.
        inputs: What both are given; those that require a gradient get one.
    """

    name: str
    plain: Callable[..., Tensor]
    ours: Callable[..., Tensor]
    inputs: tuple[Tensor, ...]


def bench_losses(batch: int | None = None, dim: int = 128, seconds: float = 60.0) -> dict[str, dict[str, float]]:
    """Measures the losses and prints a table.

    Args:
        batch: Images B of the losses over all pairs of a batch, of two views each; None takes 2048 on a CPU, 8192 on a GPU.
        dim: Width D of their embeddings.
        seconds: Time for the rounds, shared out over the losses; at least three rounds of each are run.

    Returns:
        By loss: seconds and bytes of both forms, and the ratios ``time`` and ``memory``, ours by plain.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batch = batch or (8192 if device.type == "cuda" else 2048)
    pairs = in_batch_losses(batch, dim, device) + correlation_losses(device) + prototype_losses(device)
    figures = {pair.name: measure(pair, seconds / len(pairs), device) for pair in pairs}
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, threads: {torch.get_num_threads()}"
    report(figures, f"B = {batch}, D = {dim}; forward and backward on {where}; medians of rounds in turn")
    return figures


def measure(pair: Pair, seconds: float, device: torch.device) -> dict[str, float]:
    """Figures of one loss; see :func:`bench_losses`."""
    forms: dict[str, Any] = {
        "plain": partial(step, pair.plain, pair.inputs),
        "ours": partial(step, pair.ours, pair.inputs),
    }
    check_agreement(pair, *(form() for form in forms.values()))
    peaks = {name: memory_of(form, device) for name, form in forms.items()}
    rows = len(pair.inputs[0])
    timings: list[Timing] = in_turn({name: (form, rows) for name, form in forms.items()}, seconds, device)
    plain, ours = timings
    return {
        **{f"{name} seconds": timing.median for name, timing in zip(forms, timings)},
        **{f"{name} bytes": peak for name, peak in peaks.items()},
        "time": statistics.median(a / b for a, b in zip(ours.seconds, plain.seconds)),
        "memory": peaks["ours"] / peaks["plain"],
    }


def step(loss: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Forward and backward pass; returns the value and the gradients."""
    value = loss(*inputs)
    return value.detach(), *torch.autograd.grad(value, [given for given in inputs if given.requires_grad])


def check_agreement(pair: Pair, plain: tuple[Tensor, ...], ours: tuple[Tensor, ...]) -> None:
    """Both forms have to compute the same.

    Raises:
        RuntimeError: They do not, and their comparison would mean nothing.
    """
    for one, other in zip(plain, ours, strict=True):
        allowed = (1e-3 if one.dtype == torch.float32 else 1e-2) * float(one.abs().max())
        if float((one - other).abs().max()) > allowed:
            raise RuntimeError(f"{pair.name}: the two forms differ; please report this with the output of `pip list`")


def report(figures: dict[str, dict[str, float]], title: str) -> None:
    """Prints the table."""
    table = Table("loss", title=title, title_justify="left")
    for column in ("time: plain", "ours", "ratio", "memory: plain", "ours", "ratio"):
        table.add_column(column, justify="right")
    for name, found in figures.items():
        times = [f"{1000 * found[f'{form} seconds']:,.1f} ms" for form in ("plain", "ours")]
        sizes = [f"{found[f'{form} bytes'] / MEBIBYTE:,.1f} MiB" for form in ("plain", "ours")]
        table.add_row(name, *times, f"{found['time']:.2f}", *sizes, f"{found['memory']:.3f}")
    plain_console(width=120).print(table)


def in_batch_losses(batch: int, dim: int, device: torch.device) -> list[Pair]:
    """The losses that compare all with all, on random embeddings of two views."""
    generator = torch.Generator().manual_seed(0)
    views = torch.randn(batch, 2, dim, generator=generator).to(device).requires_grad_()
    first, second = (view.contiguous().requires_grad_() for view in views.detach().unbind(1))
    labels = torch.randint(CLASSES, (batch,), generator=generator).to(device)
    return [
        Pair("info_nce", plain_info_nce, partial(info_nce, temperature=TEMPERATURE), (first, second)),
        Pair("nt_xent", plain_nt_xent, partial(nt_xent, temperature=TEMPERATURE), (views,)),
        Pair("supcon", plain_supcon, partial(supcon, temperature=TEMPERATURE), (views, labels)),
        Pair("decoupled", plain_decoupled, partial(decoupled, temperature=TEMPERATURE), (views,)),
        Pair("clip_loss", plain_clip, partial(clip_loss, temperature=TEMPERATURE), (first, second)),
    ]


def correlation_losses(device: torch.device) -> list[Pair]:
    """The losses over the correlations of many dimensions, on few samples."""
    generator = torch.Generator().manual_seed(0)
    inputs = tuple(torch.randn(SAMPLES, WIDTH, generator=generator).to(device).requires_grad_() for _ in range(2))
    shape = f", N = {SAMPLES}, D = {WIDTH}"
    return [
        Pair("barlow_twins" + shape, plain_barlow_twins, barlow_twins, inputs),
        Pair("vicreg" + shape, plain_vicreg, vicreg, inputs),
    ]


def prototype_losses(device: torch.device) -> list[Pair]:
    """The losses over many prototypes, on logits in bf16 as mixed precision gives them."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((IMAGES, VIEWS), (IMAGES, GLOBAL_VIEWS), (PATCHES,), (PATCHES,))
    logits = [
        torch.randn(*shape, PROTOTYPES, generator=generator).to(device, torch.bfloat16).requires_grad_(number % 2 == 0)
        for number, shape in enumerate(shapes)
    ]
    center = torch.zeros(PROTOTYPES, device=device)
    weights = torch.full((PATCHES,), 1 / PATCHES, device=device)
    temperatures: dict[str, Any] = {
        "student_temperature": STUDENT_TEMPERATURE,
        "teacher_temperature": TEACHER_TEMPERATURE,
    }
    shape = f"{IMAGES} images, {VIEWS} views, K = {PROTOTYPES}"
    return [
        Pair(f"dino_loss, {shape}", plain_dino, partial(dino_loss, **temperatures), (*logits[:2], center)),
        Pair(
            f"ibot_loss, {PATCHES} patches, K = {PROTOTYPES}",
            plain_ibot,
            partial(ibot_loss, **temperatures),
            (*logits[2:], weights, center),
        ),
    ]


def plain_info_nce(queries: Tensor, keys: Tensor) -> Tensor:
    """Cross-entropy over the B x B matrix."""
    logits = F.normalize(queries, dim=-1) @ F.normalize(keys, dim=-1).T / TEMPERATURE
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def plain_nt_xent(views: Tensor) -> Tensor:
    """Cross-entropy over the 2B x 2B matrix without its diagonal."""
    logits = _all_with_all(views).fill_diagonal_(-torch.inf)
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device) ^ 1)


def plain_supcon(views: Tensor, labels: Tensor) -> Tensor:
    """Log-softmax over the 2B x 2B matrix, averaged over each row's positives."""
    labels = labels.repeat_interleave(views.shape[1])
    logs = _all_with_all(views).fill_diagonal_(-torch.inf).log_softmax(dim=1)
    positives = (labels[:, None] == labels).fill_diagonal_(False)
    return -(logs.masked_fill(~positives, 0.0).sum(dim=1) / positives.sum(dim=1)).mean()


def plain_decoupled(views: Tensor) -> Tensor:
    """Log-sum-exp over the 2B x 2B matrix without the positives."""
    logits = _all_with_all(views)
    rows = torch.arange(len(logits), device=logits.device)
    positives = logits[rows, rows ^ 1]
    return (logits.masked_fill(rows[:, None] // 2 == rows // 2, -torch.inf).logsumexp(dim=1) - positives).mean()


def plain_clip(images: Tensor, texts: Tensor) -> Tensor:
    """Cross-entropy over the B x B matrix and its transpose."""
    logits = F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T / TEMPERATURE
    pairs = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2


def plain_barlow_twins(first: Tensor, second: Tensor) -> Tensor:
    """Squares of the D x D cross-correlation."""
    a, b = ((x - x.mean(dim=0)) * (x.var(dim=0, unbiased=False) + 1e-5).rsqrt() for x in (first, second))
    correlation = a.T @ b / len(a)
    diagonal = correlation.diagonal()
    return (1 - diagonal).square().sum() + 0.005 * (correlation.square().sum() - diagonal.square().sum())


def plain_vicreg(first: Tensor, second: Tensor) -> Tensor:
    """Squares of the two D x D covariances, beside variances and distances."""
    loss = 25 * F.mse_loss(first, second)
    for x in (first, second):
        x = x - x.mean(dim=0)
        covariance = x.T @ x / (len(x) - 1)
        variances = covariance.diagonal()
        loss = loss + 25 * torch.relu(1 - (variances + 1e-4).sqrt()).mean() / 2
        loss = loss + (covariance.square().sum() - variances.square().sum()) / x.shape[1]
    return loss


def plain_dino(student: Tensor, teacher: Tensor, center: Tensor) -> Tensor:
    """Float32 log-softmax of all of the student's logits, pair by pair of views."""
    targets = ((teacher.float() - center) / TEACHER_TEMPERATURE).softmax(dim=-1)
    logs = (student.float() / STUDENT_TEMPERATURE).log_softmax(dim=-1)
    pairs = [(u, v) for u in range(teacher.shape[1]) for v in range(student.shape[1]) if u != v]
    total: Any = sum(-(targets[:, u] * logs[:, v]).sum(dim=-1).mean() for u, v in pairs)
    return total / len(pairs)


def plain_ibot(student: Tensor, teacher: Tensor, weights: Tensor, center: Tensor) -> Tensor:
    """Float32 log-softmax of the student's logits at all masked patches."""
    targets = ((teacher.float() - center) / TEACHER_TEMPERATURE).softmax(dim=-1)
    logs = (student.float() / STUDENT_TEMPERATURE).log_softmax(dim=-1)
    return -((targets * logs).sum(dim=-1) * weights).sum()


def _all_with_all(views: Tensor) -> Tensor:
    z = F.normalize(views, dim=-1).flatten(0, 1)
    return z @ z.T / TEMPERATURE
