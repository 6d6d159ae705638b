"""Train rows that are test rows, where rows have no identities."""

from dataclasses import replace

import pytest

from hfcontrast.data import load_rows
from hfcontrast.evaluation.protocol import NothingToEvaluate
from hfcontrast.evaluation.shared_rows import without_test_rows


def test_parts_of_a_stream_of_unknown_length_are_not_the_stream():
    stream = load_rows("builtin/digits", split="test", streaming=True)
    stream = replace(stream, num_rows=None, row_ids=None, shard_files=("digits.tar",))
    train, test = stream.where(lambda number: number % 5 != 4), stream.where(lambda number: number % 5 == 4)
    assert without_test_rows(train, test) == (train, 0)
    with pytest.raises(NothingToEvaluate, match="choose another split"):
        without_test_rows(stream, stream)


def test_rows_that_are_evaluated_by_themselves_are_called_once():
    rows = load_rows("builtin/digits", split="train[:20]")
    told = (
        r"^builtin/digits \(split train\[:20\]\) cannot be evaluated on by classifiers that are fitted to the same rows"
    )
    with pytest.raises(NothingToEvaluate, match=told):
        without_test_rows(rows, rows)
