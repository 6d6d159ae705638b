"""State that outlives a batch: the queue and the memory bank."""

import torch
from torch.nn import functional as F

from hfcontrast.nn import MemoryBank, Queue


def test_a_queue_overwrites_its_oldest_rows():
    queue = Queue(5, 3)
    keys = [torch.randn(2, 3) for _ in range(4)]
    start = queue.rows.clone()
    queue.enqueue(keys[0])
    assert torch.allclose(queue.rows[:2], F.normalize(keys[0], dim=1)) and torch.equal(queue.rows[2:], start[2:])
    assert queue.filled == 2
    for more in keys[1:]:
        queue.enqueue(more)
    newest = F.normalize(
        torch.cat(keys)[-5:], dim=1
    )  # 8 keys went in: slots 3, 4, 0, 1, 2 from the oldest to the newest
    assert torch.allclose(queue.rows[[3, 4, 0, 1, 2]], newest)
    assert queue.filled == 5 and queue.pointer == 3


def test_a_batch_larger_than_the_queue_leaves_its_newest():
    queue, keys = Queue(3, 2), torch.randn(8, 2)
    queue.enqueue(keys)
    assert torch.allclose(queue.rows[[2, 0, 1]], F.normalize(keys[-3:], dim=1))  # key 7 in slot 7 % 3
    assert queue.pointer == 8 % 3


def test_rows_start_and_stay_unit_vectors():
    queue, bank = Queue(6, 4), MemoryBank(6, 4)
    queue.enqueue(100 * torch.randn(3, 4))
    bank.update(torch.tensor([5, 1]), 100 * torch.randn(2, 4))
    for rows in (queue.rows, bank.rows):
        assert torch.allclose(rows.norm(dim=1), torch.ones(6))


def test_a_bank_updates_the_rows_of_the_indices():
    bank, new = MemoryBank(4, 3, momentum=0.25), F.normalize(torch.randn(2, 3), dim=1)
    before = bank.rows.clone()
    bank.update(torch.tensor([3, 0]), new)
    assert torch.allclose(bank.rows[[3, 0]], F.normalize(0.25 * before[[3, 0]] + 0.75 * new, dim=1))
    assert torch.equal(bank.rows[1:3], before[1:3])


def test_processes_share_one_queue_and_one_bank(on_processes):
    keys = torch.randn(6, 3)
    states = [Queue(4, 3).rows, MemoryBank(6, 3).rows]

    def enqueue(rank=None):
        part = slice(None) if rank is None else slice(rank * 3, rank * 3 + 3)
        queue, bank = Queue(4, 3), MemoryBank(6, 3)
        queue.rows.copy_(states[0])
        bank.rows.copy_(states[1])
        queue.enqueue(keys[part])
        bank.update(torch.tensor([4, 2, 0, 1, 5, 3])[part], keys[part])
        return queue.rows, queue.pointer, bank.rows

    alone = enqueue()
    for found in on_processes(enqueue):
        assert all(torch.equal(a, b) for a, b in zip(found, alone))


def test_state_is_saved():
    queue = Queue(5, 3)
    queue.enqueue(torch.randn(3, 3))
    other = Queue(5, 3)
    other.load_state_dict(queue.state_dict())
    assert torch.equal(other.rows, queue.rows) and other.pointer == 3 and other.filled == 3
