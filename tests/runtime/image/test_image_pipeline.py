"""From files to embeddings: order, threads, faults and fast decoding, with a session that only looks at the pixels."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from export.samples import chest_phantom
from runtime.engines import Sessions
from runtime.errors import Fault, InputError, MissingExtraError
from runtime.image import images as images_module
from runtime.image.encoder import ImageEncoder
from tests.runtime.parts import image_part

PART = image_part(64, 48, 3, embedding_size=4)
# (threads, streams): everything on this thread, a pool that decodes, workers, workers with pools.
LAYOUTS = [(1, 1), (3, 1), (2, 2), (4, 2), (3, 3)]


class Watched:
    """A session whose embeddings tell the images apart; counts the calls and how many threads are busy in it."""

    def __init__(self, seconds: float = 0) -> None:
        self.batches: list[int] = []
        self.busy = Busy()
        self._seconds = seconds

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray]) -> list[NDArray[np.float32]]:
        with self.busy:
            time.sleep(self._seconds)
            pixels = inputs["pixel_values"].astype(np.float32)
        self.batches.append(len(pixels))
        found = np.stack([pixels.mean((1, 2)), pixels.std((1, 2)), pixels[:, 5, 7], pixels[:, 40, 20]], axis=1)
        return [found if outputs == ["image_embeds"] else np.broadcast_to(found[:, None, None], (len(pixels), 3, 3, 4))]


class Busy:
    """How many threads are in a `with` block at most."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.now -= 1


@pytest.fixture(autouse=True)
def _few_images_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.image.encoder._BULK_IMAGES", 1)


def encoder(session: Watched, threads: int = 1, streams: int = 1) -> ImageEncoder:
    return ImageEncoder(PART, Sessions(lambda _: session, streams), threads=threads, batch=4)


@pytest.fixture(scope="module")
def arrays() -> list[np.ndarray]:
    return [chest_phantom(70 + index, 90, index) for index in range(23)]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def fail_on(monkeypatch: pytest.MonkeyPatch, width: int, error: BaseException) -> None:
    """Let a decoder raise for images of that width."""
    prepare = images_module.resize_and_crop

    def failing(image: Image.Image, *rest: object) -> NDArray[np.uint8]:
        if image.width == width:
            raise error
        return prepare(image, *rest)

    monkeypatch.setattr(images_module, "resize_and_crop", failing)


@pytest.mark.parametrize(("threads", "streams"), LAYOUTS)
def test_rows_come_in_order_on_any_number_of_threads(arrays: list[np.ndarray], threads: int, streams: int) -> None:
    expected = np.concatenate([encoder(Watched()).encode(array) for array in arrays])
    assert len(np.unique(expected, axis=0)) == len(arrays)
    session = Watched(0.002)
    several = encoder(session, threads, streams)
    for count in (1, 2, 5, 23):
        assert np.array_equal(several.encode(arrays[:count]), expected[:count]), count
    assert np.array_equal(several.encode_patches(arrays)[:, 1, 2], expected)
    assert np.array_equal(np.stack(list(several.encode_iter(iter(arrays)))), expected)
    assert max(session.batches) <= 4
    assert session.busy.most == streams


@pytest.mark.parametrize(("threads", "streams"), LAYOUTS)
def test_no_more_threads_are_busy_than_given(
    arrays: list[np.ndarray], threads: int, streams: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoding, prepare, session = Busy(), images_module.resize_and_crop, Watched(0.004)

    def watched(*arguments: object) -> NDArray[np.uint8]:
        with decoding:
            time.sleep(pause)
            return prepare(*arguments)

    monkeypatch.setattr(images_module, "resize_and_crop", watched)
    all_of_them = min(threads, streams * (threads // streams))
    for attempt in range(20):  # on a busy machine they do not always meet: each time they stay a little longer
        pause = 0.002 * (1 + attempt)
        encoder(session, threads, streams).encode(arrays)
        # A stream's share of the threads either decodes or computes.
        assert decoding.most <= threads
        assert session.busy.most <= streams
        if decoding.most >= all_of_them:
            break
    assert decoding.most >= all_of_them, "all of them decode"


def test_a_long_iterable_is_taken_as_it_is_consumed(arrays: list[np.ndarray]) -> None:
    taken: list[int] = []

    def endless() -> Iterator[np.ndarray]:
        while True:
            taken.append(len(taken))
            yield arrays[len(taken) % 5]

    for threads, streams in LAYOUTS:
        taken.clear()
        found = encoder(Watched(), threads, streams).encode_iter(endless())
        for _ in range(10):
            next(found)
        assert len(taken) <= 10 + 4 * (streams + 4)
        found.close()
        assert list(encoder(Watched(), threads, streams).encode_iter([])) == []


@pytest.mark.parametrize(("threads", "streams"), LAYOUTS)
def test_every_bad_image_of_a_list_is_named_and_the_rest_not_computed(
    arrays: list[np.ndarray], tmp_path: Path, threads: int, streams: int
) -> None:
    text = tmp_path / "note.png"
    text.write_text("no image")
    good = tmp_path / "good.png"
    Image.fromarray(arrays[0]).save(good)
    session = Watched()
    listed = [*arrays[:6], np.zeros((5, 5)), *[good] * 80, tmp_path / "absent.dcm", *arrays, text]
    with pytest.raises(InputError, match=f"3 of {len(listed)} images") as caught:
        encoder(session, threads, streams).encode(listed)
    assert [fault.index for fault in caught.value.faults] == [6, 87, 111]
    assert "[87]" in str(caught.value)
    assert "there is no such file" in str(caught.value)
    assert sum(session.batches) < 20


@pytest.mark.parametrize(("threads", "streams"), LAYOUTS)
def test_encode_iter_skips_what_it_reports(arrays: list[np.ndarray], threads: int, streams: int) -> None:
    expected = encoder(Watched()).encode(arrays)
    items: list = list(arrays)
    for index in (0, 4, 5, 6, 7, 22):
        items[index] = np.zeros((3, 3))
    events: list[object] = []
    several = encoder(Watched(0.001), threads, streams)
    for index, row in enumerate(several.encode_iter(items, on_fault=events.append)):
        events.append(index)
        assert (row is None) == (index in (0, 4, 5, 6, 7, 22))
        assert row is None or np.array_equal(row, expected[index])
    faults = [event for event in events if isinstance(event, Fault)]
    assert [fault.index for fault in faults] == [0, 4, 5, 6, 7, 22]
    assert all(events.index(fault) < events.index(fault.index) for fault in faults), "reported before its None"


def test_encode_iter_yields_all_that_comes_before_a_bad_batch(arrays: list[np.ndarray]) -> None:
    for threads, streams in LAYOUTS:
        rows = []
        with pytest.raises(InputError, match=r"1 of 20 images cannot be used:\n  \[17\] array: is constant"):
            rows += encoder(Watched(0.002), threads, streams).encode_iter([*arrays[:17], np.zeros((2, 2)), *arrays])
        assert len(rows) == 16, "the batch of the bad image has none"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("decoder lost"), KeyError("x")])
@pytest.mark.parametrize(("threads", "streams"), LAYOUTS)
def test_whatever_a_worker_dies_of_names_the_image(
    arrays: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    threads: int,
    streams: int,
    error: Exception,
) -> None:
    file = tmp_path / "heavy.png"
    Image.fromarray(chest_phantom(77, 123)).save(file)
    fail_on(monkeypatch, 123, error)
    several = encoder(Watched(), threads, streams)
    with pytest.raises(InputError, match=rf"heavy\.png: cannot be prepared \({type(error).__name__}") as caught:
        several.encode([*arrays, file])
    assert [fault.index for fault in caught.value.faults] == [23]
    faults: list[Fault] = []
    rows = list(several.encode_iter([file, *arrays], on_fault=faults.append))
    assert [fault.name for fault in faults] == [str(file)]
    assert rows[0] is None
    assert sum(row is not None for row in rows) == 23


@pytest.mark.parametrize(("threads", "streams"), LAYOUTS)
def test_errors_that_concern_all_images_end_the_call(
    arrays: list[np.ndarray], monkeypatch: pytest.MonkeyPatch, threads: int, streams: int
) -> None:
    class Broken(Watched):
        def run(self, *_: object) -> list[NDArray[np.float32]]:
            raise RuntimeError("the engine is gone")

    with pytest.raises(RuntimeError, match="engine is gone"):
        encoder(Broken(), threads, streams).encode(arrays)
    for error in (MissingExtraError("Reading x", "pydicom", "dicom"), KeyboardInterrupt()):
        fail_on(monkeypatch, 90, error)
        with pytest.raises(type(error)):
            encoder(Watched(), threads, streams).encode(arrays)
        with pytest.raises(type(error)):
            list(encoder(Watched(), threads, streams).encode_iter(arrays, on_fault=print))


@pytest.mark.parametrize("streams", [1, 3])
def test_a_slow_image_neither_reorders_nor_is_waited_for_after_close(
    arrays: list[np.ndarray], monkeypatch: pytest.MonkeyPatch, streams: int
) -> None:
    prepare = images_module.resize_and_crop
    seen: list[int] = []

    def slow(image: Image.Image, *rest: object) -> NDArray[np.uint8]:
        seen.append(image.height)
        if image.height == 70:
            time.sleep(0.1)
        return prepare(image, *rest)

    expected = encoder(Watched()).encode(arrays)
    monkeypatch.setattr(images_module, "resize_and_crop", slow)
    session = Watched()
    found = encoder(session, 3, streams).encode_iter(arrays * 50)
    assert np.array_equal(np.stack([next(found) for _ in range(23)]), expected)
    found.close()
    assert len(seen) < 23 + 4 * (streams + 4), "what was not begun is dropped"
