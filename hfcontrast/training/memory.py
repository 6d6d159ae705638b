"""The peak memory of a run, or of one task."""

import contextlib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import torch


def reset_peak_memory(device: torch.device) -> None:
    """Begins a new measurement, where that is possible: on a CUDA device, and for processes of Linux."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):  # not there, or not allowed
        Path("/proc/self/clear_refs").write_text("5\n")  # sets the peak to what is resident now


def peak_memory(device: torch.device) -> int:
    """Largest memory so far, in bytes.

    On a CUDA device: what tensors have taken of it at once, since :func:`reset_peak_memory`. Elsewhere: the resident memory of
    this process, libraries and kept images included, its loader's workers not; on Linux since then too, else since its start.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    status = Path("/proc/self/status")
    # Not getrusage, where there is a choice: on Linux it begins with the size of the process that started this one.
    if status.exists() and (found := re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE)):
        return int(found[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def memory_of(task: Callable[[], object], device: torch.device) -> int:
    """Bytes that a task holds at its peak beyond what was there before, results included.

    On a CPU from the profiler's record of everything that torch's allocator gives out and takes back; scratch memory that
    libraries take elsewhere is not in it.
    """
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        task()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it tells stderr of every start and stop
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        task()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak
