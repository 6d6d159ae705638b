"""Checks of every loss: equal to the plain reference, in value and gradient, in every precision."""

import pytest
import torch


def compare(loss, reference, *inputs, rtol=1e-3, atol=1e-5):
    """Asserts that a loss has the reference's value and gradients in float64 and float32, and survives bf16."""
    exact = [value.detach().double().requires_grad_() for value in inputs]
    expected = reference(*exact)
    gradients = torch.autograd.grad(3 * expected, exact, allow_unused=True)
    for dtype in (torch.float64, torch.float32):
        given = [value.detach().to(dtype).requires_grad_() for value in inputs]
        value = loss(*given)
        assert value.shape == () and value.dtype == dtype
        tolerance = {"rtol": rtol, "atol": atol} if dtype == torch.float32 else {"rtol": 1e-7, "atol": 1e-9}
        torch.testing.assert_close(value.double(), expected, **tolerance)
        for found, wanted in zip(torch.autograd.grad(3 * value, given, allow_unused=True), gradients, strict=True):
            assert (found is None) == (wanted is None)
            if wanted is not None:
                torch.testing.assert_close(found.double(), wanted, **tolerance)

    half = [value.detach().bfloat16().requires_grad_() for value in inputs]
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(*half)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(*[value.float() for value in half]))
    value.backward()
    for given, wanted in zip(half, gradients, strict=True):
        assert (given.grad is None) == (wanted is None)
        assert wanted is None or (given.grad.dtype == torch.bfloat16 and torch.isfinite(given.grad).all())


@pytest.fixture
def agree():
    """The function compare(loss, reference, *inputs)."""
    return compare
