"""What clients send becomes the pixels of `load_pixels`, or every fault of it is told."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.errors import InputError
from runtime.image.dicom_options import DicomOptions
from runtime.image.images import load_pixels, read_picture
from runtime.serve.caller import Caller
from runtime.serve.decoding.decoder import Decoder
from runtime.serve.decoding.line import Job, Line
from runtime.serve.decoding.quick import is_quick
from runtime.serve.limits import Limits
from runtime.serve.request_errors import RequestError
from tests.runtime.dicoms import TEST_FILES, write_dicom
from tests.runtime.image.test_bounds import png, zeros
from tests.runtime.parts import grey_rule
from tests.runtime.serve.decoding.conftest import RULE, encoded, picture

TINY = Limits(pixels=2_000_000)


@pytest.fixture(scope="module", params=[2, 0], ids=["children", "threads"])
def decoder(request: pytest.FixtureRequest) -> Iterator[Decoder]:
    """One that has a child for every picture, and one that has none."""
    made = Decoder(RULE, DicomOptions(), TINY, processes=request.param)
    made._is_quick = lambda image: False
    made.start()
    yield made
    assert made.crashes == 0
    made.close()


def decode(decoder: Decoder, images: Sequence[bytes], caller: Caller | None = None, **options: object):
    return asyncio.run(decoder.decode(list(images), caller or Caller(), **options))


def faults(decoder: Decoder, images: Sequence[bytes]) -> dict[int, str]:
    with pytest.raises(InputError) as caught:
        decode(decoder, images)
    assert all(fault.name == "image" for fault in caught.value.faults)
    return {fault.index: fault.reason for fault in caught.value.faults}


def generated() -> list[bytes]:
    grey = picture(1201, 1100)
    colours = Image.merge("RGB", [grey, picture(1201, 1100, 1), picture(1201, 1100, 2)])
    return [
        encoded(grey),
        encoded(grey, "JPEG", progressive=True),
        encoded(colours, "JPEG"),
        encoded(colours.convert("RGBA")),
        encoded(colours.convert("P")),
        encoded(colours.convert("CMYK"), "JPEG"),
        encoded(Image.fromarray(np.asarray(grey).astype(np.uint16) * 200)),
        encoded(picture(60, 50)),
        encoded(picture(60, 50), "JPEG"),
    ]


def same(found: Sequence[object], expected: Sequence[object]) -> bool:
    return len(found) == len(expected) and all(
        one.size == other.size and one.pixels.dtype == np.uint8 and np.array_equal(one.pixels, other.pixels)
        for one, other in zip(found, expected, strict=True)
    )


def test_generated_pictures_become_the_same_pixels(decoder: Decoder) -> None:
    images = generated()
    expected, _ = load_pixels(images, RULE)
    caller = Caller()
    assert same(decode(decoder, images, caller), expected)
    assert caller.timings.decoding > 0
    # In the order in which they came, and no other.
    assert not same(decode(decoder, images[::-1]), expected)


def test_dicom_files_become_the_same_pixels(decoder: Decoder) -> None:
    names = ["MR_small", "MR_small_RLE", "JPEG2000", "JPGExtended", "image_dfl", "SC_rgb_jpeg_dcmd", "examples_palette"]
    images = [(TEST_FILES / f"{name}.dcm").read_bytes() for name in names]
    expected, bad = load_pixels(images, RULE)
    assert not bad
    assert same(decode(decoder, images), expected)


def test_real_radiographs_become_the_same_pixels(decoder: Decoder, shared_data: Path) -> None:
    images = [path.read_bytes() for path in sorted((shared_data / "images").iterdir())]
    images = [image for image in images if not load_pixels([image], grey_rule(8, 8))[1]]
    small = [
        image for image in images if read_picture(image, "grey").size[0] * read_picture(image, "grey").size[1] < 2e6
    ]
    expected, _ = load_pixels(small, RULE)
    assert len(small) >= 8
    assert same(decode(decoder, small), expected)


@pytest.mark.parametrize("colours", ["rgb", "rgb after resizing", "luminance"])
def test_other_rules_hold_in_children(colours: str) -> None:
    rule = grey_rule(64, 48, colours=colours)
    decoder = Decoder(rule, DicomOptions(), TINY, processes=1, fast_decode=True)
    decoder._is_quick = lambda image: False
    decoder.start()
    try:
        images = generated()
        assert same(decode(decoder, images), load_pixels(images, rule, fast_decode=True)[0])
    finally:
        decoder.close()


def test_pictures_are_shown_at_their_full_size(decoder: Decoder, film: bytes) -> None:
    for image in (*generated()[:3], film):
        shown = asyncio.run(decoder.picture(image))
        expected = read_picture(image, RULE.colours)
        assert (shown.mode, shown.size) == (expected.mode, expected.size) == ("L", expected.size)
        assert shown.tobytes() == expected.tobytes()
    with pytest.raises(InputError, match="image: not an image of a known format"):
        asyncio.run(decoder.picture(b"nothing"))


def test_every_fault_of_a_request_is_told(decoder: Decoder, film: bytes, tmp_path: Path) -> None:
    forged = write_dicom(tmp_path / "forged.dcm", np.ones((50, 50), np.uint16), Rows=60_000, Columns=60_000)
    good = encoded(picture(1300, 1000))
    found = faults(
        decoder,
        [
            good,
            png(60_000, 60_000, zeros(8 << 20)),
            forged.read_bytes(),
            good[: len(good) // 2],
            b"ZQX" * 100,
            b"",
            (348).to_bytes(4, "little") + bytes(340) + b"n+1\0" + bytes(100),
            film[:700],
            film,
            encoded(picture(1500, 1500)),
            encoded(Image.new("L", (50, 50), 3)),
        ],
    )
    assert sorted(found) == [1, 2, 3, 4, 5, 6, 7, 9, 10]
    assert "2,000,000 pixels" in found[1]
    assert "60,000 × 60,000 pixels by its header" in found[2]
    assert found[3] == "cannot be decoded: it is broken or cut off (OSError)"
    assert found[4] == "not an image of a known format; supported are PNG, JPEG and DICOM"
    assert found[5] == "is empty (0 bytes)"
    assert found[6] == "is NIfTI, which is not accepted here; accepted are PNG, JPEG and DICOM"
    assert "1,500 × 1,500 pixels by its header; at most 2,000,000" in found[9]
    assert "constant" in found[10]


def test_notices_are_handed_on(decoder: Decoder, film: bytes) -> None:
    seen: list[tuple[int, str]] = []
    ct = (TEST_FILES / "CT_small.dcm").read_bytes()
    decode(decoder, [film, ct], on_notice=lambda index, found: seen.extend((index, each.kind) for each in found))
    assert (1, "no radiographs by their modality (CT)") in seen
    assert not any(index == 0 for index, _ in seen)


class Held:
    """Work that waits until it is let go, and notes what it was given."""

    def __init__(self, work: Callable[[bytes, bytes], object]) -> None:
        self.free = threading.Event()
        self.seen: list[bytes] = []
        self._work = work

    def __call__(self, kind: bytes, image: bytes) -> object:
        self.seen.append(image)
        assert self.free.wait(20)
        return self._work(kind, image)


@pytest.fixture
def held(open_decoder, monkeypatch: pytest.MonkeyPatch) -> tuple[Decoder, Held]:
    """A decoder of one thread."""
    monkeypatch.setattr("runtime.serve.decoding.decoder._CORES_A_PICTURE", 1 << 20)
    decoder = open_decoder(processes=0, limits=Limits(queue_items=5, wait_seconds=1.0))
    decoder._work = held = Held(decoder._work)
    return decoder, held


def test_callers_that_left_are_not_decoded_for(held: tuple[Decoder, Held]) -> None:
    decoder, work = held
    first, second, third = (encoded(picture(50, 40, seed)) for seed in (1, 2, 3))

    async def run() -> None:
        gone = Caller()
        one = asyncio.ensure_future(decoder.decode([first], Caller()))
        two = asyncio.ensure_future(decoder.decode([second], gone))
        three = asyncio.ensure_future(decoder.decode([third], Caller()))
        while not work.seen:
            await asyncio.sleep(0.01)
        gone.leave()
        work.free.set()
        assert len(await one) == len(await three) == 1
        with pytest.raises(RequestError, match="nobody waited"):
            await two

    asyncio.run(run())
    assert work.seen == [first, third]


def test_deadlines_and_cancelled_requests(held: tuple[Decoder, Held]) -> None:
    decoder, work = held
    images = [encoded(picture(50, 40, seed)) for seed in (1, 2, 3, 4)]

    async def run() -> None:
        one = asyncio.ensure_future(decoder.decode(images[:1], Caller()))
        two = asyncio.ensure_future(decoder.decode(images[1:2], Caller(deadline=time.monotonic() + 0.2)))
        three = asyncio.ensure_future(decoder.decode(images[2:3], Caller()))
        with pytest.raises(RequestError, match="deadline"):
            await two
        three.cancel()
        with pytest.raises(asyncio.CancelledError):
            await three
        work.free.set()
        assert len(await one) == len(await decoder.decode(images[3:], Caller())) == 1
        with pytest.raises(RequestError, match="deadline"):
            await decoder.decode(images[:1], Caller(deadline=time.monotonic() - 1))

    asyncio.run(run())
    assert work.seen == [images[0], images[3]]


def test_more_than_may_wait_are_refused(held: tuple[Decoder, Held]) -> None:
    decoder, work = held
    image = encoded(picture(50, 40))

    async def run() -> None:
        with pytest.raises(RequestError) as caught:
            await decoder.decode([image] * 6, Caller())
        assert caught.value.kind == "Overloaded"
        assert caught.value.retry_after >= 1
        waiting = asyncio.ensure_future(decoder.decode([image] * 5, Caller()))
        while not work.seen:
            await asyncio.sleep(0.01)
        assert decoder.waiting == 4
        decoder._mean_seconds = 0.3  # 1.2 seconds of others' pictures; 1 is waited
        with pytest.raises(RequestError, match="Too many images wait"):
            await decoder.decode([image], Caller())
        decoder._mean_seconds = 0.2
        also = asyncio.ensure_future(decoder.decode([image], Caller()))
        await asyncio.sleep(0)
        work.free.set()
        assert len(await waiting) == 5
        assert len(await also) == 1

    asyncio.run(run())


def test_who_waits_when_the_server_stops_is_told(held: tuple[Decoder, Held]) -> None:
    decoder, work = held
    image = encoded(picture(50, 40))

    async def run() -> None:
        one, two = (asyncio.ensure_future(decoder.decode([image], Caller())) for _ in range(2))
        while not work.seen:
            await asyncio.sleep(0.01)
        threading.Timer(0.3, work.free.set).start()
        await asyncio.to_thread(decoder.close)
        assert len(await one) == 1, "what was begun is answered"
        for late in (two, decoder.decode([image], Caller())):
            with pytest.raises(RequestError) as caught:
                await late
            assert caught.value.kind == "Unhealthy"

    asyncio.run(run())
    assert not decoder.alive()


def test_what_is_begun_in_a_child_is_finished_when_the_server_stops(open_decoder) -> None:
    decoder = open_decoder(processes=1)
    large = encoded(Image.linear_gradient("L").resize((4000, 3000)), compress_level=1)

    async def run() -> None:
        one = asyncio.ensure_future(decoder.decode([large], Caller()))
        two = asyncio.ensure_future(decoder.decode([large], Caller()))
        while decoder.waiting != 1:
            await asyncio.sleep(0.005)
        await asyncio.to_thread(decoder.close)
        assert len(await one) == 1
        with pytest.raises(RequestError, match="stops"):
            await two

    asyncio.run(run())
    assert decoder.crashes == 0


def test_callers_take_turns() -> None:
    async def run() -> list[str]:
        line = Line()
        many, one, two = Caller("many"), Caller("one"), Caller("two")
        for caller, count in ((many, 4), (one, 1), (two, 2)):
            line.put([Job(b"P", str(number).encode(), caller) for number in range(count)])
        return [f"{job.caller.request_id} {job.image.decode()}" for _ in range(7) if (job := line.take())]

    taken = asyncio.run(run())
    assert taken == ["many 0", "one 0", "two 0", "many 1", "two 1", "many 2", "many 3"]


def test_which_pictures_are_quick(film: bytes) -> None:
    at_most, beyond = (Image.new("L", (2048, height)) for height in (4096, 4097))
    for kind in ("PNG", "JPEG"):
        assert is_quick(encoded(at_most, kind))
        assert not is_quick(encoded(beyond, kind))
        assert not is_quick(encoded(at_most, kind)[:20])
    assert not is_quick(encoded(picture(60, 50), "JPEG", progressive=True)), "its scans may be any number"
    assert not is_quick(png(0, 5))
    assert not is_quick(png(60_000, 60_000))
    assert not is_quick(film)
    assert not is_quick(b"")
    assert not is_quick(encoded(picture(60, 50)) + bytes(32 << 20))
    assert is_quick(encoded(picture(60, 50), "JPEG", exif=b"Exif\0\0" + bytes(500), comment=b"one"))


def test_the_event_loop_goes_on_meanwhile(decoder: Decoder) -> None:
    images = [encoded(picture(1200, 1200), compress_level=1)] * 4

    async def run() -> float:
        decoding = asyncio.ensure_future(decoder.decode(images, Caller()))
        longest, last = 0.0, time.perf_counter()
        while not decoding.done():
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now
        await decoding
        return longest

    assert asyncio.run(run()) < 1.0


def test_quick_pictures_have_no_child(open_decoder, film: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = open_decoder(processes=1)
    asked: list[bytes] = []
    run = decoder._children.run
    monkeypatch.setattr(
        decoder._children, "run", lambda kind, image, expected: asked.append(image) or run(kind, image, expected)
    )
    grey = picture(600, 500)
    progressive = encoded(grey, "JPEG", progressive=True)
    images = [encoded(grey), encoded(grey, "JPEG"), progressive, film]
    assert same(decode(decoder, images), load_pixels(images, RULE)[0])
    assert asked == [progressive, film]
