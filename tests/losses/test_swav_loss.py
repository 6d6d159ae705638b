"""Sinkhorn's assignments and swapped prediction against SwAV's algorithm and formula."""

import math

import pytest
import torch

from hfcontrast.losses import sinkhorn, swapped_prediction


def sinkhorn_reference(scores, epsilon, iterations):
    """The paper's algorithm on the matrix itself, one row and one column at a time."""
    q = (scores.T / epsilon).exp()
    prototypes, samples = q.shape
    q = q / q.sum()
    for _ in range(iterations):
        for k in range(prototypes):
            q[k] = q[k] / q[k].sum() / prototypes
        for n in range(samples):
            q[:, n] = q[:, n] / q[:, n].sum() / samples
    return (q * samples).T


def swapped_reference(scores, assignments, temperature):
    losses = []
    for s, q in zip(scores, assignments):
        for u in range(len(q)):
            losses += [-(q[u] * (s[v] / temperature).log_softmax(0)).sum() for v in range(len(s)) if v != u]
    return torch.stack(losses).mean()


@pytest.mark.parametrize("shape", [(1, 1), (4, 3), (3, 7), (16, 5)])
@pytest.mark.parametrize("epsilon, iterations", [(0.05, 3), (0.5, 1), (1, 10)])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_sinkhorn_is_the_algorithm(shape, epsilon, iterations, dtype, tolerance):
    scores = torch.rand(shape, dtype=dtype) * 2 - 1
    found = sinkhorn(scores, epsilon, iterations)
    expected = sinkhorn_reference(scores.double(), epsilon, iterations)
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(shape[0], dtype=dtype))


def test_prototypes_are_used_equally_after_enough_iterations():
    found = sinkhorn(torch.rand(60, 6), 0.1, 200)
    torch.testing.assert_close(found.sum(dim=0), torch.full((6,), 10.0), rtol=1e-3, atol=1e-3)


def test_sinkhorn_computed_by_hand():
    # exp of the scores: [[1, 1], [1, 3]]. Columns to 1: [[1/2, 1/4], [1/2, 3/4]]; rows to 1: [[2/3, 1/3], [2/5, 3/5]].
    scores = torch.tensor([[0.0, 0.0], [0.0, math.log(3)]])
    torch.testing.assert_close(sinkhorn(scores, 1.0, 1), torch.tensor([[2 / 3, 1 / 3], [2 / 5, 3 / 5]]))


def test_sinkhorn_at_its_edges():
    torch.testing.assert_close(sinkhorn(torch.ones(3, 4)), torch.full((3, 4), 0.25))
    sharp = sinkhorn(torch.rand(8, 4), 1e-4)  # exp(score / 1e-4) would be infinite
    assert torch.isfinite(sharp).all()
    half = torch.rand(8, 4, requires_grad=True).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = sinkhorn(half)
    assert found.dtype == torch.float32 and not found.requires_grad
    assert torch.equal(found, sinkhorn(half.float()))
    with pytest.raises(ValueError, match=r"1 iteration or more are needed, got \(3, 4\), 0"):
        sinkhorn(torch.ones(3, 4), iterations=0)


@pytest.mark.parametrize("shape", [(1, 2, 2, 3), (3, 2, 2, 5), (2, 6, 2, 7), (2, 3, 1, 4), (2, 3, 3, 4)])  # B, V, T, K
@pytest.mark.parametrize("temperature", [0.1, 1])
def test_swapped_prediction_is_the_formula(shape, temperature, agree):
    images, views, others, prototypes = shape
    assignments = torch.randn(images, others, prototypes, dtype=torch.float64).softmax(-1)
    agree(
        lambda s: swapped_prediction(
            s, assignments.to(torch.float64 if s.dtype == torch.float64 else torch.float32), temperature
        ),
        lambda s: swapped_reference(s, assignments, temperature),
        torch.randn(images, views, prototypes),
    )


def test_swapped_prediction_computed_by_hand():
    # View 1 predicts (1/4, 3/4) where (1, 0) is assigned, view 0 (1/2, 1/2) where (0, 1) is: (log 4 + log 2) / 2.
    scores = torch.tensor([[[0.0, 0.0], [0.0, math.log(3)]]])
    assignments = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    assert swapped_prediction(scores, assignments, 1.0).item() == pytest.approx(1.5 * math.log(2), abs=1e-6)
    alike = swapped_prediction(torch.zeros(2, 2, 8), torch.full((2, 2, 8), 1 / 8))
    assert alike.item() == pytest.approx(math.log(8), abs=1e-6)


def test_large_scores_stay_finite_and_no_gradient_reaches_the_assignments():
    scores = (1e4 * torch.randn(2, 2, 5)).requires_grad_()
    assignments = torch.full((2, 2, 5), 0.2, requires_grad=True)
    loss = swapped_prediction(scores, assignments)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(scores.grad).all() and assignments.grad is None


def test_views_without_a_pair_are_refused():
    for others, views in ((1, 1), (3, 2), (0, 2)):
        with pytest.raises(ValueError, match=f"assignments of {others} and scores of {views} views"):
            swapped_prediction(torch.zeros(2, views, 5), torch.zeros(2, others, 5))
    with pytest.raises(ValueError, match=r"\(2, 2, 5\) and \(2, 2, 6\)"):
        swapped_prediction(torch.zeros(2, 2, 5), torch.zeros(2, 2, 6))
