"""The cache of decoded images: filled as images are needed and by a thread behind the training, shared by workers, bounded."""

import itertools
import threading
import time

import numpy as np
import pytest
import torch
from torch import multiprocessing

from hfcontrast.data import TrainLoader
from hfcontrast.data import cache as cache_module
from hfcontrast.data.cache import DecodedRows, about_cache, allowed_bytes, make_cache
from hfcontrast.data.decode import decode_pixels
from tests.data.conftest import encoded_images, rows_of


@pytest.fixture
def decoded(monkeypatch):
    """Sizes of the files that were decoded, in this process."""
    from hfcontrast.data import image_reader

    seen, decode = [], image_reader.decode_image
    monkeypatch.setattr(
        image_reader, "decode_image", lambda data, *others: (seen.append(len(data)), decode(data, *others))[1]
    )
    return seen


def take(loader: TrainLoader, count: int) -> list[dict]:
    return list(itertools.islice(iter(loader), count))


def same(first: list[dict], second: list[dict]) -> bool:
    return all(torch.equal(one[key], other[key]) for one, other in zip(first, second, strict=True) for key in one)


def pixel_bytes(images: list[bytes]) -> int:
    return sum(decode_pixels(image).size for image in images)


def wait_until(condition) -> None:
    end = time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    assert condition()


def test_nothing_is_decoded_before_it_is_needed(map_rows, views, decoded, monkeypatch):
    monkeypatch.setattr("hfcontrast.data.cache_filling.CacheFilling._decode_later", lambda filling: None)
    loader = TrainLoader(map_rows, views, batch_size=12, workers=0, cache=True)
    assert loader.cached and not decoded and loader._reader.cache.nbytes == 0
    batches = iter(loader)
    next(batches)
    assert len(decoded) == 12
    take(loader, 2 * loader.steps_per_epoch + 8)
    assert len(decoded) <= 50


def test_further_images_are_decoded_behind_the_training(map_rows, views, decoded):
    images = [row["image"]["bytes"] for row in map_rows.dataset]
    loader = TrainLoader(map_rows, views, batch_size=5, workers=0, cache=True)
    batches = iter(loader)
    next(batches)
    wait_until(lambda: loader._reader.cache.finished)
    assert loader._reader.cache.nbytes == pixel_bytes(images)
    count = len(decoded)
    for _ in range(25):
        next(batches)
    assert len(decoded) == count
    batches.close()
    assert not any(thread.name == "decoding_later" for thread in threading.enumerate())


def test_the_thread_is_at_most_an_epoch_ahead_and_ends_with_the_loader(map_rows, views):
    loader = TrainLoader(map_rows, views, batch_size=5, epoch_rows=20, workers=0, cache=True)
    batches = iter(loader)
    first = next(batches)
    cache = loader._reader.cache
    expected = set(torch.cat([batch["index"] for batch in take(TrainLoader(map_rows, views, batch_size=5, epoch_rows=20, workers=0, cache=False), 5)]).tolist())  # fmt: skip
    wait_until(lambda: not cache.missing(sorted(expected)))
    assert {row for row in range(50) if cache.get(row) is not None} == expected and len(first["index"]) == 5
    batches.close()
    assert not any(thread.name == "decoding_later" for thread in threading.enumerate())


@pytest.mark.parametrize("processes", [1, 2])
def test_workers_see_what_others_have_decoded(map_rows, views, processes):
    images = [row["image"]["bytes"] for row in map_rows.dataset]
    options = {"batch_size": 10, "num_processes": processes, "seed": 3}
    loaders = [
        TrainLoader(map_rows, views, workers=2, cache=True, process_index=p, **options) for p in range(processes)
    ]
    plain = [TrainLoader(map_rows, views, workers=0, cache=False, process_index=p, **options) for p in range(processes)]
    for loader, other in zip(loaders, plain, strict=True):
        assert same(take(loader, 11), take(other, 11))
    cache = loaders[0]._reader.cache
    if processes == 1:
        assert not cache.missing(range(50))
    there = [row for row in range(50) if cache.get(row) is not None]
    assert there and all(np.array_equal(cache.get(row), decode_pixels(images[row])) for row in there)
    assert cache.nbytes >= pixel_bytes([images[row] for row in there])


