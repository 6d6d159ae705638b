"""Evaluators: each sees an encoder and batches, never a method or the trainer."""
