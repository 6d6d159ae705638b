"""Map-style batches: the same for any number of workers and processes, resumed exactly, bad rows replaced and named."""

import itertools
import json
import logging
import pickle
import signal

import numpy as np
import psutil
import pytest
import torch

from hfcontrast.data import ColorAugmentation, TrainLoader
from hfcontrast.data.augment.crops import cut_crop
from hfcontrast.data.augment.draws import PARAMETERS, draw_views
from hfcontrast.data.decode import decode_pixels
from hfcontrast.errors import CheckpointError, DataError
from hfcontrast.view import View
from tests.data.conftest import encoded_images, rows_of


def take(loader: TrainLoader, count: int) -> list[dict]:
    batches = list(itertools.islice(iter(loader), count))
    assert len(batches) == count
    return batches


def joined(batches: list[dict]) -> dict[str, torch.Tensor]:
    return {key: torch.cat([batch[key] for batch in batches]) for key in batches[0]}


def same(first: list[dict] | dict, second: list[dict] | dict) -> bool:
    first, second = (joined(b) if isinstance(b, list) else b for b in (first, second))
    return set(first) == set(second) and all(torch.equal(first[key], second[key]) for key in first)


@pytest.fixture(scope="module")
def expected(map_rows, views):
    """Nine batches of 12 from 50 rows: two epochs and one batch of the third."""
    return take(TrainLoader(map_rows, views, batch_size=12, seed=5, workers=0, cache=False), 9)


def test_what_a_batch_holds(expected, map_rows):
    batch = expected[0]
    shapes = {key: (tuple(value.shape), value.dtype) for key, value in batch.items()}
    assert shapes == {
        "pixel_values": ((12, 2, 24, 24, 3), torch.uint8),
        "pixel_values_color": ((12, 2, PARAMETERS), torch.float32),
        "local_pixel_values": ((12, 3, 16, 16, 3), torch.uint8),
        "local_pixel_values_color": ((12, 3, PARAMETERS), torch.float32),
        "index": ((12,), torch.int64),
        "labels": ((12,), torch.int64),
    }
    assert torch.equal(batch["labels"], batch["index"] % 3)


def test_crops_are_those_drawn_for_the_row(expected, map_rows, views):
    for epoch, batch in ((0, expected[1]), (1, expected[6])):
        row = int(batch["index"][3])
        image = decode_pixels(map_rows.dataset[row]["image"]["bytes"])
        draws = draw_views(views, 5, epoch, np.array([row]), *(np.array([side]) for side in image.shape[:2]))
        for key, modes in (("pixel_values", ("bicubic", "bilinear")), ("local_pixel_values", ("bicubic",) * 3)):
            drawn = draws[key]
            assert np.array_equal(batch[key + "_color"][3].numpy(), drawn.color[0])
            for number, mode in enumerate(modes):
                box, flips = drawn.boxes[0, number].tolist(), drawn.flips[0, number].tolist()
                crop = cut_crop(image, box, batch[key].shape[2], mode, *flips)
                assert torch.equal(batch[key][3, number], crop)


