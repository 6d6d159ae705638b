"""The checks of the contract suite."""

import contextlib
import copy
import tempfile
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModel, PreTrainedModel

from ..encoders.features import encode
from ..errors import PluginError, RecipeError
from ..methods.base import Method, Progress
from ..methods.contract.arguments import needs_captions
from ..methods.contract.calling import phases_of
from ..methods.contract.construction import check_built
from ..methods.contract.declaration import check_written
from ..methods.contract.steps import start_step
from .checkpointing import check_checkpointing
from .draws import check_draws
from .frozen import check_frozen
from .learning import check_learns
from .mistakes import (
    check_after_step,
    check_devices,
    check_embeddings,
    check_output,
    check_settings,
    check_tensors_are_registered,
    check_views_are_taken,
    check_visualize,
)
from .processes import because, check_processes
from .samples import check_fewest_images, check_samples_apart
from .small import TINY_CONVOLUTIONAL_TOWERS, TINY_RESNET, build, random_batch
from .violation import ContractViolation, require

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def check_method(
    method_class: type[Method],
    backbone: dict[str, Any] | None = None,
    images: int = 8,
    processes: int = 2,
    learning_steps: int = 30,
    size: int = 32,
    columns: dict[str, Tensor] | None = None,
    **options: Any,
) -> None:
    """Runs every contract test on a small instance of a method. Takes some ten seconds on a CPU for each encoder.

    Args:
        method_class: The method.
        backbone: Configuration of a small encoder; None: a two-layer ViT for 32 px, with a text tower for up to 12 tokens
            (vocabulary of 40) where the method learns from captions, and then a ResNet with batch normalization, unless the
            method refuses it.
        images: Images in the batch; a multiple of ``processes``.
        processes: Processes that must together equal one.
        learning_steps: Optimizer steps in which the loss on one batch has to fall.
        size: Side of the largest views, in pixels; the others are half as large.
        columns: (images, ...) values of further columns of the data, by name, for a method that takes some. Default: a number
            in [0, 1) for each image.
        options: The method's own settings, to make it small.

    Raises:
        ContractViolation: The first violation.
    """
    with explained():
        check_written(method_class, Method)
    check_settings(method_class)
    check_views_are_taken(method_class)
    batch = random_batch(method_class, images, size, columns)
    with explained():
        _check_all(build(method_class, backbone, **options), batch, processes, learning_steps)
    if backbone is not None:
        return
    convolutional = TINY_CONVOLUTIONAL_TOWERS if needs_captions(method_class) else TINY_RESNET
    try:
        method = build(method_class, convolutional, **options)
    except (ValueError, RecipeError):  # as methods that mask patches do
        return
    try:
        _check_all(method, batch, processes, learning_steps)
    except Exception as error:
        found = str(error) if isinstance(error, ContractViolation) else f"{type(error).__name__}: {error}"
        raise ContractViolation(
            f"with a convolutional encoder: {found}; a method that is for others refuses it by a ValueError in __init__, or is "
            "checked with a backbone of its own"
        ) from error


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turns an error that would end a run into a violation of the contract."""
    try:
        yield
    except PluginError as error:
        raise ContractViolation(str(error)) from error


def _check_all(method: Method, batch: dict[str, Tensor], processes: int, learning_steps: int) -> None:
    check_built(method)
    check_tensors_are_registered(method)
    fresh = copy.deepcopy(method)
    check_step(method, batch)
    check_built(method)  # a step adds nothing
    check_tensors_are_registered(method)
    check_gradients(method, batch)
    check_forward_changes_nothing(method, batch)
    check_draws(method, batch)
    check_checkpointing(method, batch)
    check_frozen(method, batch)
    check_samples_apart(method, batch)
    check_fewest_images(method, batch)
    check_round_trip(method, batch)
    check_export(method, batch)
    check_visualize(method, batch)
    check_after_step(method, batch)
    check_devices(method, batch)
    check_processes(method, batch, processes)
    check_learns(fresh, batch, learning_steps)


def check_step(method: Method, batch: dict[str, Tensor]) -> None:
    """A step gives a finite scalar loss in a MethodOutput, embeddings by sample, and detached metrics and state."""
    start_step(method, Progress(0, 10, 5))
    check_embeddings(method, batch)
    output = method(**batch)
    require(bool(torch.isfinite(output.loss)), f"the loss is {output.loss.item()} on random images")
    require(
        output.loss.requires_grad, "the loss has no graph (detached, or made under no_grad): nothing could be trained"
    )
    phases_of(method, 5, len(batch["index"]))
    check_output(method, batch, output)


def check_gradients(method: Method, batch: dict[str, Tensor]) -> None:
    """Gradients reach every trainable parameter, in every step, and no teacher; every step has the same metrics."""
    metrics = None
    for step in (0, 1, 9):
        start_step(method, Progress(step, 10, 5))
        method.zero_grad()
        output = method(**batch)
        output.loss.backward()
        for name, parameter in method.named_parameters():
            if name.split(".")[0] in method.teachers:
                require(
                    not parameter.requires_grad and parameter.grad is None, f"a gradient reaches the teacher's {name}"
                )
            elif parameter.requires_grad:
                when = f" in step {step}, though one does before; several processes would stop there" if step else ""
                require(parameter.grad is not None, f"no gradient reaches {name}{when}; freeze it or use it")
                require(bool(torch.isfinite(parameter.grad).all()), f"the gradient of {name} is not finite")
        names = sorted(output.metrics or {})
        require(
            metrics in (None, names),
            f"the metrics of step {step} are {names}, and {metrics} before: processes average metrics, so every step "
            "must return the same ones",
        )
        metrics = names
    method.zero_grad()
    start_step(method, Progress(0, 10, 5))


def check_forward_changes_nothing(method: Method, batch: dict[str, Tensor]) -> None:
    """``forward`` changes no state but the running statistics of batch normalization."""
    method = copy.deepcopy(method)
    with torch.no_grad():  # updating a teacher that equals its source would not show
        for name, parameter in method.named_parameters():
            if name.split(".")[0] in method.teachers:
                parameter.add_(torch.ones_like(parameter), alpha=0.01)
    before = _state(method)
    method(**batch)
    for name, value in _state(method).items():
        require(torch.equal(value, before[name]), f"forward() changed {name}; state changes belong in after_step()")


def check_round_trip(method: Method, batch: dict[str, Tensor]) -> None:
    """Saved and loaded again, every tensor and the loss are the same."""
    with tempfile.TemporaryDirectory() as folder:
        method.save_pretrained(folder)
        loaded = type(method).from_pretrained(folder).train()
    original, restored = method.state_dict(), loaded.state_dict()
    require(original.keys() == restored.keys(), f"save and load lose {sorted(original.keys() ^ restored.keys())[:3]}")
    for name, value in original.items():
        require(torch.equal(value, restored[name]), f"save and load change {name}")
    for model in (method, loaded):
        start_step(model, Progress(3, 10, 5))
    losses = [_seeded_loss(model, batch) for model in (method, loaded)]
    found = f"the loss is {losses[0]} before saving and {losses[1]} after loading"
    if losses[0] != losses[1]:
        raise ContractViolation(found + because(method, batch))


def check_export(method: Method, batch: dict[str, Tensor]) -> None:
    """The published encoder is a native model that AutoModel loads, with the same features."""
    encoder = method.export_encoder()
    native = isinstance(encoder, PreTrainedModel) and not isinstance(encoder, Method)
    require(native, f"export_encoder() returned {type(encoder).__name__}, expected the native transformers model")
    pixels = next(batch[view.key] for view in method.views)[:, 0]
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        encoder.save_pretrained(folder)
        loaded = AutoModel.from_pretrained(folder)
        if getattr(encoder, "pooler", True) is None:
            loaded.pooler = None
        modes = encoder.training
        same = torch.allclose(encode(encoder.eval(), pixels), encode(loaded.eval(), pixels), atol=1e-5)
        encoder.train(modes)
    require(same, "the exported encoder has other features after AutoModel.from_pretrained")


def _seeded_loss(method: Method, batch: dict[str, Tensor]) -> float:
    torch.manual_seed(0)
    with torch.no_grad():
        return method(**batch).loss.item()


def _state(method: Method) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in method.state_dict().items() if not name.endswith(_STATISTICS)}
