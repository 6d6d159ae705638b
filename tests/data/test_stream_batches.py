"""Streams: shuffled by seed, the same views for any number of workers and processes, resumed exactly."""

import io
import itertools
import json
import tarfile
from dataclasses import replace

import pytest
import torch
from datasets import Dataset, Image, IterableDataset

from hfcontrast.data import Rows, TrainLoader, load_rows
from hfcontrast.data.unreadable import UnreadableRows
from hfcontrast.errors import CheckpointError, DataError
from hfcontrast.view import View
from tests.data.conftest import FEATURES, encoded_images, rows_of

VIEW = (View(count=2, size=12, brightness=0.5, blur=0.5),)
ROWS = 80


def stream_of(images: list[bytes], shards: int = 4, paths: list[str] | None = None) -> Rows:
    rows = rows_of(images, paths)
    return Rows(rows.dataset.to_iterable_dataset(num_shards=shards), len(images), rows.class_names, True, "the stream")


def loader_of(rows: Rows, **options) -> TrainLoader:
    options = {"batch_size": 6, "workers": 0, "shuffle_block": 7, "epoch_rows": ROWS} | options
    return TrainLoader(rows, VIEW, **options)


def take(loader: TrainLoader, count: int) -> list[dict]:
    batches = list(itertools.islice(iter(loader), count))
    assert len(batches) == count
    return batches


def equal(first: list[dict], second: list[dict]) -> bool:
    return all(a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a) for a, b in zip(first, second))


def views_of(batches: list[dict], start: int = 0, stop: int | None = None) -> list[tuple]:
    """All crops with their parameters and labels, regardless of their order."""
    samples = [
        (crops.numpy().tobytes(), parameters.numpy().tobytes(), int(label))
        for batch in batches
        for crops, parameters, label in zip(batch["pixel_values"], batch["pixel_values_color"], batch["labels"])
    ]
    return sorted(samples[start:stop])


def test_every_row_once_a_pass_and_shuffled(stream_rows):
    batches = take(loader_of(stream_rows, batch_size=8), 20)
    passes = [views_of(batches, first, first + ROWS) for first in (0, ROWS)]
    assert len(set(passes[0])) == ROWS and not set(passes[0]) & set(passes[1])
    labels = [torch.cat([batch["labels"] for batch in batches[first : first + 10]]).tolist() for first in (0, 10)]
    assert labels[0] != labels[1] != [number % 3 for number in range(ROWS)]
    assert sorted(labels[0]) == sorted(labels[1])
    positions = torch.cat([batch["index"] for batch in batches[:10]])
    assert sorted(positions.tolist()) == list(range(ROWS)) and positions.tolist() != list(range(ROWS))


def test_workers_and_processes_change_no_view(stream_rows):
    """A first pass of all workers and processes together has the same views as that of one."""
    expected = views_of(take(loader_of(stream_rows, batch_size=4), 20))
    first, second = (
        list(itertools.islice(iter(loader_of(stream_rows, batch_size=4, num_processes=2, process_index=rank)), 30))
        for rank in (0, 1)
    )
    together = views_of(first) + views_of(second)
    assert set(expected) <= set(together)
    with_workers = views_of(take(loader_of(stream_rows, batch_size=4, workers=2), 30))
    assert set(expected) <= set(with_workers)


def test_processes_divide_the_stream_without_overlap(stream_rows):
    parts = [
        set(views_of(take(loader_of(stream_rows, batch_size=4, num_processes=2, process_index=rank), 15)))
        for rank in (0, 1)
    ]
    assert not parts[0] & parts[1]


def keyed(batches: list[dict]) -> dict[int, list[tuple]]:
    """By the row's index its crops with their parameters, in the order of the passes."""
    found: dict[int, list[tuple]] = {}
    for batch in batches:
        columns = (batch["index"].tolist(), batch["pixel_values"], batch["pixel_values_color"])
        for index, crops, parameters in zip(*columns):
            found.setdefault(index, []).append((crops.numpy().tobytes(), parameters.numpy().tobytes()))
    return found


