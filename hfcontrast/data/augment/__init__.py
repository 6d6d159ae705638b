"""Augmentation: a function of seed, epoch, sample and view alone, independent of the process that computes it.

- ``draws``: what is drawn for each crop, from keys: its box, its flips and its color parameters.
- ``definition``: what each operation does to one image, written for reading; the executions are tested against it.
- ``cpu_crops``, ``cpu_color``: the execution on a CPU, loops that numba compiles. ``gpu``: that on any device, in plain torch.
- ``execution``: which of them runs, and the line that reports it.
- ``crops``: ``CropCutter``, which cuts the crops of a batch, in the loader's workers; ``color``: ``ColorAugmentation``, which
  makes augmented, normalized floats of them, on the training device.
"""
