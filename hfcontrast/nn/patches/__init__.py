"""Patches cut out of images, for pretext tasks."""
