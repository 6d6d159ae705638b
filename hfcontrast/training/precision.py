"""The arithmetic that ``train.precision: auto`` comes to: that of the run so far, else bf16 on GPUs and CPUs that compute it faster."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..encoders.config import Backbone
from ..recipe import Recipe
from .checkpoint_files import read_state

SETUPS = "setups"  # what the notes of checkpoints call the devices and precisions that a run was computed with
_FEATURES = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16"}  # of CPUs, the better one first
_NARROW = 192  # width of tokens
_ISAS = ("", "ALL", "DEFAULT")  # of oneDNN's limit: none
_BF16_ISAS = ("AVX512_CORE_BF16", "AVX512_CORE_FP16", "AVX512_CORE_AMX", "AVX10")


def resolved_precision(recipe: Recipe, environment: Mapping[str, str] = os.environ) -> str:
    """``fp32``, ``bf16`` or ``fp16``: what the recipe's precision comes to on this machine.

    On a CPU, a run that was begun on one keeps the precision that it had.

    Args:
        recipe: The recipe.
        environment: Environment variables.
    """
    if recipe.train.precision != "auto":
        return recipe.train.precision
    if has_gpu(recipe, environment):
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    if (begun := begun_precision(recipe)) is not None:
        return begun
    return "bf16" if bf16_feature() and not narrow(recipe.backbone) else "fp32"


def about_precision(recipe: Recipe, precision: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """One line on a precision that was chosen for a CPU; None where there is nothing to say.

    Args:
        recipe: The recipe.
        precision: What :func:`resolved_precision` has returned.
        environment: Environment variables.
    """
    if recipe.train.precision != "auto" or precision != "bf16" or has_gpu(recipe, environment):
        return None
    why = f"which this CPU computes faster ({feature})" if (feature := bf16_feature()) else "as before"
    return f"precision: bf16, {why}; train.precision=fp32 computes in full"


def has_gpu(recipe: Recipe, environment: Mapping[str, str]) -> bool:
    """Whether a CUDA device is to be trained on."""
    device = recipe.train.device
    on_cpu = device == "cpu" or (device == "auto" and asked(environment, "ACCELERATE_USE_CPU"))
    return torch.cuda.is_available() and not on_cpu


def asked(environment: Mapping[str, str], variable: str) -> bool:
    """Whether a variable asks for something: accelerate itself overlooks some of these values."""
    return environment.get(variable, "").strip().lower() not in ("", "0", "false", "no", "n", "f", "off")


def bf16_feature(environment: Mapping[str, str] = os.environ) -> str | None:
    """What this CPU computes bf16 with, if it gains from it: without, bf16 is emulated and slower than fp32.

    oneDNN, which computes, can be kept from using it by its variable ``ONEDNN_MAX_CPU_ISA``.

    Args:
        environment: Environment variables.
    """
    limit = environment.get("ONEDNN_MAX_CPU_ISA", environment.get("DNNL_MAX_CPU_ISA", "")).strip().upper()
    if limit not in _ISAS and not limit.startswith(_BF16_ISAS):
        return None
    known = cpu_features()
    return next((name for feature, name in _FEATURES.items() if feature in known), None)


def cpu_features() -> set[str]:
    """The features of this machine's CPU, by the names that Linux has for them; empty where they cannot be found out."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        found: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        return {name for name, has_it in found.items() if has_it is True}
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return set(flags.partition(":")[2].split())


def narrow(backbone: Backbone) -> bool:
    """Whether an encoder of tokens is so narrow that a CPU takes longer for its many small products in bf16 than in fp32.

    Measured on one core with AMX, images/s of whole steps of shipped recipes in bf16 against fp32: ViTs of width 64 0.6, of width 192 0.9
    (MAE) to 1.3 (DINO), ResNets of 24 to 256 channels 1.2 to 1.6.

    Args:
        backbone: The encoder of a recipe; of two towers, that of images.
    """
    fields = (backbone.vision or backbone).fields
    fields = fields.get("vision_config") or fields
    width = fields.get("hidden_size") if isinstance(fields, Mapping) else None
    return isinstance(width, int) and width < _NARROW


def begun_precision(recipe: Recipe) -> str | None:
    """What a run on a CPU was computed in until its newest checkpoint; None where there is none, or it was begun elsewhere."""
    folder = Path(recipe.train.output or "") / "checkpoints"
    newest = max(folder.glob("step_*"), default=None) if recipe.train.output else None
    if newest is None:
        return None
    try:
        setups = read_state(newest)["notes"].get(SETUPS)
    except (OSError, ValueError, json.JSONDecodeError):  # which is said when it is resumed from
        return None
    if not setups:
        return "fp32"  # of a version that knew of no other on a CPU
    return setups[-1]["precision"] if setups[-1]["device"] == "cpu" else None
