"""Masks of patches."""
