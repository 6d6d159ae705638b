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
from tiny_runs import RECIPES, REST, Run, metrics, run

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


def sources(kind: str, folder) -> list[str]:
    return [*SAVES, *(["data.streaming=true", *parquet_shards(folder)] if kind == "stream" else [])]


def wait_for_a_moment(process: Run, chance: random.Random) -> None:
    """Waits for a random step, and then a little; where that is done already, for some moment of the start."""
    step = chance.randint(0, 14)
    while process.processes[0].is_alive() and max((line["step"] for line in metrics(process.folder)), default=0) < step:
        time.sleep(0.002)
    time.sleep(chance.uniform(0, chance.choice([0.1, 1.5])))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM to the group"])
@pytest.mark.parametrize("kind", list(KINDS))
def test_killed_at_random_moments_it_ends_as_one_that_was_left_alone(kind, number, tmp_path):
    recipe, alone, killed = tmp_path / "recipe.yaml", tmp_path / "alone", tmp_path / "killed"
    recipe.write_text(KINDS[kind] + REST)
    overrides, chance = sources(kind, tmp_path), random.Random(f"{kind} {number}")
    assert (ended := run(recipe, alone, *overrides)).code == 0, ended.output
    kills, before = 0, 0
    while kills < KILLS:
        shutil.rmtree(killed, ignore_errors=True)
        for _ in range(min(AT_ONCE, KILLS - kills)):
            process = Run(recipe, killed, *overrides)
            wait_for_a_moment(process, chance)
            before += process.processes[0].is_alive()
            process.signal_group(number)
            check_end(process.wait(), number)
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