def test_an_epoch_has_every_row_once_in_an_order_of_its_own(expected):
    epochs = [torch.cat([batch["index"] for batch in expected[first : first + 4]]) for first in (0, 4)]
    for epoch in epochs:
        assert len(set(epoch.tolist())) == 48
    assert not torch.equal(*epochs)
    crops = [joined(expected[first : first + 4]) for first in (0, 4)]
    row = int(epochs[0][0])
    if row in epochs[1]:
        other = epochs[1].tolist().index(row)
        assert not torch.equal(crops[0]["pixel_values"][0], crops[1]["pixel_values"][other])


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("cache", [True, False])
def test_workers_and_cache_change_nothing(expected, map_rows, views, workers, cache):
    loader = TrainLoader(map_rows, views, batch_size=12, seed=5, workers=workers, cache=cache)
    assert loader.workers == workers and loader.cached == cache
    assert same(take(loader, 9), expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_processes_and_accumulation_divide_the_batch(expected, map_rows, views, workers):
    parts = [
        take(
            TrainLoader(
                map_rows, views, batch_size=12, accumulation=3, seed=5, process_index=process, num_processes=2,
                workers=workers, cache=False,
            ),
            27,
        )
        for process in range(2)
    ]  # fmt: skip
    assert all(len(batch["index"]) == 2 for batch in parts[0])
    assert same([batch for pair in zip(*parts) for batch in pair], expected)


def test_seeds_differ(expected, map_rows, views):
    other = take(TrainLoader(map_rows, views, batch_size=12, seed=6, workers=0), 1)
    assert not torch.equal(other[0]["index"], expected[0]["index"])


@pytest.mark.parametrize("workers, stop", [(0, 4), (1, 5), (2, 1), (2, 4)])
def test_resuming_is_exact(expected, map_rows, views, workers, stop):
    loader = TrainLoader(map_rows, views, batch_size=12, seed=5, workers=workers)
    batches = iter(loader)
    for _ in range(stop):
        next(batches)
    state = json.loads(json.dumps(loader.state_dict()))
    batches.close()
    resumed = TrainLoader(map_rows, views, batch_size=12, seed=5, workers=(workers + 1) % 3)
    resumed.load_state_dict(state)
    assert same(take(resumed, 9 - stop), expected[stop:])


def test_a_step_number_is_enough(expected, map_rows, views):
    loader = TrainLoader(map_rows, views, batch_size=12, accumulation=2, seed=5, workers=0)
    assert same(list(itertools.islice(loader.iter_from(5), 8)), expected[5:])
    assert loader.state_dict()["micro_batch"] == 18
    assert same(list(itertools.islice(loader.iter_from(0), 2)), expected[:1])


def test_the_state_is_that_of_what_was_yielded_not_prefetched(map_rows, views):
    loader = TrainLoader(map_rows, views, batch_size=12, workers=2)
    batches = iter(loader)
    next(batches)
    assert loader.state_dict()["micro_batch"] == 1
    next(batches)
    assert loader.state_dict()["micro_batch"] == 2


def test_global_randomness_is_left_alone(map_rows, views):
    before, numpy_before = torch.get_rng_state(), pickle.dumps(np.random.get_state())
    for workers in (0, 1):
        loader = TrainLoader(map_rows, views, batch_size=12, workers=workers)
        for batch in take(loader, 2):
            ColorAugmentation(views, (0.5,) * 3, (0.5,) * 3)(batch, "cpu")
    assert torch.equal(torch.get_rng_state(), before) and pickle.dumps(np.random.get_state()) == numpy_before


BAD = {3: b"no image", 17: b"\0", 30: None}


@pytest.fixture(scope="module")
def damaged():
    images = encoded_images(50)
    for row, data in BAD.items():
        images[row] = data
    images[41] = images[40][: len(images[40]) // 2]
    return rows_of(images, [f"folder/{number}.png" if number == 17 else None for number in range(50)])


@pytest.mark.parametrize("cache", [True, False])
def test_unreadable_rows_are_replaced_counted_and_named(damaged, views, caplog, cache):
    caplog.set_level(logging.WARNING)
    loaders = [
        TrainLoader(damaged, views, batch_size=10, workers=workers, cache=cache, max_unreadable=0.2)
        for workers in (0, 2)
    ]
    first, second = (take(loader, 10) for loader in loaders)
    assert same(first, second)
    indices = torch.cat([batch["index"] for batch in first[:5]]).tolist()
    assert not {*BAD, 41} & set(indices) and len(indices) == 50
    assert len(set(indices)) > 44  # the others are there once
    for loader in loaders:
        assert set(loader.unreadable) == {"row 3", "row 17 (folder/17.png)", "row 30", "row 41"}
        assert "cannot be decoded" in loader.unreadable["row 3"] and "holds no image" in loader.unreadable["row 30"]
    assert len(caplog.records) == 8  # each once for each loader, though met in two epochs


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_unreadable_rows_stop_the_run(damaged, views, cache, workers):
    with pytest.raises(DataError, match=r"of 50 rows of the test rows cannot be read.*max_unreadable.*row \d+"):
        take(TrainLoader(damaged, views, batch_size=10, workers=workers, cache=cache, max_unreadable=0.05), 5)


@pytest.mark.parametrize("workers", [0, 1])
def test_nothing_readable_at_all(views, workers):
    rows = rows_of([b"broken"] * 20)
    loader = TrainLoader(rows, views, batch_size=4, workers=workers, cache=False, max_unreadable=1.0)
    with pytest.raises(DataError, match="to replace unreadable ones.*row"):
        take(loader, 1)


def test_the_count_of_unreadable_rows_is_resumed(damaged, views):
    loader = TrainLoader(damaged, views, batch_size=10, workers=0, cache=False, max_unreadable=0.2)
    take(loader, 5)
    resumed = TrainLoader(damaged, views, batch_size=10, workers=0, cache=False, max_unreadable=0.2)
    resumed.load_state_dict(loader.state_dict())
    assert resumed.unreadable == loader.unreadable and len(resumed.unreadable) == 4


def test_missing_labels_are_minus_one(views):
    rows = rows_of(encoded_images(6))
    dataset = rows.dataset.map(lambda row, number: {"label": None if number == 2 else row["label"]}, with_indices=True)
    rows = type(rows)(dataset, 6, rows.class_names, False, "rows")
    batch = take(TrainLoader(rows, views, batch_size=6, workers=0), 1)[0]
    assert batch["labels"][batch["index"] == 2].tolist() == [-1] and (batch["labels"] >= 0).sum() == 5


def test_cache_by_itself(map_rows, views, monkeypatch):
    assert TrainLoader(map_rows, views, batch_size=4, workers=0).cached
    monkeypatch.setattr("hfcontrast.data.cache.available_memory", lambda: 4 * 50 * 1000)
    assert not TrainLoader(map_rows, views, batch_size=4, workers=0).cached


def test_workers_by_themselves(map_rows, views, monkeypatch):
    cases = [(2, "cpu", True, 0), (2, "cpu", False, 0), (16, "cpu", False, 4), (16, "cuda", True, 4)]
    cases += [(16, "cuda", False, 15), (64, "cuda", False, 16), (1, "cuda", False, 1)]
    for cpus, device, cache, workers in cases:
        monkeypatch.setattr("hfcontrast.data.loader.cpus_of_this_process", lambda cpus=cpus: cpus)
        assert TrainLoader(map_rows, views, batch_size=4, device_type=device, cache=cache).workers == workers


def test_epoch_rows_of_a_map_style_set(map_rows, views):
    loader = TrainLoader(map_rows, views, batch_size=8, epoch_rows=20, workers=0)
    assert loader.steps_per_epoch == 2
    assert len(set(torch.cat([batch["index"] for batch in take(loader, 2)]).tolist())) == 16


def test_mistakes_are_named(map_rows, views):
    with pytest.raises(DataError, match="a batch larger than the data: batch_size is 51, the test rows has 50 rows"):
        TrainLoader(map_rows, views, batch_size=51)
    with pytest.raises(ValueError, match="cannot be divided into 2 micro-batches for each of 2 processes"):
        TrainLoader(map_rows, views, batch_size=10, accumulation=2, num_processes=2)
    with pytest.raises(ValueError, match="workers"):
        TrainLoader(map_rows, views, batch_size=10, workers="many")
    with pytest.raises(DataError, match="epoch_rows is 60"):
        TrainLoader(map_rows, views, batch_size=10, epoch_rows=60)
    with pytest.raises(ValueError, match="one size"):
        TrainLoader(map_rows, (View(name="a", size=8), View(name="b", size=9)), batch_size=10)
    with pytest.raises(CheckpointError, match="streaming"):
        TrainLoader(map_rows, views, batch_size=10).load_state_dict({"micro_batch": 1, "unreadable": {}, "states": []})


def test_workers_ignore_the_signals_that_reach_a_whole_process_group(map_rows, views):
    loader = TrainLoader(map_rows, views, batch_size=12, seed=5, workers=2, cache=False)
    before = {child.pid for child in psutil.Process().children()}
    batches = iter(loader)
    found = [next(batches)["index"]]
    workers = [child for child in psutil.Process().children() if child.pid not in before]
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        for worker in workers:
            worker.send_signal(number)
    found += [next(batches)["index"] for _ in range(5)]  # more than what was made ahead
    assert {worker.pid for worker in workers if worker.is_running()} == {worker.pid for worker in workers} != set()
    expected = take(TrainLoader(map_rows, views, batch_size=12, seed=5, workers=0), 6)
    assert all(torch.equal(one, batch["index"]) for one, batch in zip(found, expected))
    batches.close()
    assert not psutil.wait_procs(workers, timeout=10)[1]  # they still end with the loader
