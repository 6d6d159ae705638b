"""Checks for mistakes that raise no error in a step: in settings, tensors, devices, and state that is not saved."""

import copy
import inspect
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from transformers import PreTrainedConfig

from ..methods.base import Method, MethodConfig, MethodOutput, Progress
from ..methods.contract.arguments import OF_A_BATCH, named_by
from ..methods.contract.calling import visualized
from ..methods.contract.construction import LIBRARIES, own_modules
from ..training.step import OptimizerStep
from .violation import require

_PLAIN = (bool, int, float, str, list, tuple, dict, set, Tensor)
# Attributes that torch and the base class set.
_OF_TORCH = set(vars(nn.Module()))
_OF_THE_BASE = {"training", "progress", "config", "_computing", "_modules", "_parameters", "_buffers"}


def check_settings(method_class: type[Method]) -> None:
    """Settings are typed fields under names that are free, so that recipes know them."""
    config = method_class.config_class
    where = config.__name__
    own = [kind for kind in config.__mro__ if issubclass(kind, MethodConfig) and kind is not MethodConfig]
    known = {field.name for field in fields(config)}
    for kind in own:
        init = kind.__dict__.get("__init__")
        generated = init is None or not inspect.unwrap(init).__code__.co_filename.endswith(".py")
        require(
            generated,
            f"{where} defines __init__: write settings as typed fields (`width: int = 128`), which recipes know",
        )
        for name, value in vars(kind).items():
            simple = isinstance(value, bool | int | float | str | list | tuple | dict)
            constant = name.startswith("_") or name.isupper() or hasattr(MethodConfig, name)
            require(
                not simple or constant or name in known,
                f"{where}.{name} = {value!r} is not a setting, as it has no type: write {name}: {type(value).__name__} = {value!r}",
            )
        for name in kind.__dict__.get("__annotations__", {}):
            taken = name == "name" or hasattr(PreTrainedConfig, name)
            require(
                not taken, f"{where} has a setting {name!r}, a name of transformers or of the recipe: choose another"
            )
    for name in method_class.data_statistics:
        require(name in known, f"`data_statistics` names {name!r}, which is not a setting of {where}")
    if method_class.data_statistics:
        require(
            method_class.compute_data_statistics.__func__  # type: ignore[attr-defined]
            is not Method.compute_data_statistics.__func__,  # type: ignore[attr-defined]
            "`data_statistics` names settings, and compute_data_statistics() is missing",
        )


def check_views_are_taken(method_class: type[Method]) -> None:
    """Every kind of view is an argument of a step."""
    arguments = [
        p for step in (method_class.embed, method_class.objective) for p in inspect.signature(step).parameters.values()
    ]
    if any(argument.kind is argument.VAR_KEYWORD for argument in arguments):
        return
    names = [argument.name for argument in arguments if argument.name not in ("self", "embeddings", *OF_A_BATCH)]
    for view in method_class.views:
        require(
            view.key in names,
            f"view {view.name!r} is made under the key {view.key!r}, which neither embed() nor objective() takes; they take "
            f"{', '.join(names) or 'nothing'}",
        )


def check_tensors_are_registered(method: Method) -> None:
    """Tensors are parameters or buffers: nothing else is moved to a device, or saved.

    Further references to registered ones (such as a GRU's list of its weights) are allowed.
    """
    registered = {id(value) for value in (*method.parameters(), *method.buffers())}
    for path, module in own_modules(method):
        for name, value in vars(module).items():
            if name in ("_modules", "_parameters", "_buffers"):
                continue
            values = (
                value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else [value]
            )
            plain = [item for item in values if isinstance(item, Tensor) and id(item) not in registered]
            require(
                not any(item.requires_grad for item in plain),
                f"self.{path}{name} keeps a tensor with its graph: what objective() needs of embed() goes into the dict that "
                "embed() returns, which train.grad_cache cuts and joins",
            )
            require(
                not plain,
                f"self.{path}{name} is a tensor that is neither parameter nor buffer, so it stays on the CPU and is not saved: "
                f"self.register_buffer({name!r}, ...)",
            )


def check_embeddings(method: Method, batch: dict[str, Tensor]) -> None:
    """``embed`` returns a dict of tensors with a row for each sample, and does not change its input."""
    before = {name: value.clone() for name, value in batch.items()}
    embeddings = method.embed(**named_by(method.embed, batch))
    require(
        isinstance(embeddings, dict),
        f"embed() returned {type(embeddings).__name__}, expected a dict of tensors by name",
    )
    images = len(batch["index"])
    for name, value in embeddings.items():
        kind = type(value).__name__
        require(
            isinstance(value, Tensor),
            f"embed()[{name!r}] is {kind}, expected a tensor: train.grad_cache cuts and joins it",
        )
        rows = len(value) if value.ndim else "no"
        require(rows == images, f"embed()[{name!r}] has {rows} rows for {images} images; batch comes first")
    for name, value in batch.items():
        require(torch.equal(value, before[name]), f"embed() changed {name} in place: work on a copy")


