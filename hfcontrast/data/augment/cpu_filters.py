"""Sobel filters, noise and cutout on the CPU: compiled loops over one crop, whose colors are planes of H * W values."""

import numpy as np

from hfcontrast.data.augment.definition import GRAY_WEIGHTS, MULTIPLIERS
from hfcontrast.data.augment.execution import compile_loop

_GRAY = np.array(GRAY_WEIGHTS, dtype=np.float32)
_FIRST, _SECOND = np.uint32(MULTIPLIERS[0]), np.uint32(MULTIPLIERS[1])
_FULL = np.float32(2**24)
_TURN = np.float32(2 * np.pi / 2**24)


@compile_loop()
def sobel(red, green, blue, height, width):
    """As ``definition.sobel``, in place."""
    gray = np.empty((height + 2, width + 2), np.float32)
    for y in range(height):
        for x in range(width):
            i = y * width + x
            gray[y + 1, x + 1] = _GRAY[0] * red[i] + _GRAY[1] * green[i] + _GRAY[2] * blue[i]
    gray[:, 0], gray[:, width + 1] = gray[:, 1], gray[:, width]
    gray[0], gray[height + 1] = gray[1], gray[height]
    half, eighth, two = np.float32(0.5), np.float32(0.125), np.float32(2)
    for y in range(height):
        above, middle, below = gray[y], gray[y + 1], gray[y + 2]
        for x in range(width):
            across = above[x + 2] - above[x] + two * (middle[x + 2] - middle[x]) + below[x + 2] - below[x]
            down = below[x] - above[x] + two * (below[x + 1] - above[x + 1]) + below[x + 2] - above[x + 2]
            i = y * width + x
            red[i] = half + eighth * across
            green[i] = half + eighth * down
            blue[i] = half


@compile_loop()
def _hashed(value):
    value ^= value >> np.uint32(16)
    value = np.uint32(value * _FIRST)
    value ^= value >> np.uint32(15)
    value = np.uint32(value * _SECOND)
    return np.uint32(value ^ (value >> np.uint32(16)))


@compile_loop()
def add_noise(planes, size, std, key):
    """As in ``definition``, to the three planes (3, size), in place."""
    start = _hashed(np.uint32(key))
    for i in range(size):
        for c in range(3):
            place = np.uint32(2 * (3 * i + c))
            first = _hashed(np.uint32(place ^ start)) >> np.uint32(8)
            second = _hashed(np.uint32((place + np.uint32(1)) ^ start)) >> np.uint32(8)
            radius = np.sqrt(np.float32(-2) * np.log((np.float32(first) + np.float32(1)) / _FULL))
            value = planes[c, i] + std * radius * np.cos(_TURN * np.float32(second))
            planes[c, i] = min(max(value, np.float32(0)), np.float32(1))


@compile_loop()
def cut_out(out, height, width, interleaved, y, x, side):
    """As ``definition.cut_out``, of a crop of H * W * 3 values, interleaved or in planes, in place."""
    top, left = y - side // 2, x - side // 2
    for row in range(max(top, 0), min(top + side, height)):
        for column in range(max(left, 0), min(left + side, width)):
            place = row * width + column
            for c in range(3):
                out[3 * place + c if interleaved else c * height * width + place] = 0
