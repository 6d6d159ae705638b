"""Random numbers that depend on their key alone."""

import pytest
import torch

from hfcontrast.nn import hash_numbers, sample_uniform, shared_generator, shared_normal


def test_the_numbers_are_those_of_splitmix64():
    """In Python's own integers, one after the other."""

    def mix(state):
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
        return state ^ (state >> 31)

    golden, start = 0x9E3779B97F4A7C15, 0
    for number in (7, 2**63 + 5, 123):
        start = mix(((start ^ number) + golden) % 2**64)
    expected = [(mix((start + k * golden) % 2**64) >> 40) / 2**24 for k in (1, 2, 3)]
    assert sample_uniform(torch.tensor([123]), 3, 7, 2**63 + 5).tolist() == [expected]


def test_a_sample_gets_its_numbers_in_any_batch():
    whole = sample_uniform(torch.arange(10), 5, 0, 3)
    assert torch.equal(sample_uniform(torch.tensor([7, 2]), 5, 0, 3), whole[[7, 2]])
    assert torch.equal(sample_uniform(torch.tensor([7]), 2, 0, 3), whole[[7], :2])


def test_every_part_of_the_key_counts():
    index = torch.arange(4)
    draws = [sample_uniform(index, 3, *key) for key in ((0, 0), (0, 1), (1, 0), (0,), (0, 0, 0))]
    assert len({tuple(draw.flatten().tolist()) for draw in draws}) == len(draws)
    assert len(set(hash_numbers(1, index).tolist())) == 4


def test_the_numbers_are_uniform():
    draws = sample_uniform(torch.arange(2000), 50, 5)
    counts = torch.histc(draws, 20, 0, 1)
    assert draws.min() >= 0 and draws.max() < 1
    assert ((counts - 5000).square() / 5000).sum() < 44  # chi-squared with 19 degrees of freedom, p = 0.001
    assert abs(float(torch.corrcoef(draws[:, :2].T)[0, 1])) < 0.08


def test_a_shared_generator_depends_on_its_key_only():
    first, again, other = (torch.rand(4, generator=shared_generator(*key)) for key in ((3, 9), (3, 9), (9, 3)))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_shared_generator_is_of_no_device():
    """Devices have sequences of their own: a key would give one run on a CPU and another one on a GPU."""
    for device in ("cuda", "mps", torch.device("meta")):
        with pytest.raises(ValueError, match="works on the CPU, not on"):
            shared_generator(1, device=device)
    assert shared_generator(1, device="cpu").device.type == "cpu"


def test_shared_normal_numbers_are_drawn_on_the_cpu_for_every_device(monkeypatch):
    drawn, plain = [], torch.randn

    def randn(*arguments, **options):
        drawn.append(plain(*arguments, **options))
        return drawn[-1]

    monkeypatch.setattr(torch, "randn", randn)
    here, there = shared_normal((4, 3), 3, 9), shared_normal((4, 3), 3, 9, device="meta")
    assert there.is_meta and here.shape == there.shape == (4, 3)
    assert torch.equal(*drawn) and all(numbers.device.type == "cpu" for numbers in drawn)
    assert not torch.equal(here, shared_normal((4, 3), 9, 3))
    assert abs(float(shared_normal((4000,), 5).std()) - 1) < 0.05
