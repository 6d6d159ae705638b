"""Random numbers that are a pure function of (seed, epoch, sample id, view number), on any process.

A counter-based generator (the splitmix64 sequence of Steele, Lea and Flood, 2014, "Fast splittable pseudorandom number
generators", with a start that is hashed from the four numbers) gives the k-th uniform number of a crop without the
ones before it, for a whole batch at once, and needs no state. So the views of a sample are the same with 0 or 8
workers, on 1 or 8 processes, before and after a restart.
"""

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1, _MIX2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def _mix(state: np.ndarray) -> np.ndarray:
    state = (state ^ (state >> np.uint64(30))) * _MIX1
    state = (state ^ (state >> np.uint64(27))) * _MIX2
    return state ^ (state >> np.uint64(31))


def hash_numbers(*numbers: int | np.ndarray) -> np.ndarray:
    """Hashes whole numbers, in their order, to 64 bits.

    Args:
        numbers: Integers or integer arrays that broadcast together; negative ones count modulo 2**64.

    Returns:
        uint64 array of the broadcast shape (at least one dimension).
    """
    state = np.zeros(1, dtype=np.uint64)
    for number in numbers:
        if isinstance(number, np.ndarray):
            number = number.astype(np.uint64)
        else:
            number = np.array([int(number) % 2**64], dtype=np.uint64)
        state = _mix((state ^ number) + _GOLDEN)
    return state


def uniforms(seed: int, epoch: int, ids: np.ndarray, view: int | np.ndarray, count: int) -> np.ndarray:
    """Uniform numbers in [0, 1) for every sample.

    Args:
        seed: The run's seed.
        epoch: The epoch.
        ids: (B,) integers that name the samples.
        view: The number of the crop within its sample, or an array of numbers that broadcasts with ``ids``.
        count: How many numbers each gets.

    Returns:
        float64 of the shape that ``ids`` and ``view`` broadcast to, with ``count`` appended.
    """
    state = hash_numbers(seed, epoch, np.asarray(ids), view)
    steps = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN
    return (_mix(state[..., None] + steps) >> np.uint64(11)) * 2.0**-53