def first_pass(rows: Rows, processes: int = 1, workers: int = 0, batch_size: int = 4) -> dict[int, tuple]:
    """What every row gives in its first pass, over all processes and workers; each as it comes first."""
    found: dict[int, tuple] = {}
    for rank in range(processes):
        loader = loader_of(rows, batch_size=batch_size, workers=workers, num_processes=processes, process_index=rank)
        for index, views in keyed(take(loader, 30)).items():
            assert index not in found, "a row was read by two processes"
            found[index] = views[0]
    return found


def test_every_row_has_an_index_and_views_of_its_own_for_any_number_of_readers(stream_rows):
    expected = first_pass(stream_rows)
    assert sorted(expected) == list(range(ROWS)) and len({crops for crops, _ in expected.values()}) == ROWS
    assert first_pass(stream_rows, workers=2) == expected
    assert first_pass(stream_rows, processes=2) == expected
    assert first_pass(stream_rows, processes=3, batch_size=6) == expected  # who share the four shards
    assert first_pass(stream_rows, processes=2, workers=2) == expected


def test_a_stream_has_the_views_of_the_same_rows_by_number(shards, stream_rows):
    by_number = TrainLoader(load_rows(shards), VIEW, batch_size=4, workers=0)
    assert first_pass(stream_rows) == {index: views[0] for index, views in keyed(take(by_number, 20)).items()}
    builtin = {"path": "builtin/digits", "split": "test[:80]"}
    by_number = TrainLoader(load_rows(**builtin), VIEW, batch_size=4, workers=0)
    expected = {index: views[0] for index, views in keyed(take(by_number, 20)).items()}
    assert first_pass(load_rows(**builtin, streaming=True)) == expected


def test_shards_of_unknown_length_number_their_rows_themselves():
    rows = stream_of(encoded_images(12), shards=3)
    expected = [shard << 32 | offset for shard in range(3) for offset in range(4)]
    for options in ({}, {"workers": 2}):
        found = keyed(take(loader_of(rows, batch_size=4, epoch_rows=12, **options), 9))
        assert sorted(found) == expected


def test_equal_images_have_views_of_their_own():
    image = encoded_images(1)[0]
    batch = take(loader_of(stream_of([image] * 8, shards=2), batch_size=8, epoch_rows=8), 1)[0]
    assert len({crops.numpy().tobytes() for crops in batch["pixel_values"]}) == 8


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_resuming_is_exact(stream_rows, workers):
    """80 rows in batches of 6, so passes end at 13 1/3 and 26 2/3 batches of one worker."""
    expected = take(loader_of(stream_rows, workers=workers), 32)
    for stop in (1, 13, 14, 29):
        loader = loader_of(stream_rows, workers=workers)
        batches = iter(loader)
        assert equal([next(batches) for _ in range(stop)], expected[:stop])
        state = json.loads(json.dumps(loader.state_dict()))
        batches.close()
        resumed = loader_of(stream_rows, workers=workers)
        resumed.load_state_dict(state)
        assert equal(take(resumed, 32 - stop), expected[stop:])


def test_resuming_in_one_object_and_twice(stream_rows):
    expected = take(loader_of(stream_rows, workers=2), 12)
    loader = loader_of(stream_rows, workers=2)
    found = []
    for count in (3, 4, 5):
        batches = iter(loader)
        found += [next(batches) for _ in range(count)]
        batches.close()
    assert equal(found, expected)


@pytest.mark.parametrize("rank", [0, 1])
def test_resuming_where_processes_share_shards(rank):
    """Three shards for two processes: each reads them all and takes every other row."""
    rows = stream_of(encoded_images(40), shards=3)
    options = {"num_processes": 2, "process_index": rank, "epoch_rows": 40, "batch_size": 8}
    expected = take(loader_of(rows, **options), 14)
    for stop in (1, 5, 9):
        loader = loader_of(rows, **options)
        take(loader, stop)
        resumed = loader_of(rows, **options)
        resumed.load_state_dict(loader.state_dict())
        assert equal(take(resumed, 14 - stop), expected[stop:])


