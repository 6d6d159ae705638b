"""NCE, its softmax forms and invariant spreading against the papers' formulas, written out sample by sample."""

import math

import pytest
import torch
from torch.nn import functional as F

from hfcontrast.losses import info_nce, instance_softmax, invariant_spreading, nce, nt_xent, softmax_nce

TEMPERATURES = [0.07, 0.5, 2]
SHAPES = [(1, 1), (1, 5), (4, 3), (7, 16)]


def cosine(a, b):
    return torch.dot(F.normalize(a, dim=0), F.normalize(b, dim=0))


def similarities(*shape):
    return torch.rand(shape) * 2 - 1


def nce_reference(positives, negatives, temperature, noise, partition):
    losses = []
    for positive, others in zip(positives, negatives):
        model = torch.stack([positive, *others]).div(temperature).exp() / partition
        h = model / (model + len(others) * noise)
        losses.append(-h[0].log() - sum((1 - x).log() for x in h[1:]))
    return torch.stack(losses).mean()


def softmax_nce_reference(positives, negatives, temperature):
    losses = []
    for positive, others in zip(positives, negatives):
        h = torch.stack([positive, *others]).div(temperature).softmax(0)
        losses.append(-h[0].log() - sum((1 - x).log() for x in h[1:]))
    return torch.stack(losses).mean()


def instance_softmax_reference(embeddings, bank, index, temperature):
    losses = []
    for embedding, own in zip(embeddings, index):
        p = torch.stack([cosine(embedding, row) / temperature for row in bank]).softmax(0)
        losses.append(-p[own].log())
    return torch.stack(losses).mean()


def spreading_reference(images, augmented, temperature):
    count, total = len(images), 0.0
    for j in range(count):
        of_view = torch.stack([cosine(f, augmented[j]) / temperature for f in images]).softmax(0)
        of_image = torch.stack([cosine(f, images[j]) / temperature for f in images]).softmax(0)
        total = total - of_view[j].log() - sum((1 - of_image[i]).log() for i in range(count) if i != j)
    return total / count


def symmetric_spreading_reference(images, augmented, temperature):
    vectors, total = [*images, *augmented], 0.0
    count = len(images)
    for a, vector in enumerate(vectors):
        exponentials = {k: (cosine(vector, x) / temperature).exp() for k, x in enumerate(vectors) if k != a}
        everything, partner = sum(exponentials.values()), (a + count) % (2 * count)
        total = total - (exponentials[partner] / everything).log()
        total = total - sum((1 - e / everything).log() for k, e in exponentials.items() if k != partner)
    return total / len(vectors)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("noise, partition", [(1 / 100, 100.0), (1 / 5000, 12000.0), (0.5, 1.0)])
def test_nce_is_the_formula(shape, temperature, noise, partition, agree):
    agree(
        lambda s, n: nce(s, n, temperature, math.log(noise), math.log(partition)),
        lambda s, n: nce_reference(s, n, temperature, noise, partition),
        similarities(shape[0]),
        similarities(*shape),
        atol=1e-4,
    )


def test_the_noise_and_the_partition_can_be_tensors():
    positives, negatives, noise = similarities(4), similarities(4, 6), torch.rand(4, 1)
    partition = torch.tensor(3.0)
    expected = torch.stack(
        [nce_reference(positives[i : i + 1], negatives[i : i + 1], 0.5, noise[i], partition) for i in range(4)]
    ).mean()
    torch.testing.assert_close(nce(positives, negatives, 0.5, noise.log(), partition.log()), expected)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("shape", SHAPES)
def test_softmax_nce_is_the_formula(shape, temperature, agree):
    agree(
        lambda s, n: softmax_nce(s, n, temperature),
        lambda s, n: softmax_nce_reference(s, n, temperature),
        similarities(shape[0]),
        similarities(*shape),
        atol=1e-4,
    )


