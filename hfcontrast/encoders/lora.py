"""LoRA: low-rank adapters for released weights (Hu et al., 2021, arXiv:2106.09685), added by peft and removed at the end.

Everything that knows adapters works on the names of tensors, so that it also serves weights gathered from many processes.
"""

import copy
import difflib
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..errors import ArgumentError
from .families import family_of
from .two_towers import is_two_towers

ADAPTER = "default"  # peft's name for the only adapter
# The attention's linear layers, as the architectures of transformers and timm call the module and its parts.
_ATTENTION = re.compile(
    r"(^|\.)(self_attn|attn|attention|self_attention)\.(\w+\.)*"
    r"(q_proj|k_proj|v_proj|o_proj|out_proj|query|key|value|qkv|proj|dense|q|k|v|o|q_lin|k_lin|v_lin|out_lin|Wqkv|Wo)$"
)


def add_lora(
    encoder: PreTrainedModel,
    *,
    r: int = 16,
    alpha: float | None = None,
    dropout: float = 0.0,
    target_modules: list[str] | None = None,
    towers: Iterable[str] | None = None,
    loaded: Iterable[str] = (),
    base: str | None = None,
    revision: str | None = None,
) -> list[str]:
    """Puts adapters into an encoder that has released weights, and freezes those.

    Trained afterwards are: the adapters; what starts at random in a tower with adapters; and everything outside of these
    towers, such as projections, temperature and bias of a model with two towers, and a tower without adapters that is not
    locked. The adapters start as no change at all.

    Args:
        encoder: A native model; it stays one, its chosen layers are wrapped in place.
        r: Rank.
        alpha: A change is scaled by alpha / r; None takes 2 r.
        dropout: Share of an adapter's inputs that is dropped, in [0, 1).
        target_modules: Names, or ends of names, of the linear and convolutional layers that get adapters; None takes the
            attention's query, key, value and output projections.
        towers: Which towers of a model with two get adapters, of ``vision`` and ``text``; None: both, or the whole encoder.
        loaded: Names of the tensors with released weights; only these are frozen.
        base: Where they come from, for the adapters' own file.
        revision: Branch, tag or commit of it.

    Returns:
        Names of the layers with adapters.

    Raises:
        ArgumentError: There is no layer of these names, or no attention that is known.
    """
    from peft import LoraConfig, inject_adapter_in_model

    parts = [f"{tower}_model." for tower in towers or ("vision", "text")] if is_two_towers(encoder) else [""]
    targets = find_targets(encoder, target_modules, parts)
    trainable = {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    frozen = {name for name in loaded if name.startswith(tuple(parts))}
    config = LoraConfig(
        r=r,
        lora_alpha=2 * r if alpha is None else alpha,
        lora_dropout=dropout,
        target_modules=targets,
        base_model_name_or_path=base,
        revision=revision,
    )
    inject_adapter_in_model(config, encoder, ADAPTER)  # freezes all but the adapters
    adapted = lora_layers(encoder)
    for name, parameter in encoder.named_parameters():
        original = _native_name(name, adapted)
        if original in trainable and original not in frozen:
            parameter.requires_grad_(True)
    # For save_adapter, which may be handed a teacher: a copy of which nothing is trained.
    encoder.peft_config[ADAPTER].modules_to_save = trained_modules(encoder) or None
    return targets


def find_targets(encoder: PreTrainedModel, names: list[str] | None, parts: list[str]) -> list[str]:
    """Full names of the layers that get adapters, within the towers whose names start with one of ``parts``.

    Raises:
        ArgumentError: There are none; lists those that there are.
    """
    layers = {
        name: module
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
        and name.startswith(tuple(parts))
        # torch's own attention reads the weights of its layers without calling them
        and not isinstance(encoder.get_submodule(name.rpartition(".")[0]), nn.MultiheadAttention)
    }
    kind = getattr(encoder.config, "architecture", None) or encoder.config.model_type
    if names is None:
        attention = re.compile(family_of(encoder).attention or _ATTENTION)
        if found := [name for name, layer in layers.items() if attention.search(name) and isinstance(layer, nn.Linear)]:
            return found
        raise ArgumentError(
            f"no attention that is known in {kind!r}; name layers in target_modules, of {_ends(layers) or 'which there are none'}"
        )
    found = {wanted: [name for name in layers if name == wanted or name.endswith(f".{wanted}")] for wanted in names}
    for wanted, matches in found.items():
        if not matches:
            near = difflib.get_close_matches(wanted, _ends(layers).split(", "), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {_ends(layers)}"
            raise ArgumentError(f"target_modules: {kind!r} has no linear layer {wanted!r}; {hint}", "target_modules")
    chosen = [name for name in layers if any(name in matches for matches in found.values())]
    if grouped := [name for name in chosen if getattr(layers[name], "groups", 1) > 1]:
        raise ArgumentError(
            f"target_modules: {grouped[0]!r} is a convolution in groups, which LoRA cannot change", "target_modules"
        )
    return chosen


def _ends(layers: Iterable[str]) -> str:
    """The different names of layers, without the way to them; mere numbers say nothing."""
    names = dict.fromkeys(name.rpartition(".")[2] for name in layers)
    return ", ".join(name for name in names if not name.isdigit())


def lora_layers(module: nn.Module) -> dict[str, nn.Module]:
    """The layers with adapters within a module, by name; none without LoRA."""
    return {
        name: layer
        for name, layer in module.named_modules()
        if hasattr(layer, "lora_A") and hasattr(layer, "base_layer")
    }


def merged_state_dict(module: nn.Module, state_dict: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The weights of a module with the adapters' changes added, by the names that they have without LoRA.

    Args:
        module: An encoder, or anything that holds some with adapters; it stays as it is.
        state_dict: Its weights, where it does not hold them whole itself.

    Returns:
        New tensors for the changed layers, in the precision of the layer; the others are those of the module.
    """
    state = dict(module.state_dict() if state_dict is None else state_dict)
    adapted = lora_layers(module)
    for name, layer in adapted.items():
        down, up = (state.pop(f"{name}.lora_{part}.{ADAPTER}.weight") for part in "AB")
        key = f"{name}.base_layer.weight"
        weight = state[key]
        # Of a convolution, A holds the kernels and B mixes their outputs, so it is the same product.
        change = (up.flatten(1).float() @ down.flatten(1).float()).view(weight.shape)
        state[key] = (weight.float() + layer.scaling[ADAPTER] * change).to(weight.dtype)
    return {_native_name(name, adapted): value for name, value in state.items()}


def _native_name(name: str, adapted: Collection[str]) -> str:
    """The name that a tensor has without LoRA; layers that an architecture itself calls ``base_layer``, as timm's DLA, keep theirs."""
    layer, _, rest = name.rpartition(".base_layer.")
    return f"{layer}.{rest}" if layer in adapted else name


def merged_encoder(encoder: PreTrainedModel) -> PreTrainedModel:
    """A copy of an encoder without adapters, their changes added to its weights: a native model.

    The encoder that is trained stays as it is. Without LoRA it is a plain copy.
    """
    weights = merged_state_dict(encoder)
    native = copy.deepcopy(encoder)
    for name, layer in lora_layers(native).items():
        parent, _, own = name.rpartition(".")
        setattr(native.get_submodule(parent), own, layer.base_layer)
    if hasattr(native, "peft_config"):
        del native.peft_config
    native.load_state_dict(weights)
    return native.requires_grad_(True)


def save_adapter(encoder: PreTrainedModel, folder: Path, state_dict: dict[str, Tensor] | None = None) -> None:
    """Writes the adapters alone, in peft's format, with all else that the encoder's features need and that was trained.

    ``PeftModel.from_pretrained(AutoModel.from_pretrained(BASE), folder)`` then has the features of the encoder. What is not
    part of them and of no module, the temperature and bias of the logits, is in the merged model only.

    Args:
        encoder: With adapters.
        folder: Made if needed.
        state_dict: Its weights, where it does not hold them whole itself.
    """
    state = encoder.state_dict() if state_dict is None else state_dict
    config = copy.deepcopy(encoder.peft_config[ADAPTER])
    kept = config.modules_to_save or []
    config.inference_mode = True
    config.auto_mapping = {"base_model_class": type(encoder).__name__, "parent_library": type(encoder).__module__}
    tensors = {}
    for name, value in state.items():
        if ".lora_A." in name or ".lora_B." in name:
            tensors[f"base_model.model.{name.replace(f'.{ADAPTER}.', '.')}"] = value
        elif any(name.startswith(f"{module}.") for module in kept):
            tensors[f"base_model.model.{name}"] = value
    folder.mkdir(parents=True, exist_ok=True)
    # Cloned: two names of one tensor are refused.
    save_file(
        {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()},
        folder / "adapter_model.safetensors",
        metadata={"format": "pt"},
    )
    config.save_pretrained(folder)


def trained_modules(encoder: nn.Module, path: str = "") -> list[str]:
    """Names of the modules beside the adapters that are trained: the largest that are, or that hold a trained parameter."""
    found = []
    for name, module in encoder.named_children():
        full = f"{path}{name}"
        own = [parameter for parameter in module.parameters(recurse=False) if parameter.requires_grad]
        every = list(module.parameters())
        if hasattr(module, "lora_A") or not any(parameter.requires_grad for parameter in every):
            continue
        if not lora_layers(module) and (own or all(parameter.requires_grad for parameter in every)):
            found.append(full)
        else:
            found += trained_modules(module, f"{full}.")
    return found


def lora_facts(encoder: PreTrainedModel) -> dict[str, Any] | None:
    """What adapters an encoder has, as JSON; None where it has none.

    Returns:
        ``r``, ``alpha`` and ``dropout``; ``layers``: how many have adapters; ``targets``: what these are called within their blocks;
        ``towers``: of a model with two, those with adapters; ``parameters``: how many the adapters have; ``trained_beside``: the
        encoder's modules and parameters that are trained beside them.
    """
    if not (layers := lora_layers(encoder)):
        return None
    config = encoder.peft_config[ADAPTER]
    towers = [name for name in ("vision", "text") if any(layer.startswith(f"{name}_model.") for layer in layers)]
    beside = [name for name, value in encoder.named_parameters(recurse=False) if value.requires_grad]
    adapters = (value.numel() for name, value in encoder.named_parameters() if ".lora_" in name)
    return {
        "r": config.r,
        "alpha": config.lora_alpha,
        "dropout": config.lora_dropout,
        "layers": len(layers),
        "targets": _ends(layers).split(", "),
        "towers": towers if is_two_towers(encoder) else [],
        "parameters": sum(adapters),
        "trained_beside": [*(config.modules_to_save or []), *beside],
    }


def describe(encoder: PreTrainedModel, r: int, layers: list[str]) -> str:
    """A sentence that says where adapters are, and what of the encoder is trained."""
    others = [name for name, parameter in encoder.named_parameters(recurse=False) if parameter.requires_grad]
    trained = ", ".join(["the adapters", *(encoder.peft_config[ADAPTER].modules_to_save or []), *others])
    count = sum(parameter.numel() for parameter in encoder.parameters() if parameter.requires_grad)
    native = sum(parameter.numel() for name, parameter in encoder.named_parameters() if ".lora_" not in name)
    return (
        f"LoRA of rank {r} on {len(layers)} layers ({_ends(layers)}): {count:,} parameters of the encoder are trained "
        f"({trained}); the native model has {native:,}"
    )
