"""Runs that are made longer or shorter on the way: schedules go on from where they stand, and everything says so."""

import json
from dataclasses import replace

import pytest
import torch
from test_every_method import Crash, tiny

from hfcontrast.errors import CheckpointError
from hfcontrast.methods.base import Progress
from hfcontrast.methods.contract.progress import elapsed_share
from hfcontrast.recipe.optimization import OptimSection
from hfcontrast.run_training import run_training
from hfcontrast.training.build import build_training
from hfcontrast.training.length import Length
from hfcontrast.training.loop import train
from hfcontrast.training.output_folder import check_same_run
from hfcontrast.training.schedules import learning_rate

COSINE = OptimSection(lr=1.0, scale_lr="none", warmup_steps=10)


@pytest.mark.parametrize(
    "lengths", [((0, 100), (40, 400)), ((0, 100), (40, 50)), ((0, 100), (20, 60), (45, 200)), ((0, 100), (5, 300))]
)
def test_what_is_left_is_stretched_without_a_jump(lengths):
    """The rate moves from step to step by no more than the steepest of the cosines does; it ends where it ends."""
    end = lengths[-1][1]
    shares = [elapsed_share(step, lengths) for step in range(end + 1)]
    rates = [learning_rate(COSINE, step, end, 10, 64, lengths) for step in range(end + 1)]
    steepest = max(1 / total for _, total in lengths) + max(1 / (end - begin) for begin, _ in lengths[1:])
    assert shares[0] == 0 and shares[-1] == 1 and shares == sorted(shares)
    assert max(b - a for a, b in zip(shares, shares[1:])) < steepest
    assert max(abs(b - a) for a, b in zip(rates[10:], rates[11:])) < 2 * steepest and rates[-1] < 1e-9
    for step, _ in lengths[1:]:  # until then it was the schedule of the length before
        before = tuple(pair for pair in lengths if pair[0] < step)
        assert [elapsed_share(one, before) for one in range(step + 1)] == shares[: step + 1]


def test_shares_by_hand():
    assert [elapsed_share(step, ((0, 10), (4, 16))) for step in (0, 4, 10, 16)] == [0, 0.4, 0.7, 1.0]
    assert [elapsed_share(step, ((0, 10), (4, 16)), start=2) for step in (2, 4, 10, 16)] == [0, 0.25, 0.625, 1.0]
    # nothing is left of a training that has ended: within a tenth of the new steps it goes back to where one of 110 steps is
    assert [elapsed_share(step, ((0, 10), (10, 110))) for step in (10, 15, 20, 65, 110)] == pytest.approx([1.0, (1 + 20 / 110) / 2, 20 / 110, 65 / 110, 1.0])  # fmt: skip
    assert elapsed_share(4, ((0, 10), (4, 4))) == 0.4  # a training that is ended where it stands
    assert Progress(4, 16, lengths=((0, 10), (4, 16))).fraction == 0.4
    assert Progress(4, 16).fraction == 0.25


def test_a_run_says_what_becomes_of_it():
    length = Length(100)
    assert length.about(0) is None and length.history() == "" and length.progress(3, 5, 7) == Progress(3, 100, 5, 7)
    longer = length.changed(40, 400)
    assert "400 steps long instead of 100, of which 40 are done" in longer.about(40)
    assert "stretched over the 360 steps to go" in longer.about(40) and longer.about(50) is None
    assert "within 10 steps go back" in length.changed(100, 200).about(100)
    assert "it ends here" in length.changed(40, 30).about(40) and length.changed(40, 30).steps == 40
    assert "within 1 step go back" in length.changed(100, 105).about(100)
    assert "at step 40 from 100 to 400 steps" in longer.history()
    kept = Length(100, asked=30)  # of a run that is finished
    assert kept.about(100) == (
        "30 steps are asked for, but the run has done its 100 steps: it stays at these, and is evaluated and published again"
    )
    assert kept.history() == "" and Length.from_note(kept.note()) == Length(100)
    assert "as 1 step is asked for: it ends here" in replace(length.changed(40, 1), asked=1).about(40)
    assert Length.from_note(json.loads(json.dumps(longer.note()))) == longer


