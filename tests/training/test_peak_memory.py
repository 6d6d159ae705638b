"""The measured memory grows with what is allocated."""

import sys

import pytest
import torch

from hfcontrast.training.memory import peak_memory, reset_peak_memory


def test_the_peak_of_a_process_stays_after_the_memory_is_free():
    cpu = torch.device("cpu")
    reset_peak_memory(cpu)
    before = peak_memory(cpu)
    size = before + (64 << 20)  # more than the process has ever had
    block = torch.ones(size, dtype=torch.uint8)
    peak = peak_memory(cpu)
    assert size <= peak < before + size + (256 << 20)
    del block
    assert peak_memory(cpu) >= 0.99 * peak  # systems count in portions


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_the_peak_of_a_process_is_reset():
    cpu = torch.device("cpu")
    block = torch.ones(300 << 20, dtype=torch.uint8)
    before = peak_memory(cpu)
    del block
    reset_peak_memory(cpu)
    assert peak_memory(cpu) < before - (250 << 20)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_peak_of_a_gpu_is_reset():
    gpu = torch.device("cuda")
    torch.ones(256 << 20, dtype=torch.uint8, device=gpu)
    assert peak_memory(gpu) >= 256 << 20
    reset_peak_memory(gpu)
    assert peak_memory(gpu) < 256 << 20