@pytest.mark.parametrize("tile", [None, 2])
@pytest.mark.parametrize("temperature", [0.01, *TEMPERATURES])
@pytest.mark.parametrize("shape", [(2, 3, 3), (5, 9, 8), (3, 2, 4), (2, 1, 4)])
def test_instance_softmax_is_the_formula(shape, temperature, tile, agree):
    batch, images, width = shape
    bank, index = torch.randn(images, width), torch.randint(images, (batch,))
    agree(
        lambda v: instance_softmax(
            v, bank.double() if v.dtype == torch.float64 else bank, index, temperature, tile=tile
        ),
        lambda v: instance_softmax_reference(v, bank.double(), index, temperature),
        torch.randn(batch, width),
        atol=1e-3,
    )


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2])
@pytest.mark.parametrize("shape", [(2, 3), (5, 8), (9, 4)])
def test_invariant_spreading_is_the_formula(shape, temperature, agree):
    views = torch.randn(shape), torch.randn(shape)
    agree(
        lambda f, g: invariant_spreading(f, g, temperature),
        lambda f, g: spreading_reference(f, g, temperature),
        *views,
        atol=1e-4,
    )
    agree(
        lambda f, g: invariant_spreading(f, g, temperature, symmetric=True),
        lambda f, g: symmetric_spreading_reference(f, g, temperature),
        *views,
        atol=1e-4,
    )