def crashed_after(name, folder, last, **settings):
    """A run that ended after so many steps, with a checkpoint every third one."""
    training, count = build_training(tiny(name, folder, **settings)), []
    after_step = training.method.after_step

    def crash(outputs, progress):
        count.append(progress.fraction)
        if len(count) == last:
            raise Crash
        after_step(outputs, progress)

    training.method.after_step = crash
    with pytest.raises(Crash):
        train(training)


def rates(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["lr"] for line in lines if "lr" in line]


def test_a_resumed_run_may_be_longer_or_shorter(tmp_path, capsys):
    for name, length in (("longer", {"steps": 14}), ("shorter", {"steps": None, "epochs": 1})):  # of 4 steps
        folder = tmp_path / name
        crashed_after("byol", folder, 5)
        until = rates(folder)[:3]
        again = build_training(tiny("byol", folder, **length))
        fractions = []
        after_step = again.method.after_step
        again.method.after_step = lambda outputs, progress: (fractions.append(progress.fraction), after_step(outputs, progress))  # noqa: B023  # fmt: skip
        notes = train(again)
        assert again.total_steps == (14 if name == "longer" else 4)
        assert rates(folder)[:3] == until and len(rates(folder)) == again.total_steps
        assert fractions[0] == 3 / 7 and fractions == sorted(fractions) and fractions[-1] < 1
        assert rates(folder)[3] == pytest.approx(0.005 * (1 + torch.cos(torch.tensor(3 / 7 * torch.pi)).item()))
        assert notes["length"]["changes"] == [{"step": 3, "from": 7, "to": again.total_steps}]
        assert (
            f"the run is now {again.total_steps} steps long instead of 7, of which 3 are done"
            in capsys.readouterr().out
        )


def test_killed_after_the_change_it_ends_as_one_that_was_left_alone(tmp_path):
    for folder in (tmp_path / "alone", tmp_path / "killed"):
        crashed_after("dino", folder, 5)
    alone = build_training(tiny("dino", tmp_path / "alone", steps=12))
    train(alone)
    crashed_after("dino", tmp_path / "killed", 2, steps=12)  # before there is a checkpoint that knows of it
    crashed_after("dino", tmp_path / "killed", 5, steps=12)
    again = build_training(tiny("dino", tmp_path / "killed", steps=12))
    train(again)
    assert rates(tmp_path / "alone") == rates(tmp_path / "killed")
    assert all(torch.equal(v, again.method.state_dict()[k]) for k, v in alone.method.state_dict().items())


def test_a_checkpoint_of_an_earlier_version_knows_its_length_by_the_recipe_beside_it(tmp_path):
    crashed_after("simclr", tmp_path / "run", 5)
    checkpoints = build_training(tiny("simclr", tmp_path / "run")).checkpoints
    notes = checkpoints.notes(checkpoints.newest())
    checkpoints.replace_notes(checkpoints.newest(), {k: v for k, v in notes.items() if k not in ("length", "seconds")})
    crashed_after("simclr", tmp_path / "run", 1, steps=10)  # recipe.yaml says 10 now
    again = build_training(tiny("simclr", tmp_path / "run", steps=10))
    assert again.length.changes == ({"step": 3, "from": 7, "to": 10},)


def test_the_end_is_published_and_said(tmp_path):
    crashed_after("simclr", tmp_path / "run", 5)
    recipe = tiny("simclr", tmp_path / "run", steps=2)  # past which it is
    run_training(recipe)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["steps"] == 3 and result["length_changes"] == [{"step": 3, "from": 7, "to": 3}]
    assert "at step 3 from 7 to 3 steps" in (tmp_path / "run" / "README.md").read_text()


def test_all_else_is_refused_as_before(tmp_path):
    crashed_after("simclr", tmp_path / "run", 5)
    check_same_run(tiny("simclr", tmp_path / "run", steps=9), tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"another recipe \(train.seed: 0 -> 1\)"):
        check_same_run(tiny("simclr", tmp_path / "run", steps=9, seed=1), tmp_path / "run")
