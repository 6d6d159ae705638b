"""A model that ``timm.create_model`` returned, as an encoder: the configuration that builds the same network again."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from ..errors import ArgumentError

_NO_FUNCTION = {"training", "grad_checkpointing", "num_classes", "fused_attn"}  # attributes that change no output
_TOLERANCE = {torch.float32: 0.01, torch.float64: 0.01}  # relative; of half precision:
_HALF = 0.2
_REMEDY = (
    "give transformers' model of it, TimmWrapperModel(TimmWrapperConfig(architecture=..., model_args={...})), with your arguments of "
    "timm.create_model as model_args, and your weights loaded into its timm_model"
)


def is_timm_model(model: Any) -> bool:
    """Whether it is a module that timm has made, outside of transformers' wrapper."""
    return (
        isinstance(model, nn.Module)
        and not isinstance(model, PreTrainedModel)
        and bool(_of_timm(model, "architecture"))
    )


def config_of_timm_model(model: nn.Module) -> PreTrainedConfig:
    """Configuration of transformers' wrapper around a model of timm, without its classifier.

    timm's models do not keep the arguments that they were made with: number of channels, image size, dynamic image sizes and pooling are
    read from the model.

    Args:
        model: What ``timm.create_model`` returned.

    Raises:
        ArgumentError: It has other layers, or layers with other settings, than these arguments give.
    """
    import timm
    from transformers import TimmWrapperConfig

    architecture, given = _of_timm(model, "architecture"), model.state_dict()
    classes = getattr(model, "num_classes", None)
    whole = {"num_classes": classes} if isinstance(classes, int) else {}
    problem = ""
    for arguments in _guesses(model):
        try:
            with torch.device("meta"):
                built = timm.create_model(architecture, num_classes=0, **arguments)
                same_classes = timm.create_model(architecture, **whole, **arguments)
        except (TypeError, ValueError, AssertionError, RuntimeError) as error:
            problem = problem or str(error)
            continue
        wrong = [
            key for key, value in built.state_dict().items() if key not in given or given[key].shape != value.shape
        ]
        different = f"{wrong[0]} is another one" if wrong else _difference(model, same_classes)
        if different is None:
            own: dict[str, Any] = {"architecture": architecture, "model_args": arguments, "num_labels": 0}
            return TimmWrapperConfig(**own)
        problem = problem or different
    raise _not_the_same(architecture, problem)


def check_same_function(encoder: PreTrainedModel, model: nn.Module, size: int) -> None:
    """Compares the feature maps of one image: what no attribute of a module says, such as a replaced ``forward``.

    Args:
        encoder: The encoder with the model's weights, on the CPU.
        model: The model of timm.
        size: Side of the image, in pixels.

    Raises:
        ArgumentError: They differ.
    """
    first = next(model.parameters())
    own = encoder.timm_model
    if first.is_meta or not (hasattr(model, "forward_features") and hasattr(own, "forward_features")):
        return
    channels = (encoder.config.model_args or {}).get("in_chans", 3)
    image = torch.linspace(0, 1000, channels * size * size).sin().view(1, channels, size, size)
    expected = _features(model, image.to(first.device, first.dtype))
    found = _features(own, image)
    if not (torch.is_tensor(expected) and torch.is_tensor(found)):
        return
    expected = expected.float().cpu()
    far = found.shape != expected.shape
    if not far:
        far = bool((found - expected).norm() > _TOLERANCE.get(first.dtype, _HALF) * expected.norm())
    if far:
        raise _not_the_same(_of_timm(model, "architecture"), "it makes other features of the same image")


@torch.no_grad()
def _features(model: nn.Module, image: torch.Tensor) -> Any:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        return model.forward_features(image)  # type: ignore[operator]
    finally:
        for module in training:
            module.training = True


def _not_the_same(architecture: str, problem: str) -> ArgumentError:
    return ArgumentError(
        f"encoder: this is not timm's {architecture!r} as its name, image size, channels and pooling make it ({problem}): {_REMEDY}"
    )


def _difference(model: nn.Module, built: nn.Module) -> str | None:
    """The first module below the classifier that is not built in the same way; None where there is none."""
    classifier = _of_timm(model, "classifier")
    heads = [classifier] if isinstance(classifier, str) else list(classifier or ())
    heads = [head for head in heads if head]
    own, expected = (dict(part.named_modules()) for part in (model, built))
    for name in dict.fromkeys([*expected, *own]):
        if any(name == head or name.startswith(f"{head}.") for head in heads):
            continue
        where = name or "the model"
        if name not in own or name not in expected:
            return f"{where} is {'missing' if name not in own else 'one more'}"
        mine, there = own[name], expected[name]
        if type(mine) is not type(there):
            return f"{where} is {type(mine).__name__}, not {type(there).__name__}"
        settings, others = _settings(mine), _settings(there)
        for key in sorted(settings.keys() & others.keys()):
            if settings[key] != others[key]:
                return f"{f'{name}.' if name else ''}{key} is {settings[key]!r}, not {others[key]!r}"
    return None


def _settings(module: nn.Module) -> dict[str, Any]:
    """The attributes of a module that are plain values."""
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and name not in _NO_FUNCTION and _plain(value)
    }


def _plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _guesses(model: nn.Module) -> Iterator[dict[str, Any]]:
    """What a model of timm may have been made with, the likeliest first."""
    own: dict[str, Any] = {}
    first = _of_timm(model, "first_conv")
    names = [first] if isinstance(first, str) else list(first or ())
    for name in names:
        convolution = dict(model.named_modules()).get(name)
        channels = getattr(convolution, "in_channels", 3)
        if channels != 3:
            own["in_chans"] = channels
    size = getattr(getattr(model, "patch_embed", None), "img_size", None)
    flexible = {"dynamic_img_size": True} if getattr(model, "dynamic_img_size", False) else {}
    pooled = getattr(model, "global_pool", None)
    pooled = getattr(pooled, "pool_type", pooled)  # a module in convolutional models
    pooling = {"global_pool": pooled} if isinstance(pooled, str) else {}
    sizes: list[dict[str, Any]] = [{"img_size": size[0] if len(set(size)) == 1 else list(size)}] if size else [{}]
    for more in (*sizes, {}):
        for others in ({**flexible, **pooling}, flexible, {}):
            yield {**own, **more, **others}


def _of_timm(model: nn.Module, name: str) -> Any:
    """An entry of a model's ``pretrained_cfg``, which is a dict or an object by timm's version."""
    config = getattr(model, "pretrained_cfg", None)
    return config.get(name) if isinstance(config, dict) else getattr(config, name, None)