@pytest.mark.slow
def test_workers_that_are_not_forked_share_it_too(map_rows, views):
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    try:
        loader = TrainLoader(map_rows, views, batch_size=10, seed=3, workers=2, cache=True)
        found = take(loader, 11)
    finally:
        multiprocessing.set_start_method(before, force=True)
    assert same(found, take(TrainLoader(map_rows, views, batch_size=10, seed=3, workers=0, cache=False), 11))
    assert not loader._reader.cache.missing(range(50))


@pytest.mark.parametrize("workers", [0, 2])
def test_what_finds_no_place_is_decoded_again(map_rows, views, workers, monkeypatch):
    monkeypatch.setattr(cache_module, "available_memory", lambda: 60_000)
    loader = TrainLoader(map_rows, views, batch_size=12, seed=5, workers=workers, cache=True)
    found = take(loader, 9)
    assert same(found, take(TrainLoader(map_rows, views, batch_size=12, seed=5, workers=0, cache=False), 9))
    there = [row for row in range(50) if loader._reader.cache.get(row) is not None]
    assert 0 < len(there) < 50 and loader._reader.cache.nbytes <= 60_000


def test_unreadable_rows_are_tried_once_ahead_and_told_when_they_are_needed(views, decoded):
    rows = rows_of([*encoded_images(19), b"broken"])
    loader = TrainLoader(rows, views, batch_size=5, workers=0, cache=True, max_unreadable=0.2)
    loader.fill_cache()
    assert len(decoded) == 20 and loader._reader.cache.finished and not loader.unreadable
    take(loader, 4)
    assert list(loader.unreadable) == ["row 19"] and "no format that Pillow knows" in loader.unreadable["row 19"]


def test_a_cache_keeps_rows_up_to_its_capacity():
    cache = DecodedRows(5, 100)
    small, large = np.arange(48, dtype=np.uint8).reshape(4, 4, 3), np.zeros((9, 9, 3), np.uint8)
    assert cache.missing(range(5)) == [0, 1, 2, 3, 4] and cache.get(2) is None and not cache.finished
    cache.put(2, small)
    cache.put(2, small + 1)
    cache.put(3, None)
    assert np.array_equal(cache.get(2), small) and cache.get(3) is None
    assert cache.missing(range(5)) == [0, 1, 4] and cache.nbytes == 48
    cache.put(4, large)
    assert cache.finished and cache.get(4) is None and cache.missing([4]) == [4]
    cache.put(0, small[:, :1])
    assert np.array_equal(cache.get(0), small[:, :1])


def test_where_the_memory_is_not_to_be_had_nothing_is_kept(map_rows, views, monkeypatch):
    def refuse(size):
        raise OSError("no")

    monkeypatch.setattr(cache_module, "_untouched", refuse)
    assert make_cache(5, 100, 200, workers=0, pickled=False) is None
    loader = TrainLoader(map_rows, views, batch_size=12, workers=0, cache=True)
    assert not loader.cached and "the system does not give" in loader.about_cache and len(take(loader, 2)) == 2


def test_what_is_kept_is_said_with_its_size(map_rows, views, monkeypatch):
    monkeypatch.setattr(cache_module, "available_memory", lambda: 8_000_000_000)
    assert allowed_bytes(True) == 8_000_000_000 and allowed_bytes(False) == 2_000_000_000
    line = TrainLoader(map_rows, views, batch_size=12, workers=0).about_cache
    assert line == "images: each is decoded once and kept in memory, about 0.2 MB in all (free: 8.0 GB)"
    line = about_cache(3_072_000_000, 2_000_000_000, kept=False, asked_for=False)
    assert line.startswith("images: decoded in every epoch, as keeping them takes about 3.1 GB, more than a quarter")
    assert TrainLoader(map_rows, views, batch_size=12, workers=0, cache=False).about_cache is None