@pytest.mark.parametrize("streaming", ["imagefolder", "webdataset", "builtin"])
def test_resuming_other_kinds_of_streams(tmp_path, streaming):
    if streaming == "builtin":
        rows = load_rows("builtin/digits", split="test", streaming=True)
    elif streaming == "imagefolder":
        for number, data in enumerate(encoded_images(30)):
            (tmp_path / "abc"[number % 3]).mkdir(exist_ok=True)
            (tmp_path / "abc"[number % 3] / f"{number}.png").write_bytes(data)
        rows = load_rows(str(tmp_path), streaming=True)
    else:
        rows = _webdataset(tmp_path)
    expected = take(loader_of(rows, epoch_rows=30), 11)
    for stop in (3, 5, 8):
        loader = loader_of(rows, epoch_rows=30)
        take(loader, stop)
        resumed = loader_of(rows, epoch_rows=30)
        resumed.load_state_dict(loader.state_dict())
        assert equal(take(resumed, 11 - stop), expected[stop:])


def _webdataset(folder) -> Rows:
    images = encoded_images(30)
    for shard in range(2):
        with tarfile.open(folder / f"train-{shard}.tar", "w") as tar:
            for number in range(shard, 30, 2):
                for name, content in ((f"{number}.png", images[number]), (f"{number}.cls", b"1")):
                    entry = tarfile.TarInfo(name)
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
    return load_rows("webdataset", data_files={"train": str(folder / "*.tar")}, streaming=True)


def test_workers_are_clipped_to_the_shards(stream_rows):
    assert loader_of(stream_rows, workers=9).workers == 4
    assert loader_of(stream_rows, workers=9, num_processes=2).workers == 2
    assert loader_of(stream_of(encoded_images(6), shards=1), workers=3, batch_size=2, epoch_rows=6).workers == 1


def test_a_state_fits_only_its_own_division(stream_rows):
    loader = loader_of(stream_rows, workers=2)
    take(loader, 1)
    state = loader.state_dict()
    with pytest.raises(CheckpointError, match="num_processes was 1, is 2"):
        loader_of(stream_rows, num_processes=2).load_state_dict(state)
    with pytest.raises(CheckpointError, match="block was 7, is 8"):
        loader_of(stream_rows, shuffle_block=8).load_state_dict(state)
    other = loader_of(stream_rows, workers=1)
    other.load_state_dict(state)  # the state decides on the workers
    assert other.workers == 2
    with pytest.raises(ValueError, match="load_state_dict"):
        loader_of(stream_rows).iter_from(3)
    del state["rows_known_by"]  # as states were before
    with pytest.raises(CheckpointError, match="saved by an earlier version.*another train.output"):
        loader_of(stream_rows).load_state_dict(state)


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_rows_are_left_out_and_named(workers):
    images = encoded_images(60)
    images[5], images[44], images[50] = b"broken", images[44][:50], None
    rows = stream_of(images, paths=[f"{number}.png" if number == 5 else None for number in range(60)])
    loader = loader_of(rows, workers=workers, epoch_rows=60, max_unreadable=0.1)
    batches = take(loader, 20)
    assert all(len(batch["labels"]) == 6 for batch in batches)
    assert set(loader.unreadable) == {"row 5 of shard 0 (5.png)", "row 14 of shard 2", "row 5 of shard 3"}


def test_too_many_unreadable_rows_stop_the_run():
    images = encoded_images(60)
    images[::10] = [bytes([number]) * 9 for number in range(6)]
    loader = loader_of(stream_of(images), epoch_rows=60)
    with pytest.raises(DataError, match=r"6 of 60 rows of the stream cannot be read"):
        take(loader, 60)


@pytest.mark.parametrize("streaming", [False, True])
def test_rows_without_an_image_are_counted_one_by_one(streaming):
    """Half of the rows hold none: too many as soon as enough rows were seen."""
    images = [image if number % 2 else None for number, image in enumerate(encoded_images(400))]
    rows = stream_of(images) if streaming else rows_of(images)
    loader = loader_of(rows, epoch_rows=400, shuffle_block=64, cache=False)
    with pytest.raises(DataError, match=r"\d+ of \d{3} rows of the (test rows|stream) cannot be read, more than"):
        take(loader, 60)


