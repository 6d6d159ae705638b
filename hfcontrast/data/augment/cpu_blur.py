"""Gaussian blur on the CPU: compiled loops over one plane of a crop, as ``definition.blur``."""

import numpy as np

from hfcontrast.data.augment.execution import FASTMATH, compile_loop


@compile_loop(FASTMATH)
def _weigh(source, center, step, size, weights, result):
    """result[x] = sum over d of weights[abs(d)] * source[center + d * step + x]; weights[1:] come in fours."""
    middle = source[center : center + size]
    for x in range(size):
        result[x] = weights[0] * middle[x]
    for d in range(1, weights.size, 4):  # four at once, so that sums stay in registers
        w1, w2, w3, w4 = weights[d], weights[d + 1], weights[d + 2], weights[d + 3]
        low, high = center - d * step, center + d * step
        a1, b1 = source[low : low + size], source[high : high + size]
        a2, b2 = source[low - step : low - step + size], source[high + step : high + step + size]
        a3, b3 = source[low - 2 * step : low - 2 * step + size], source[high + 2 * step : high + 2 * step + size]
        a4, b4 = source[low - 3 * step : low - 3 * step + size], source[high + 3 * step : high + 3 * step + size]
        for x in range(size):
            first = w1 * (a1[x] + b1[x]) + w2 * (a2[x] + b2[x])
            result[x] += first + (w3 * (a3[x] + b3[x]) + w4 * (a4[x] + b4[x]))


@compile_loop(FASTMATH)
def _reflect(position, size):
    position = abs(position)
    position = position if position < size else 2 * (size - 1) - position
    return min(max(position, 0), size - 1)  # beyond one reflection the weights are 0


@compile_loop(FASTMATH)
def blur_plane(plane, height, width, weights, wide, tall):
    """Blurs a plane of H * W values in place: along the rows, then along the columns, each over the whole plane at once.

    Both buffers have lines of ``pitch`` values, with room for the reflected pixels to the left and right in the one and
    for reflected lines above and below in the other; what is computed across the ends of lines is not used.
    """
    reach = weights.size - 1
    pitch = width + 2 * reach
    for y in range(height):
        row, line = plane[y * width : (y + 1) * width], wide[y * pitch : (y + 1) * pitch]
        line[reach : reach + width] = row
        for x in range(1, reach + 1):
            line[reach - x] = row[_reflect(-x, width)]
            line[reach + width - 1 + x] = row[_reflect(width - 1 + x, width)]
    size = height * pitch - 2 * reach
    _weigh(wide, reach, 1, size, weights, tall[reach * pitch :])
    for y in range(1, reach + 1):
        above, below = (reach - y) * pitch, (reach + height - 1 + y) * pitch
        source = (reach + _reflect(-y, height)) * pitch
        tall[above : above + width] = tall[source : source + width]
        source = (reach + _reflect(height - 1 + y, height)) * pitch
        tall[below : below + width] = tall[source : source + width]
    _weigh(tall, reach * pitch, pitch, size, weights, wide)
    for y in range(height):
        plane[y * width : (y + 1) * width] = wide[y * pitch : y * pitch + width]


@compile_loop(FASTMATH)
def kernel(sigma, side):
    """Weights of a Gaussian blur, from the center outwards, zeros at the end to make them come in fours."""
    reach = min(int(np.ceil(np.float32(4) * sigma)), side - 1)
    weights = np.zeros(1 + (reach + 3) // 4 * 4, dtype=np.float32)
    total = 0.0
    for d in range(reach + 1):
        weight = np.exp(-0.5 * (d / sigma) ** 2)
        total += weight if d == 0 else 2 * weight
        weights[d] = weight
    return weights / np.float32(total)
