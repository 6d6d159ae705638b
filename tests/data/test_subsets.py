"""Subsets of rows: drawn by a hash of their numbers, of each class in proportion, whatever the order of the labels."""

import numpy as np
import pytest

from hfcontrast.data.subsets import HELD_OUT, LIMIT, drawn_rows


@pytest.mark.parametrize("labels", [np.arange(200) % 5, np.arange(200) // 40])
def test_each_class_is_drawn_from_in_proportion_whatever_their_order(labels):
    for count in (20, 50, 75):
        chosen = drawn_rows(np.arange(200), count, LIMIT, labels)
        assert len(set(chosen.tolist())) == count and (np.diff(chosen) > 0).all()
        assert np.bincount(labels[chosen]).tolist() == [count // 5] * 5


def test_without_labels_rows_follow_no_cycle_and_fewer_are_some_of_more():
    chosen = drawn_rows(np.arange(5000), 1000, LIMIT)
    for cycle in (2, 3, 5, 10):
        shares = np.bincount(chosen % cycle, minlength=cycle) / 1000
        assert abs(shares - 1 / cycle).max() < 0.06
    assert set(drawn_rows(np.arange(5000), 100, LIMIT)) < set(chosen)
    assert set(drawn_rows(np.arange(5000), 1000, HELD_OUT)) != set(chosen)
    assert (
        drawn_rows(np.arange(3), 9, LIMIT).tolist() == [0, 1, 2] and drawn_rows(np.arange(0), 9, LIMIT).tolist() == []
    )


def test_rows_are_drawn_by_their_numbers_not_by_their_positions():
    numbers = np.arange(0, 400, 4)
    assert set(numbers[drawn_rows(numbers, 10, LIMIT)]) == set(numbers[::-1][drawn_rows(numbers[::-1], 10, LIMIT)])


def test_rare_classes_keep_train_rows_and_are_among_few():
    labels = np.repeat([0, 1, 2], [90, 8, 2])
    held_out = drawn_rows(np.arange(100), 20, HELD_OUT, labels)
    assert (np.bincount(np.delete(labels, held_out), minlength=3) > 0).all()
    for every_class, classes in [(True, {0, 1, 2}), (False, {0})]:
        assert set(labels[drawn_rows(np.arange(100), 3, LIMIT, labels, every_class)]) == classes