def test_values_computed_by_hand():
    # t = 1, p = 1/4, Z = 2, M = 2: M p = 1/2. The positive has exp(s) / Z = 3/2, so h = 3/4; the negatives have 1/2 and
    # 1, so h = 1/2 and 2/3, and 1 - h = 1/2 and 1/3.
    positives, negatives = torch.tensor([math.log(3)]), torch.tensor([[0.0, math.log(2)]])
    expected = math.log(4 / 3) + math.log(2) + math.log(3)
    assert nce(positives, negatives, 1, math.log(1 / 4), math.log(2)).item() == pytest.approx(expected, abs=1e-6)
    # exp(s) are 3, 1 and 2: h = 1/2, 1/6 and 1/3, so the loss is log 2 + log 6/5 + log 3/2.
    assert softmax_nce(positives, negatives, 1).item() == pytest.approx(math.log(2 * 6 / 5 * 3 / 2), abs=1e-6)
    # Two images at right angles, their views in the same places: p(i | g_i) = e / (e + 1) and so is 1 - p(i | f_j).
    vectors = torch.tensor([[3.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    single = math.log(1 + 1 / math.e)
    assert invariant_spreading(vectors, vectors, 1).item() == pytest.approx(2 * single, abs=1e-6)
    # Among the three others there are e, 1 and 1: the partner has e / (e + 2), each of the rest 1 - 1 / (e + 2).
    expected = math.log((math.e + 2) / math.e) - 2 * math.log(1 - 1 / (math.e + 2))
    assert invariant_spreading(vectors, vectors, 1, symmetric=True).item() == pytest.approx(expected, abs=1e-6)
    # A bank of three images: the first's own row, and two at right angles to it.
    bank = torch.eye(3)
    expected = math.log(1 + 2 / math.e)
    assert instance_softmax(vectors[:1], bank, torch.tensor([0]), 1).item() == pytest.approx(expected, abs=1e-6)


def test_a_model_that_cannot_tell_them_apart():
    everything = math.log(1 + 6) + 6 * math.log(1 + 1 / 6)
    same = torch.full((4,), 0.3), torch.full((4, 6), 0.3)
    assert nce(*same, 0.5, -math.log(50), 0.6 + math.log(50)).item() == pytest.approx(everything, abs=1e-5)
    assert softmax_nce(*same, 0.5).item() == pytest.approx(everything, abs=1e-5)
    ones = torch.ones(4, 8)
    assert instance_softmax(ones, torch.ones(9, 8), torch.arange(4), 0.1).item() == pytest.approx(math.log(9), abs=1e-5)
    expected = math.log(4) - 3 * math.log(1 - 1 / 4)
    assert invariant_spreading(ones, ones, 0.1).item() == pytest.approx(expected, abs=1e-5)
    expected = math.log(7) - 6 * math.log(1 - 1 / 7)
    assert invariant_spreading(ones, ones, 0.1, symmetric=True).item() == pytest.approx(expected, abs=1e-5)


def test_their_first_terms_are_info_nce_and_nt_xent():
    # With everything else at right angles to a query the second terms follow from the first ones.
    queries = torch.randn(5, 8, dtype=torch.float64)
    keys = torch.randn(5, 8, dtype=torch.float64)
    similar = F.normalize(queries, dim=1) @ F.normalize(keys, dim=1).T
    others = similar[~torch.eye(5, dtype=torch.bool)].view(5, 4)
    p = torch.cat([similar.diagonal().unsqueeze(1), others], 1).div(0.2).softmax(1)
    second = -(1 - p[:, 1:]).log().sum(1).mean()
    torch.testing.assert_close(softmax_nce(similar.diagonal(), others, 0.2) - second, info_nce(queries, keys, 0.2))
    z = F.normalize(torch.cat([queries, keys]), dim=1)
    p = (z @ z.T / 0.2).fill_diagonal_(-torch.inf).softmax(1)
    rest = p.masked_fill(torch.eye(10, dtype=torch.bool).roll(5, 0), 0)
    second = -(1 - rest).log().sum(1).mean()
    loss = invariant_spreading(queries, keys, 0.2, symmetric=True)
    torch.testing.assert_close(loss - second, nt_xent(torch.stack([queries, keys], 1), 0.2))


def test_a_negative_that_wins_by_far_keeps_a_finite_loss_and_its_gradient():
    # The difference of 2 / 0.01 is 200: in float32 the negative's probability is 1, and its complement exp(-200).
    positive, negative = torch.tensor([-1.0], requires_grad=True), torch.tensor([[1.0]], requires_grad=True)
    loss = softmax_nce(positive, negative, 0.01)
    assert loss.item() == pytest.approx(400)
    assert [g.item() for g in torch.autograd.grad(loss, (positive, negative))] == pytest.approx([-200, 200])
    loss = nce(positive, negative, 0.01, 0.0)
    assert loss.item() == pytest.approx(200)
    assert [g.item() for g in torch.autograd.grad(loss, (positive, negative))] == pytest.approx([-100, 100])
    # Two images in one place, their views opposite to them.
    f = torch.tensor([[1.0, 0.0], [1.0, 0.001]], requires_grad=True)
    for symmetric in (False, True):
        loss = invariant_spreading(f, -f.flip(0), 0.01, symmetric=symmetric)
        (gradient,) = torch.autograd.grad(loss, f)
        assert torch.isfinite(loss) and torch.isfinite(gradient).all() and gradient.abs().sum() > 0


def test_without_a_negative_the_loss_is_zero():
    positives = torch.rand(3, requires_grad=True)
    for loss in (nce(positives, torch.zeros(3, 0), 0.1, -3.0), softmax_nce(positives, torch.zeros(3, 0), 0.1)):
        assert loss.item() == 0
        assert torch.equal(torch.autograd.grad(loss, positives)[0], torch.zeros(3))
    f, g = torch.randn(2, 1, 8, requires_grad=True)
    for symmetric in (False, True):
        loss = invariant_spreading(f, g, 0.1, symmetric=symmetric)
        assert loss.item() == 0
        assert torch.equal(torch.autograd.grad(loss, f)[0], torch.zeros(1, 8))
    alone = instance_softmax(f, torch.ones(1, 8), torch.tensor([0]), 0.1)
    assert alone.item() == pytest.approx(0, abs=1e-6)


def test_zero_vectors_stay_finite():
    zeros = torch.zeros(3, 8, requires_grad=True)
    loss = invariant_spreading(zeros, zeros, 0.1) + invariant_spreading(zeros, zeros, 0.1, symmetric=True)
    loss = loss + instance_softmax(zeros, torch.zeros(5, 8), torch.arange(3), 0.1)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(zeros.grad).all()
    assert invariant_spreading(zeros, zeros, 0.1).item() == pytest.approx(math.log(3) - 2 * math.log(2 / 3), abs=1e-5)


def test_no_gradient_reaches_the_bank():
    bank, v = torch.randn(5, 4, requires_grad=True), torch.randn(2, 4, requires_grad=True)
    instance_softmax(v, bank, torch.tensor([1, 4]), 0.1, tile=2).backward()
    assert bank.grad is None and v.grad.abs().sum() > 0


def test_shapes_that_do_not_fit_are_refused():
    for loss in (lambda *s: nce(*s, 0.1, 0.0), lambda *s: softmax_nce(*s, 0.1)):
        with pytest.raises(ValueError, match=r"negatives \(B, M\), got \(4,\) and \(3, 8\)"):
            loss(torch.zeros(4), torch.zeros(3, 8))
    with pytest.raises(ValueError, match=r"got \(4, 8\), \(9, 7\) and \(4,\)"):
        instance_softmax(torch.zeros(4, 8), torch.zeros(9, 7), torch.arange(4), 0.1)
    with pytest.raises(ValueError, match=r"\(4, 8\) and \(3, 8\)"):
        invariant_spreading(torch.zeros(4, 8), torch.zeros(3, 8), 0.1)
