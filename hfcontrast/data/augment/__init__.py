"""Augmentation: parameters drawn from keys, crops, and color augmentation."""