def test_unreadable_rows_are_counted_over_all_processes():
    """Two processes of which neither finds too many, and which find one row both."""
    found = ({"row 1": "", "row 5": ""}, {"row 5": "", "row 9": ""})
    processes = [UnreadableRows("the rows", 0.1, 29, processes=2) for _ in found]
    for process, own in zip(processes, found):
        process.add(own)
    reports = [process.report() for process in processes]
    for process in processes:
        with pytest.raises(DataError, match="3 of 29 rows"):
            process.compare(reports)


def test_a_streams_unreadable_rows_are_counted_over_all_processes():
    images = encoded_images(60)
    images[::10] = [b"broken"] * 6
    options = {"num_processes": 2, "epoch_rows": 60, "max_unreadable": 0.099}
    loaders = [loader_of(stream_of(images), process_index=rank, **options) for rank in (0, 1)]
    for loader in loaders:
        take(loader, 12)  # one pass
    assert sorted(len(loader.unreadable) for loader in loaders) == [2, 4]
    reports = [loader._unreadable.report() for loader in loaders]
    for loader in loaders:
        with pytest.raises(DataError, match="6 of 60 rows"):
            loader.count_together(lambda own: reports)


def test_nothing_readable_and_nothing_at_all():
    with pytest.raises(DataError, match="no image could be read in a whole pass.*row 0"):
        take(loader_of(stream_of([b"broken"] * 9), epoch_rows=9), 1)
    empty = IterableDataset.from_generator(lambda: iter(()), features=FEATURES)
    with pytest.raises(DataError, match="no rows"):
        take(loader_of(Rows(empty, None, None, True, "the stream"), epoch_rows=9), 1)


def test_sizes(stream_rows):
    assert stream_rows.num_rows == 80  # parquet files say so
    stream_rows = replace(stream_rows, num_rows=None)
    with pytest.raises(DataError, match="set data.epoch_rows"):
        TrainLoader(stream_rows, VIEW, batch_size=4)
    assert loader_of(stream_rows, batch_size=12).steps_per_epoch == 6
    known = stream_of(encoded_images(10), shards=2)
    assert TrainLoader(known, VIEW, batch_size=4, workers=0).steps_per_epoch == 2
    with pytest.raises(DataError, match="a batch larger than the data"):
        TrainLoader(known, VIEW, batch_size=12)


def test_rows_without_labels_and_with_other_columns():
    images = [{"bytes": data, "path": None} for data in encoded_images(12)]
    dataset = Dataset.from_dict({"image": images, "text": list("abcdefghijkl")})
    dataset = dataset.cast_column("image", Image(decode=False)).to_iterable_dataset(num_shards=2)
    batch = take(loader_of(Rows(dataset, 12, None, True, "rows", ("text",)), epoch_rows=12, batch_size=12), 1)[0]
    assert "labels" not in batch and sorted(batch["text"]) == list("abcdefghijkl")


def test_a_stream_without_images_is_not_read_to_its_end(monkeypatch):
    """Where nothing can be read at first, a batch would be waited for until the end of a pass."""
    taken: list[int] = []

    def rows():
        for number in range(900):
            taken.append(number)
            yield {"image": {"bytes": b"broken", "path": None}, "label": 0}

    monkeypatch.setattr("hfcontrast.data.stream_batches._NONE_AT_FIRST", 50)
    stream = Rows(IterableDataset.from_generator(rows, features=FEATURES), None, None, True, "the stream")
    with pytest.raises(DataError, match=r"none of the first 50 rows of the stream can be read, e\.g\. row"):
        take(loader_of(stream), 1)
    assert len(taken) < 200
    taken.clear()
    with pytest.raises(DataError, match="no image could be read in a whole pass"):
        take(loader_of(stream, max_unreadable=0.9), 1)
    assert len(taken) == 900


def test_a_later_pass_may_begin_with_a_shard_that_cannot_be_read(monkeypatch):
    monkeypatch.setattr("hfcontrast.data.stream_batches._NONE_AT_FIRST", 10)
    images = encoded_images(80)
    images[60:] = [b"broken"] * 20  # the last of four shards: of seed 0 the first one in the third pass
    loader = loader_of(stream_of(images), batch_size=4, seed=0, max_unreadable=0.4)
    take(loader, 60)
    assert len(loader.unreadable) == 20
