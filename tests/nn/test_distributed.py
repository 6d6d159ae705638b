"""What processes share: values, and the gradients that one process would have."""

import torch
import torch.distributed as dist

from hfcontrast.nn import all_mean, all_sum, gather, rank, world_size

DATA = torch.linspace(-1, 1, 24, dtype=torch.float64).sin().view(6, 4)
WEIGHT = torch.linspace(0.5, 1.5, 12, dtype=torch.float64).view(4, 3)


def contrastive(z):
    """A loss in which every row meets every other."""
    return (z @ z.T).exp().mean() + z.square().sum()


def averaged(gradient):
    """What DistributedDataParallel makes of the gradients of a parameter."""
    dist.all_reduce(gradient)
    return gradient / world_size()


def test_one_process_gets_its_tensor_back():
    tensor = torch.ones(3)
    assert world_size() == 1 and rank() == 0
    assert gather(tensor) is tensor and all_sum(tensor) is tensor and all_mean(tensor) is tensor


def test_a_loss_of_the_gathered_batch_has_the_gradient_of_one_process(on_processes):
    def step(number):
        weight = WEIGHT.clone().requires_grad_()
        z = gather(DATA.chunk(2)[number] @ weight)
        loss = contrastive(z)
        loss.backward()
        return z.detach(), loss.detach(), averaged(weight.grad), rank(), world_size()

    weight = WEIGHT.clone().requires_grad_()
    z = DATA @ weight
    loss = contrastive(z)
    loss.backward()
    for number, (found, value, gradient, rank_, size) in enumerate(on_processes(step)):
        assert (rank_, size) == (number, 2)
        torch.testing.assert_close(found, z.detach())
        torch.testing.assert_close(value, loss.detach())
        torch.testing.assert_close(gradient, weight.grad)


def test_sums_and_means_have_the_gradient_of_one_process(on_processes):
    def objective(local, total, mean):
        return (local * mean).square().mean() + total.sin().sum()

    def step(number):
        weight = WEIGHT.clone().requires_grad_()
        local = DATA.chunk(2)[number] @ weight
        total, mean = all_sum(local.sum(0)), all_mean(local.mean(0))
        loss = objective(local, total, mean)
        loss.backward()
        return total.detach(), mean.detach(), averaged(weight.grad)

    weight = WEIGHT.clone().requires_grad_()
    everything = DATA @ weight
    objective(everything, everything.sum(0), everything.mean(0)).backward()
    for total, mean, gradient in on_processes(step):
        torch.testing.assert_close(total, everything.sum(0).detach())
        torch.testing.assert_close(mean, everything.mean(0).detach())
        torch.testing.assert_close(gradient, weight.grad)


def test_other_users_of_a_gradient_are_left_alone(on_processes):
    """Autograd hands both terms of a sum one gradient tensor; summing it in place would double the other's."""

    def step(number):
        local = torch.full((2, 3), float(number + 1), requires_grad=True)
        offset = torch.zeros(4, 3, requires_grad=True)
        doubled = offset * 2
        total = gather(local) + doubled
        (total * torch.ones(4, 3)).sum().backward()
        summed = torch.zeros(3, requires_grad=True)
        doubled = summed * 2
        ((all_sum(local.sum(0)) + doubled) * torch.ones(3)).sum().backward()
        return offset.grad, summed.grad

    for gradient, summed in on_processes(step):
        assert torch.equal(gradient, torch.full((4, 3), 2.0))
        assert torch.equal(summed, torch.full((3,), 2.0))


def test_strided_tensors_and_integers(on_processes):
    def step(number):
        columns = DATA[:, :2].T if number == 0 else DATA[:, 2:].T
        counts = gather(torch.tensor([number + 3]))
        return gather(columns), all_sum(columns), all_sum(torch.ones(1).expand(3)), counts

    for gathered, total, expanded, counts in on_processes(step):
        torch.testing.assert_close(gathered, DATA.T)
        torch.testing.assert_close(total, DATA.T[:2] + DATA.T[2:])
        assert expanded.tolist() == [2.0, 2.0, 2.0] and counts.tolist() == [3, 4]
