"""bench --losses: its plain forms equal the losses, its memory figures are the sizes of tensors, its table is complete."""

import pytest
import torch

from hfcontrast.benchmarks import losses as bench
from hfcontrast.training.memory import memory_of

CPU = torch.device("cpu")


@pytest.fixture
def small(monkeypatch):
    for name, value in {"SAMPLES": 6, "WIDTH": 12, "IMAGES": 3, "VIEWS": 4, "PATCHES": 5, "PROTOTYPES": 32}.items():
        monkeypatch.setattr(bench, name, value)


def test_a_step_of_every_pair_gives_the_same_in_both_forms(small):
    pairs = bench.in_batch_losses(40, 8, CPU) + bench.correlation_losses(CPU) + bench.prototype_losses(CPU)
    assert len(pairs) == 9
    for pair in pairs:
        plain, ours = (bench.step(form, pair.inputs) for form in (pair.plain, pair.ours))
        assert len(plain) > 1 and float(plain[1].abs().max()) > 0
        bench.check_agreement(pair, plain, ours)


def test_forms_that_differ_are_not_compared():
    pair = bench.Pair("mine", torch.sum, lambda x: 1.01 * x.sum(), (torch.ones(3, requires_grad=True),))
    with pytest.raises(RuntimeError, match="mine: the two forms differ"):
        bench.measure(pair, 0.0, CPU)


def test_the_peak_is_what_lives_at_once():
    kept = torch.zeros(100_000)

    def task():
        first = kept + 1  # 400 kB
        second = torch.cat([first, first])  # and 800 kB
        del first, second
        return kept * 2  # 400 kB when the others are gone

    assert memory_of(task, CPU) == pytest.approx(1_200_000, rel=0.01)


def test_the_table_and_the_figures(small, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    figures = bench.bench_losses(batch=600, dim=8, seconds=0.0)
    text = capsys.readouterr().out
    for name in (
        "info_nce",
        "nt_xent",
        "supcon",
        "decoupled",
        "clip_loss",
        "barlow_twins",
        "vicreg",
        "dino_loss",
        "ibot_loss",
    ):
        found = [values for title, values in figures.items() if title.startswith(name)]
        assert len(found) == 1 and name in text
        assert all(value > 0 for value in found[0].values())
    assert "B = 600, D = 8" in text
    # 1200 x 1200 in float32 are 5.5 MiB; the plain form holds several of them, tiles of 512 none.
    nt_xent = figures["nt_xent"]
    assert nt_xent["plain bytes"] > 2 * 1200 * 1200 * 4
    assert (
        nt_xent["ours bytes"] < 1200 * 1200 * 4 and nt_xent["memory"] == nt_xent["ours bytes"] / nt_xent["plain bytes"]
    )
