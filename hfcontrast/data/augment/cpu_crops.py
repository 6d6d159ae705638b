"""Small crops on the CPU by a compiled loop: the arithmetic of torch's antialiased uint8 resize (``definition.cut_crop``), bit for bit.

The weights are Pillow's: 16-bit fixed-point numbers with as many fractional bits as the largest one allows; rows first,
rounded to bytes, then columns. On small crops a call of torch costs more than what its vectorized kernel gains.
"""

import numpy as np

from hfcontrast.data.augment.execution import compile_loop

WORK = 2048  # up to so many rows times the larger of input and output columns the loop is the faster one


@compile_loop()
def _filter(x, cubic):
    x = abs(x)
    if not cubic:
        return max(0.0, 1.0 - x)
    if x < 1.0:
        return (1.5 * x - 2.5) * x * x + 1.0
    if x < 2.0:
        return -0.5 * (((x - 5.0) * x + 8.0) * x - 4.0)
    return 0.0


@compile_loop()
def _weights(source, target, cubic):
    """For each output position the first input position, their number and weights; and the fractional bits."""
    scale = source / target
    reach = (2.0 if cubic else 1.0) * max(scale, 1.0)
    inverse = 1.0 / scale if scale >= 1.0 else 1.0
    first, count = np.empty(target, np.int64), np.empty(target, np.int64)
    exact = np.zeros((target, int(np.ceil(reach)) * 2 + 1))
    for i in range(target):
        center = scale * (i + 0.5)
        first[i] = max(int(center - reach + 0.5), 0)
        count[i] = min(int(center + reach + 0.5), source) - first[i]
        total = 0.0
        for j in range(count[i]):
            exact[i, j] = _filter((j + first[i] - center + 0.5) * inverse, cubic)
            total += exact[i, j]
        for j in range(count[i]):
            exact[i, j] /= total
    largest, bits = exact.max(), 0
    while bits < 22 and int(0.5 + largest * (1 << (bits + 1))) < 1 << 15:
        bits += 1
    fixed = np.empty(exact.shape, np.int32)
    for i in range(target):
        for j in range(exact.shape[1]):
            value = exact[i, j] * (1 << bits)
            fixed[i, j] = int(value - 0.5) if value < 0 else int(value + 0.5)
    return first, count, fixed, bits


def compile_loop_of_crops() -> None:
    """Compiles ``cut_small``, by cutting a crop of one pixel."""
    cut_small(np.zeros((2, 2, 3), np.uint8), 0, 0, 2, 2, True, False, False, np.empty((1, 1, 3), np.uint8))


@compile_loop()
def cut_small(image, top, left, height, width, cubic, flip_horizontally, flip_vertically, out):
    """As ``definition.cut_crop``, written into ``out``, a (size, size, 3) uint8 array."""
    size = out.shape[0]
    lines = np.empty((height, size * 3), np.uint8)
    first, count, weights, bits = _weights(width, size, cubic)
    half = 1 << (bits - 1)
    for y in range(height):
        for x in range(size):
            place = (size - 1 - x if flip_horizontally else x) * 3
            if width == size:
                for c in range(3):
                    lines[y, place + c] = image[top + y, left + x, c]
                continue
            red, green, blue = half, half, half
            for j in range(count[x]):
                pixel, weight = image[top + y, left + first[x] + j], weights[x, j]
                red += weight * pixel[0]
                green += weight * pixel[1]
                blue += weight * pixel[2]
            lines[y, place] = min(max(red >> bits, 0), 255)
            lines[y, place + 1] = min(max(green >> bits, 0), 255)
            lines[y, place + 2] = min(max(blue >> bits, 0), 255)
    first, count, weights, bits = _weights(height, size, cubic)
    total = np.empty(size * 3, np.int32)
    for y in range(size):
        line = out[size - 1 - y if flip_vertically else y].reshape(size * 3)
        if height == size:
            line[:] = lines[y]
            continue
        total[:] = 1 << (bits - 1)
        for j in range(count[y]):
            source, weight = lines[first[y] + j], weights[y, j]
            for x in range(size * 3):
                total[x] += weight * source[x]
        for x in range(size * 3):
            line[x] = min(max(total[x] >> bits, 0), 255)
