"""The accelerator of a run, and what its launcher may ask for: engines and settings that would train something else are refused."""

import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    gather_object,
    is_torch_xla_available,
    set_seed,
)

from ..errors import LauncherError, RecipeError
from ..recipe import Recipe
from ..signals import left_to_the_system
from .precision import asked, has_gpu, resolved_precision

# What shares the weights out over the processes, so that none has all of them.
SHARDED = (DistributedType.DEEPSPEED, DistributedType.FSDP, DistributedType.MEGATRON_LM)

_ENGINES = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "tensor, context or sequence parallelism",
}
_INSTEAD = (
    "start plain data parallelism, with `accelerate launch --multi_gpu --num_processes N` or `torchrun --nproc_per_node N` "
    "(`accelerate config` changes the default)"
)
_PATIENCE = 5.0  # seconds that the processes may take to join before it is said that one waits
_STATES = (PartialState, AcceleratorState, GradientState)


def check_launcher(recipe: Recipe, environment: Mapping[str, str] = os.environ) -> None:
    """Refuses what a launcher asks for and a run would not do, or would do wrongly. Looks at nothing but the environment, and the
    precision of a run that is resumed.

    The precision ``no`` is the default of ``accelerate launch``: it contradicts nothing.

    Args:
        recipe: The recipe.
        environment: Environment variables.

    Raises:
        LauncherError: With what to do instead.
    """
    for variable, engine in _ENGINES.items():
        if asked(environment, variable):
            raise LauncherError(
                f"accelerate is configured for {engine} ({variable}), with which hfcontrast would not train what its recipe "
                f"says: {_INSTEAD}"
            )
    if is_torch_xla_available():
        raise LauncherError(
            "torch_xla is installed, so accelerate would train through XLA (TPU), with which nothing here has been tried: set "
            "USE_TORCH_XLA=0, and train on GPUs or a CPU"
        )
    for variable, value, setting, remedy in _contradictions(recipe, environment):
        raise LauncherError(
            f"the launcher says {value} ({variable}), and the recipe {setting}: {remedy}, or start without it"
        )
    count = environment.get("WORLD_SIZE", "1")
    if count.isdecimal() and int(count) > 1 and not {"RANK", "LOCAL_RANK"} & set(environment):
        raise LauncherError(_alone(int(count)))


def _contradictions(recipe: Recipe, environment: Mapping[str, str]) -> Iterator[tuple[str, str, str, str]]:
    """Variable, what it says, what the recipe says, and what to set there."""
    settings = recipe.train
    launched = environment.get("ACCELERATE_MIXED_PRECISION", "no").lower() or "no"
    precision = resolved_precision(recipe, environment)
    if launched not in ("no", precision):
        said = f"train.precision {settings.precision}" + (f", here {precision}" * (settings.precision == "auto"))
        known = launched in ("bf16", "fp16")
        remedy = f"set train.precision={launched}" if known else "launch with `--mixed_precision no`"
        yield "ACCELERATE_MIXED_PRECISION", launched, said, remedy
    compiler = environment.get("ACCELERATE_DYNAMO_BACKEND", "no").lower() or "no"
    if compiler != "no":
        yield (
            "ACCELERATE_DYNAMO_BACKEND",
            compiler,
            f"train.compile {str(settings.compile).lower()}",
            "set train.compile=true and launch with `--dynamo_backend no`",
        )
    parts = environment.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "").strip()
    if parts not in ("", "auto", str(settings.accumulation)):
        said, remedy = f"train.accumulation {settings.accumulation}", f"set train.accumulation={parts}"
        yield "ACCELERATE_GRADIENT_ACCUMULATION_STEPS", parts, said, remedy
    if settings.device in ("cuda", "mps") and asked(environment, "ACCELERATE_USE_CPU"):
        yield "ACCELERATE_USE_CPU", "cpu", f"train.device {settings.device}", "set train.device=cpu"


