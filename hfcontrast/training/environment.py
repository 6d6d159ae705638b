"""The environment of a run: versions that are written beside its results."""

import contextlib
import os
import subprocess
from importlib.metadata import PackageNotFoundError, version


def describe_environment() -> dict[str, str]:
    """Versions of what computes, and the commit of the working directory's repository."""
    names = ("hfcontrast", "torch", "torchvision", "transformers", "timm", "datasets", "accelerate", "numpy", "pillow")
    versions = {}
    for name in names:
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, cwd=os.getcwd()
        )
        if commit.returncode == 0:
            versions["git_commit"] = commit.stdout.strip()
    return versions
