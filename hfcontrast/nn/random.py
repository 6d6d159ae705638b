"""Random numbers that are a function of what they are for, not of the process or the moment that draws them.

A method that draws in ``embed`` or ``objective`` (masks, negatives of a bank, directions) takes its numbers from here, by
the run's seed, the step and the sample: then 2 processes draw what 1 draws, a resumed run what the uninterrupted one
drew, and a micro-batch that is computed twice the same both times. Counter-based: the splitmix64 sequence of Steele,
Lea and Flood, 2014, "Fast splittable pseudorandom number generators", from a start that is hashed from the key.
"""

import contextlib
from collections.abc import Sequence

import torch
from torch import Tensor

_GOLDEN, _MIX1, _MIX2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def _signed(number: int) -> int:
    number &= 0xFFFFFFFFFFFFFFFF
    return number - (1 << 64) if number >> 63 else number


def _shift(values: Tensor, bits: int) -> Tensor:
    return (values >> bits) & ((1 << (64 - bits)) - 1)  # >> keeps the sign; a logical shift does not


def _mix(state: Tensor) -> Tensor:
    state = (state ^ _shift(state, 30)) * _signed(_MIX1)
    state = (state ^ _shift(state, 27)) * _signed(_MIX2)
    return state ^ _shift(state, 31)


def hash_numbers(*numbers: int | Tensor) -> Tensor:
    """Hashes whole numbers, in their order, to 64 bits.

    Args:
        numbers: Integers or int64 tensors that broadcast together.

    Returns:
        int64 tensor of the broadcast shape, on the tensors' device.
    """
    device = next((number.device for number in numbers if isinstance(number, Tensor)), None)
    state = torch.zeros((), dtype=torch.long, device=device)
    for number in numbers:
        state = _mix((state ^ (number if isinstance(number, Tensor) else _signed(number))) + _signed(_GOLDEN))
    return state


def sample_uniform(index: Tensor, count: int, *key: int) -> Tensor:
    """Uniform numbers of each sample.

    Args:
        index: (B,) int64, the samples' positions in their data set.
        count: Numbers for each.
        key: What else they depend on: ``progress.seed``, ``progress.step``, and a number for what they are used for.

    Returns:
        (B, count) float32 in [0, 1), on the device of ``index``.
    """
    counters = torch.arange(1, count + 1, device=index.device) * _signed(_GOLDEN)
    bits = _mix(hash_numbers(*key, index).unsqueeze(1) + counters)
    return _shift(bits, 40).float() * 2.0**-24


def shared_generator(*key: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that gives all processes, and all devices, the same numbers.

    Args:
        key: What they depend on, as in :func:`sample_uniform`.
        device: Nothing but the CPU: the generator of another device gives other numbers.

    Raises:
        ValueError: Another device is asked for.
    """
    if torch.device(device).type != "cpu":
        raise ValueError(
            f"shared_generator draws on the CPU, not on {device}, whose numbers are others for the same key: draw there and move "
            "the numbers, as hfcontrast.nn.shared_normal does"
        )
    return torch.Generator().manual_seed(int(hash_numbers(*key)) & 0x7FFFFFFFFFFFFFFF)


def shared_normal(shape: Sequence[int], *key: int, device: torch.device | str = "cpu") -> Tensor:
    """Standard normal numbers that all processes share.

    Args:
        shape: Of the result.
        key: What they depend on, as in :func:`sample_uniform`.
        device: Where they are needed; they are the same on every device.

    Returns:
        float32 of that shape.
    """
    return torch.randn(tuple(shape), generator=shared_generator(*key)).to(device)


def generator_kept() -> contextlib.AbstractContextManager[None]:
    """Around what draws aside, such as the initial weights of a model that is only looked at: the CPU's generator goes on as before."""
    return torch.random.fork_rng(devices=[])
