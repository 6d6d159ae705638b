"""Runs that are killed at random moments, again and again, end as one that was left alone; `make test-slow` runs it.

A queue (MoCo), a memory bank (InstDisc), a teacher (DINO) and a stream, with a worker that reads; each is killed 20 times by
SIGKILL, and 20 times by SIGTERM to its whole process group. ``HFCONTRAST_KILLS`` sets another number.
"""

import os
import random
import shutil
import signal
import time

import pytest
from test_resume import assert_same_end, parquet_shards
from tiny_runs import RECIPES, REST, Run, run

KILLS = int(os.environ.get("HFCONTRAST_KILLS", "20"))
AT_ONCE = 4  # kills of one run, before it is left to end
BANK = """
method: {name: instdisc, negatives: 16, projection_dim: 8}
backbone: {model_type: resnet, embedding_size: 8, hidden_sizes: [8, 16], depths: [1, 1], layer_type: basic}
views: {view: {size: 16}}
optim: {name: sgd, lr: 0.1, warmup_steps: 2}
"""
SAVES = [
    "train.checkpoint_every=2",
    "train.keep_checkpoints=2",
    "data.workers=1",
    "eval.every=",
    "eval.baselines=encoder",
]
KINDS = {"queue": RECIPES["moco"], "bank": BANK, "teacher": RECIPES["dino"], "stream": RECIPES["simclr"]}


class Grouped(Run):
    """A run that leads a process group of its own, its workers in it."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.leader = self.processes[0].pid
        os.setpgid(self.leader, self.leader)

    def signal(self, number: int) -> None:
        os.killpg(self.leader, number)


def sources(kind: str, folder) -> list[str]:
    return [*SAVES, *(["data.streaming=true", *parquet_shards(folder)] if kind == "stream" else [])]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM to the group"])
@pytest.mark.parametrize("kind", list(KINDS))
def test_killed_at_random_moments_it_ends_as_one_that_was_left_alone(kind, number, tmp_path):
    recipe, alone, killed = tmp_path / "recipe.yaml", tmp_path / "alone", tmp_path / "killed"
    recipe.write_text(KINDS[kind] + REST)
    overrides, chance = sources(kind, tmp_path), random.Random(f"{kind} {number}")
    begun = time.monotonic()
    assert (ended := run(recipe, alone, *overrides)).code == 0, ended.output
    whole = time.monotonic() - begun
    kills, before = 0, 0
    while kills < KILLS:
        shutil.rmtree(killed, ignore_errors=True)
        for _ in range(min(AT_ONCE, KILLS - kills)):
            process = Grouped(recipe, killed, *overrides)
            time.sleep(chance.uniform(0, 0.8 * whole))
            before += process.processes[0].is_alive()
            if process.processes[0].is_alive():
                process.signal(number)
            told = process.wait()
            check_end(told, number)
            kills += 1
        ended = run(recipe, killed, *overrides)
        assert ended.code == 0 and "Traceback" not in ended.output, ended.output
        assert_same_end(alone, killed)
        leftovers = [path for path in killed.rglob(".unfinished_*") if path.parent.name != "checkpoints"]
        assert not leftovers and not (killed / ".lock").exists()
    assert before > KILLS // 2, "most kills came when the run was over"


def check_end(ended, number: int) -> None:
    """A killed run says nothing; one that was asked to stop says in one sentence what is saved, and no worker complains."""
    code, output = ended
    if number == signal.SIGKILL:
        assert code in (0, -signal.SIGKILL), output
        return
    assert code in (0, 128 + number) or (code == -number and not output), output
    assert "Traceback" not in output and "DataLoader worker" not in output, output
    assert code != 128 + number or "stopped" in output, output