def check_output(method: Method, batch: dict[str, Tensor], output: MethodOutput) -> None:
    """Metrics, state and embeddings of a step are detached tensors, and the same metrics come in every step."""
    for kind in ("metrics", "state"):
        for name, value in (getattr(output, kind) or {}).items():
            found = f"{kind}[{name!r}]"
            require(isinstance(value, Tensor), f"{found} is {type(value).__name__}, expected a tensor")
            require(not value.requires_grad, f"{kind}['{name}'] is not detached: it would keep the graph alive")
    embeddings, images = output.embeddings, len(batch["index"])
    if embeddings is not None:
        require(
            not embeddings.requires_grad, "the output's embeddings are not detached: they would keep the graph alive"
        )
        require(len(embeddings) == images, f"the output's embeddings have {len(embeddings)} rows for {images} images")


def check_visualize(method: Method, batch: dict[str, Tensor]) -> None:
    """``visualize`` returns images in evaluation mode, from the views and ``index`` alone."""
    if type(method).visualize is Method.visualize:
        return
    method = copy.deepcopy(method).eval()
    shown = {name: batch[name] for name in (*(view.key for view in method.views), "index")}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        visualized(method, shown)


def check_after_step(method: Method, batch: dict[str, Tensor]) -> None:
    """``after_step`` keeps the names, sizes and types of tensors, leaves no graph, and keeps no state that is not saved."""
    method = copy.deepcopy(method)
    before = {name: (tuple(value.shape), value.dtype) for name, value in method.state_dict().items()}
    frozen = {name for name, value in method.named_parameters() if not value.requires_grad}
    unsaved = {name: value.clone() for name, value in method.named_buffers() if name not in before}
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    step, remembered = OptimizerStep(method, torch.optim.SGD(trained, lr=0.0)), []
    for _ in range(2):  # the same step twice: what differs afterwards is a counter
        step([batch], Progress(1, 10, 5))
        remembered.append(dict(_remembered(method)))
    after = {name: (tuple(value.shape), value.dtype) for name, value in method.state_dict().items()}
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    for name in changed:
        sizes = f"from {before.get(name, 'nothing')} to {after.get(name, 'nothing')}"
        require(False, f"a step changes size or type of {name}, {sizes}: its checkpoints could not be loaded")
    for name, value in (*method.named_parameters(), *method.named_buffers()):
        graph = value.grad_fn is not None or (name in frozen and value.requires_grad)
        require(not graph, f"after_step() leaves {name} with a graph: put what it does under @torch.no_grad()")
    for name, value in method.named_buffers():
        same = name not in unsaved or torch.equal(value, unsaved[name])
        require(
            same,
            f"a step changes the buffer {name}, which is not saved (persistent=False): a resumed run would lose it",
        )
    for name, value in remembered[1].items():
        known = name in remembered[0] and _equal(remembered[0][name], value)
        require(
            known,
            f"self.{name} changes from step to step and is not saved, so a resumed run would start it over: make it a buffer, or "
            "compute it from progress",
        )


def _remembered(method: Method) -> Iterator[tuple[str, Any]]:
    for path, module in own_modules(method):
        if type(module).__module__.partition(".")[0] in LIBRARIES:
            continue  # libraries keep what they need, such as a GRU weak references to its weights
        for name, value in vars(module).items():
            of_the_base = name in _OF_THE_BASE or (name.startswith("_") and name in _OF_TORCH)
            if isinstance(value, _PLAIN) and not of_the_base:
                yield f"{path}{name}", copy.deepcopy(value)


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return torch.equal(first, second)
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(_equal, first, second))
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_equal(first[key], second[key]) for key in first)
    return type(first) is type(second) and bool(first == second)


def check_devices(method: Method, batch: dict[str, Tensor]) -> None:
    """A step creates its tensors on the device of its input: checked without a GPU, by fake tensors.

    Skipped where a step reads values (``.item()``, masks as indices), which fake tensors do not have.
    """
    error = _fails_on("cuda", method, batch)
    require(
        error is None or "device" not in str(error) or _fails_on("cpu", method, batch) is not None,
        f"a step mixes tensors of the CPU with those of the device that it runs on ({_first_line(error)}): make them there, "
        "torch.arange(n, device=x.device)",
    )


def _fails_on(device: str, method: Method, batch: dict[str, Tensor]) -> Exception | None:
    def fake(value: Tensor) -> Tensor:
        return torch.empty(value.shape, dtype=value.dtype, device=device, requires_grad=value.requires_grad)

    try:
        with FakeTensorMode(allow_non_fake_inputs=False):
            state = {name: fake(value) for name, value in (*method.named_parameters(), *method.named_buffers())}
            functional_call(method, state, (), {name: fake(value) for name, value in batch.items()})
    except Exception as error:  # any kind: what counts is whether it fails on this device only
        return error
    return None


def _first_line(error: Exception | None) -> str:
    return " ".join(str(error).split())[:160]
