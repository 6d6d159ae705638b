"""Benchmarks: of the training step, the losses and the loader."""
