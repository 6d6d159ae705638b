"""Color augmentation on the CPU: all operations on one crop at a time in compiled loops, the crops spread over threads.

A crop stays in the cache of its core from the first operation to the last, and the loops have no branches on pixels,
so that the compiler vectorizes them. Threads are plain ones: no OpenMP pool that a fork could break.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from hfcontrast.data.augment.cpu_blur import blur_plane, kernel
from hfcontrast.data.augment.cpu_filters import add_noise, cut_out, sobel
from hfcontrast.data.augment.definition import GRAY_WEIGHTS
from hfcontrast.data.augment.draws import (
    BLUR,
    CUTOUT_SIZE,
    CUTOUT_X,
    CUTOUT_Y,
    GRAYSCALE,
    JITTER_ORDERS,
    NEUTRAL,
    NOISE,
    NOISE_KEY,
    ORDER,
    SOBEL,
    SOLARIZE,
)
from hfcontrast.data.augment.execution import FASTMATH, compile_loop

_GRAY = np.array(GRAY_WEIGHTS, dtype=np.float32)
_ZERO, _ONE, _TWO, _FOUR, _SIX = (np.float32(v) for v in (0, 1, 2, 4, 6))


@compile_loop(FASTMATH)
def _clip(value):
    return min(max(value, _ZERO), _ONE)


@compile_loop(FASTMATH)
def _sum_block(values):
    total = _ZERO
    for i in range(values.size):
        total += values[i]
    return total


@compile_loop(FASTMATH)
def _sum(values):
    total = 0.0
    for start in range(0, values.size, 1024):  # float32 within a block, float64 between blocks
        total += _sum_block(values[start : start + 1024])
    return total


@compile_loop(FASTMATH)
def _load(pixels, red, green, blue):
    for i in range(red.size):
        red[i] = np.float32(pixels[3 * i]) / np.float32(255)
        green[i] = np.float32(pixels[3 * i + 1]) / np.float32(255)
        blue[i] = np.float32(pixels[3 * i + 2]) / np.float32(255)


@compile_loop(FASTMATH)
def _blend_constant(values, factor, constant):
    for i in range(values.size):
        values[i] = _clip(factor * values[i] + constant)


@compile_loop(FASTMATH)
def _saturate(red, green, blue, factor):
    rest = _ONE - factor
    for i in range(red.size):
        r, g, b = red[i], green[i], blue[i]
        gray = rest * (_GRAY[0] * r + _GRAY[1] * g + _GRAY[2] * b)
        red[i] = _clip(factor * r + gray)
        green[i] = _clip(factor * g + gray)
        blue[i] = _clip(factor * b + gray)


@compile_loop(FASTMATH)
def _channel(top, spread, turn):
    turn = turn - _SIX if turn >= _SIX else turn
    return top - spread * _clip(min(turn, _FOUR - turn))


@compile_loop(FASTMATH)
def _shift_hue(red, green, blue, shift):
    shift = shift * _SIX
    for i in range(red.size):
        r, g, b = red[i], green[i], blue[i]
        top = max(r, max(g, b))
        spread = top - min(r, min(g, b))
        inverse = _ONE / (_ONE if spread == _ZERO else spread)
        sextant = _TWO + (b - r) * inverse if top == g else _FOUR + (r - g) * inverse
        sextant = (g - b) * inverse if top == r else sextant
        sextant += shift
        sextant = sextant + _SIX if sextant < _ZERO else sextant
        sextant = sextant - _SIX if sextant >= _SIX else sextant
        red[i] = _channel(top, spread, sextant + np.float32(5))
        green[i] = _channel(top, spread, sextant + np.float32(3))
        blue[i] = _channel(top, spread, sextant + np.float32(1))


@compile_loop(FASTMATH)
def _jitter(red, green, blue, operation, factor):
    if operation == 3:
        if factor != _ZERO:
            _shift_hue(red, green, blue, factor)
    elif factor != _ONE:
        if operation == 2:
            _saturate(red, green, blue, factor)
            return
        constant = _ZERO
        if operation == 1:
            mean = (_GRAY[0] * _sum(red) + _GRAY[1] * _sum(green) + _GRAY[2] * _sum(blue)) / red.size
            constant = np.float32((_ONE - factor) * mean)
        _blend_constant(red, factor, constant)
        _blend_constant(green, factor, constant)
        _blend_constant(blue, factor, constant)


@compile_loop(FASTMATH)
def _to_gray(red, green, blue):
    for i in range(red.size):
        gray = _GRAY[0] * red[i] + _GRAY[1] * green[i] + _GRAY[2] * blue[i]
        red[i] = gray
        green[i] = gray
        blue[i] = gray


@compile_loop(FASTMATH)
def _store_interleaved(red, green, blue, threshold, scale, shift, out):
    for i in range(red.size):
        r, g, b = red[i], green[i], blue[i]
        r = _ONE - r if r >= threshold else r
        g = _ONE - g if g >= threshold else g
        b = _ONE - b if b >= threshold else b
        out[3 * i] = r * scale[0] + shift[0]
        out[3 * i + 1] = g * scale[1] + shift[1]
        out[3 * i + 2] = b * scale[2] + shift[2]


@compile_loop(FASTMATH)
def _store_plane(values, threshold, scale, shift, out):
    for i in range(values.size):
        value = _ONE - values[i] if values[i] >= threshold else values[i]
        out[i] = value * scale + shift


@compile_loop(FASTMATH)
def _augment_some(pixels, parameters, orders, height, width, scale, shift, interleaved, out):
    """Crops as rows: pixels (N, H * W * 3) uint8, out (N, H * W * 3) float32, interleaved or in planes."""
    size = height * width
    planes = np.empty((3, size), np.float32)
    reach = max(4, min(int(4 * parameters[:, BLUR].max()) + 4, min(height, width) + 3))
    pitch = width + 2 * reach
    wide, tall = np.zeros(height * pitch, np.float32), np.zeros((height + 2 * reach) * pitch, np.float32)
    red, green, blue = planes[0], planes[1], planes[2]
    for n in range(pixels.shape[0]):
        values = parameters[n]
        _load(pixels[n], red, green, blue)
        for stage in range(4):
            operation = orders[int(values[ORDER]), stage]
            _jitter(red, green, blue, operation, values[operation])
        if values[GRAYSCALE] > 0:
            _to_gray(red, green, blue)
        if values[SOBEL] > 0:
            sobel(red, green, blue, height, width)
        if values[BLUR] > 0:
            weights = kernel(values[BLUR], min(height, width))
            if values[GRAYSCALE] > 0 and values[SOBEL] == 0:
                blur_plane(red, height, width, weights, wide, tall)
                green[:] = red
                blue[:] = red
            else:
                for c in range(3):
                    blur_plane(planes[c], height, width, weights, wide, tall)
        if values[NOISE] > 0:
            add_noise(planes, size, values[NOISE], values[NOISE_KEY])
        if interleaved:
            _store_interleaved(red, green, blue, values[SOLARIZE], scale, shift, out[n])
        else:
            for c in range(3):
                part = out[n, c * size : (c + 1) * size]
                _store_plane(planes[c], values[SOLARIZE], scale[c], shift[c], part)
        if values[CUTOUT_SIZE] > 0:
            y, x, side = int(values[CUTOUT_Y]), int(values[CUTOUT_X]), int(values[CUTOUT_SIZE])
            cut_out(out[n], height, width, interleaved, y, x, side)


def compile_loop_of_colors() -> None:
    """Compiles ``augment_color``, by augmenting a crop of one pixel."""
    pixels, parameters = torch.zeros(1, 1, 1, 3, dtype=torch.uint8), torch.from_numpy(NEUTRAL[None])
    augment_color(pixels, parameters, (0.5,) * 3, (0.5,) * 3, True, torch.device("cpu"))


_pool: tuple[int, int, ThreadPoolExecutor] | None = None


def _threads() -> ThreadPoolExecutor:
    """As many threads as torch uses, restarted in a forked process or when that number changes."""
    global _pool
    wanted = (os.getpid(), torch.get_num_threads())
    if _pool is None or _pool[:2] != wanted:
        _pool = (*wanted, ThreadPoolExecutor(wanted[1], thread_name_prefix="color_augmentation"))
    return _pool[2]


def augment_color(
    pixels: torch.Tensor,
    parameters: torch.Tensor,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    channels_last: bool,
    device: torch.device,
) -> torch.Tensor:
    """As ``gpu.augment_color``, on the CPU."""
    rows, height, width, _ = pixels.shape
    source = pixels.contiguous().view(rows, -1).numpy()
    values = np.ascontiguousarray(parameters.numpy())
    result = torch.empty((rows, height, width, 3) if channels_last else (rows, 3, height, width))
    target = result.view(rows, -1).numpy()
    scale = (1 / np.array(std)).astype(np.float32)
    shift = (-np.array(mean) / np.array(std)).astype(np.float32)

    def work(part: slice) -> None:
        arguments = (source[part], values[part], JITTER_ORDERS, height, width, scale, shift, channels_last)
        _augment_some(*arguments, target[part])

    threads = min(torch.get_num_threads(), rows)
    if threads <= 1:
        work(slice(0, rows))
    else:  # several parts a thread, as crops with a blur take longer
        step = max(1, rows // (4 * threads))
        list(_threads().map(work, [slice(first, first + step) for first in range(0, rows, step)]))
    return result.permute(0, 3, 1, 2) if channels_last else result