def build_accelerator(recipe: Recipe) -> Accelerator:
    """The accelerator for a recipe's device, precision and accumulation; other accelerators of this Python keep their own.

    Raises:
        RecipeError: The machine does not have what the recipe asks for.
        LauncherError: The processes do not come together.
    """
    settings, on_gpu = recipe.train, has_gpu(recipe, os.environ)
    if settings.device in ("cuda", "mps") and not getattr(torch, settings.device).is_available():
        raise RecipeError(f"train.device is {settings.device}, which this machine does not have; use auto")
    precision = resolved_precision(recipe)
    if precision == "fp16" and not on_gpu:
        raise RecipeError("train.precision is fp16, which needs a GPU; on this machine use bf16 or fp32")
    if on_gpu:
        torch.backends.cudnn.benchmark = True
    set_seed(settings.seed)
    new_states()
    try:
        with _waiting_for_others():
            accelerator = Accelerator(
                cpu=settings.device == "cpu",
                mixed_precision={"fp32": "no"}.get(precision, precision),
                gradient_accumulation_steps=settings.accumulation,
                log_with=list(recipe.track.to) or None,
                project_dir=settings.output,
                # Queues and memory banks are equal on all processes by themselves; running statistics are averaged after every step.
                kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
            )
    except (ValueError, RuntimeError, OSError, ImportError, NotImplementedError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise LauncherError(f"accelerate cannot start the training here: {first}") from error
    check_engine(accelerator)
    check_equal_precision(accelerator, precision)
    return accelerator


def check_equal_precision(accelerator: Accelerator, precision: str) -> None:
    """Refuses processes that have chosen different precisions, as their CPUs differ.

    Raises:
        LauncherError: On all processes.
    """
    found = sorted(set(gather_object([precision]))) if accelerator.num_processes > 1 else [precision]
    if len(found) > 1:
        raise LauncherError(
            f"train.precision is auto and comes to {' and '.join(found)}, as the processes run on different CPUs: set train.precision"
        )


@contextmanager
def _waiting_for_others(environment: Mapping[str, str] = os.environ) -> Iterator[None]:
    """A block in which the processes join: says for whom one waits, and can be ended by a signal while it does."""
    count = environment.get("WORLD_SIZE", "1")
    if not count.isdecimal() or int(count) < 2 or dist.is_initialized():
        yield
        return
    place = ":".join(environment[name] for name in ("MASTER_ADDR", "MASTER_PORT") if name in environment)
    text = f"waiting for the other {int(count) - 1} of {count} processes{f' at {place}' if place else ''}"
    timer = threading.Timer(_PATIENCE, print, [text], {"file": sys.stderr, "flush": True})
    timer.daemon = True
    timer.start()
    try:
        with left_to_the_system():
            yield
    finally:
        timer.cancel()


def check_engine(accelerator: Accelerator, environment: Mapping[str, str] = os.environ) -> None:
    """Refuses an engine that would train something else, and processes that have not joined.

    Raises:
        LauncherError: With what to do instead.
    """
    kind = accelerator.distributed_type
    if kind in (*SHARDED, DistributedType.XLA):
        raise LauncherError(
            f"accelerate has chosen {kind.value}, with which hfcontrast would not train what its recipe says: {_INSTEAD}"
        )
    count = environment.get("WORLD_SIZE", "1")
    if count.isdecimal() and int(count) != accelerator.num_processes:
        raise LauncherError(_alone(int(count), accelerator.num_processes))


def launched_alone(environment: Mapping[str, str] = os.environ) -> list[str]:
    """A sentence where ``accelerate launch`` was asked for several processes and, as it does on CPUs, started one."""
    launched = {"ACCELERATE_MIXED_PRECISION", "MASTER_ADDR", "MASTER_PORT"} <= set(environment)
    if not launched or {"RANK", "LOCAL_RANK"} & set(environment):
        return []
    return [
        "one process trains, though `accelerate launch` seems to have been asked for several (MASTER_ADDR is set): on CPUs use "
        "`torchrun --nproc_per_node N -m hfcontrast.run RECIPE train.device=cpu`"
    ]


def _alone(expected: int, joined: int = 1) -> str:
    return (
        f"WORLD_SIZE is {expected}, but {joined} process{'es have' if joined > 1 else ' has'} joined, so each would train by "
        "itself: start them with `torchrun --nproc_per_node N -m hfcontrast.run RECIPE` (on CPUs with train.device=cpu too), or "
        "unset WORLD_SIZE to train on one process"
    )


def new_states() -> None:
    """Lets the next accelerator start from nothing, while those that there are keep what they know.

    accelerate has one precision and one device a Python process, in dictionaries that all accelerators share; whoever has one
    already (a run before, a notebook) holds on to the dictionaries themselves.
    """
    for state in _STATES:
        state._shared_state = {}


@contextmanager
def own_states() -> Iterator[None]:
    """Puts accelerate's state back afterwards: that of the accelerator that the caller may have."""
    former = [state._shared_state for state in _STATES]
    try:
        yield
    finally:
        for state, shared in zip(_STATES, former):
            state._shared_state = shared
