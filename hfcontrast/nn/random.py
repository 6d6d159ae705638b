"""Counter-based random numbers: functions of seed, step and sample, independent of the process and of the order of draws.

A method that uses random numbers in ``embed`` or ``objective`` (masks, negatives from a bank, directions) gets them from here, keyed
by the run's seed, the step and the sample: then they are equal on any number of processes, in a resumed run, and in a
micro-batch that is computed twice. The generator is splitmix64 (Steele, Lea and Flood, 2014, "Fast splittable pseudorandom
number generators"), started from a hash of the key.
"""

import contextlib
from collections.abc import Iterator, Sequence

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
    """Hashes a sequence of integers to 64 bits.

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
    """Uniform random numbers for each sample.

    Args:
        index: (B,) int64, the samples' positions in their data set.
        count: Numbers per sample.
        key: Further keys: ``progress.seed``, ``progress.step``, and a number for their purpose.

    Returns:
        (B, count) float32 in [0, 1), on the device of ``index``.
    """
    counters = torch.arange(1, count + 1, device=index.device) * _signed(_GOLDEN)
    bits = _mix(hash_numbers(*key, index).unsqueeze(1) + counters)
    return _shift(bits, 40).float() * 2.0**-24


def shared_generator(*key: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator with the same numbers on all processes and devices.

    Args:
        key: The keys, as in :func:`sample_uniform`.
        device: Only the CPU: generators of other devices give other numbers.

    Raises:
        ValueError: The device is not the CPU.
    """
    if torch.device(device).type != "cpu":
        raise ValueError(
            f"shared_generator works on the CPU, not on {device}, whose generator gives other numbers: draw on the CPU and move "
            "the numbers, as hfcontrast.nn.shared_normal does"
        )
    return torch.Generator().manual_seed(int(hash_numbers(*key)) & 0x7FFFFFFFFFFFFFFF)


def shared_normal(shape: Sequence[int], *key: int, device: torch.device | str = "cpu") -> Tensor:
    """Standard normal numbers, equal on all processes.

    Args:
        shape: Shape of the result.
        key: The keys, as in :func:`sample_uniform`.
        device: Device of the result; the numbers are the same on every device.

    Returns:
        float32 tensor of that shape.
    """
    return torch.randn(tuple(shape), generator=shared_generator(*key)).to(device)


@contextlib.contextmanager
def generator_at(seed: int) -> Iterator[None]:
    """Context in which the CPU's global generator begins at a seed, for initial weights that are always the same; then as it was before."""
    with generator_kept():
        torch.manual_seed(seed)
        yield


def generator_kept(device: torch.device | None = None) -> contextlib.AbstractContextManager[None]:
    """Context that restores the state of the CPU's global generator at its end, such as around building a model only to inspect it.

    Args:
        device: A GPU whose generator is restored too.
    """
    return torch.random.fork_rng(devices=[device] if device is not None and device.type == "cuda" else [])
