"""Images given as objects: bytes, open files, Pillow images and arrays, several times and from several threads."""

from __future__ import annotations

import asyncio
import gzip
import io
import mmap
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas
import polars
import pyarrow
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from export.samples import chest_phantom
from runtime.engines import Sessions
from runtime.errors import Fault, InputError
from runtime.image import given_images
from runtime.image.dicom_options import DicomOptions
from runtime.image.encoder import ImageEncoder
from runtime.image.given_images import as_image_list, image_name, load_image, only_once, read_file
from runtime.image.images import load_pixels, read_grey
from tests.runtime.dicoms import header, write
from tests.runtime.parts import grey_rule, image_part

PART = image_part(64, 48, 3, embedding_size=4)
FILM = chest_phantom(90, 110, 1)
THREADS = 8


class Figures:
    """A session whose embeddings tell images apart."""

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray]) -> list[NDArray[np.float32]]:
        pixels = inputs["pixel_values"].astype(np.float32)
        return [np.stack([pixels.mean((1, 2)), pixels.std((1, 2)), pixels[:, 5, 7], pixels[:, 40, 20]], axis=1)]


def encoder(threads: int = 4) -> ImageEncoder:
    return ImageEncoder(PART, Sessions(lambda _: Figures(), 1), threads=threads, batch=4)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    file = tmp_path / "film.png"
    Image.fromarray(FILM).save(file)
    return file


@pytest.fixture
def other(tmp_path: Path) -> Path:
    file = tmp_path / "other.jpg"
    Image.fromarray(chest_phantom(95, 100, 2)).save(file)
    return file


class Slow(io.BytesIO):
    """A file of which each read takes a while, so that threads meet in it."""

    def read(self, size: int | None = -1) -> bytes:
        time.sleep(0.001)
        return super().read(size)


class Unseekable(io.RawIOBase):
    """What comes over a network: it can be read once."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._content.read(size)


class Tensor:
    """What other libraries have instead of arrays."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self._array

    def __iter__(self) -> Iterator[Tensor]:
        return map(Tensor, self._array)


def pixels_of(image: object, dicom: DicomOptions | None = None) -> np.ndarray:
    loaded, faults = load_pixels([image], grey_rule(64, 48), dicom or DicomOptions())
    assert not faults, faults
    return loaded[0].pixels


def fault_of(image: object) -> str:
    loaded, faults = load_pixels([image], grey_rule(64, 48))
    assert not loaded
    return f"{faults[0].name}: {faults[0].reason}"


# --- One object in many places


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "gif"])
@pytest.mark.parametrize("threads", [1, 2, 8])
def test_a_lazily_opened_image_may_come_several_times(tmp_path: Path, suffix: str, threads: int) -> None:
    file = tmp_path / f"film.{suffix}"
    Image.fromarray(FILM).save(file)
    with Image.open(file) as opened:
        expected = encoder(1).encode(np.asarray(opened.convert("L")))
    for _ in range(10):
        found = encoder(threads).encode([Image.open(file)] * 9)
        assert np.array_equal(found, np.repeat(expected, 9, axis=0))
    rows = list(encoder(threads).encode_iter(iter([Image.open(file)] * 9)))
    assert np.array_equal(np.stack(rows), np.repeat(expected, 9, axis=0))


def test_threads_of_an_application_share_a_lazily_opened_image(film: Path) -> None:
    expected = encoder().encode(film)
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in range(10):
            image = Image.open(film)
            rows = list(pool.map(lambda _, image=image: encoder(2).encode(image), range(THREADS)))
            assert all(np.array_equal(row, expected) for row in rows)


def meet(images: Sequence[Image.Image]) -> list[BaseException | None]:
    """What each of several threads gets that load images at once."""
    barrier = threading.Barrier(len(images), timeout=20)

    def load(image: Image.Image) -> BaseException | None:
        barrier.wait()
        try:
            return None if np.array_equal(np.asarray(load_image(image)), FILM) else ValueError("other pixels")
        except Exception as error:  # Pillow's own assertions too, where nothing guards it
            return error

    with ThreadPoolExecutor(len(images)) as pool:
        return list(pool.map(load, images))


def shared_files(film: Path) -> list[list[Image.Image]]:
    """One image for all threads, and one for each thread on one file."""
    one = Image.open(Slow(film.read_bytes()))
    file = Slow(film.read_bytes())
    return [[one] * THREADS, [Image.open(file) for _ in range(THREADS)]]


def test_images_on_one_file_are_read_one_after_the_other(film: Path) -> None:
    for images in shared_files(film):
        assert meet(images) == [None] * THREADS


def test_negative_control_without_locks_threads_spoil_each_other(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given_images._Locks, "of", lambda self, thing: threading.Lock())
    for place in (0, 1):  # several times: threads do not always meet
        assert any(any(meet(shared_files(film)[place])) for _ in range(20))


def test_a_file_and_an_image_on_it_may_come_together(film: Path) -> None:
    expected = encoder().encode(film)
    for _ in range(10):
        file = Slow(film.read_bytes())
        found = encoder(8).encode([file, Image.open(file), file, Image.open(file)])
        assert np.array_equal(found, np.repeat(expected, 4, axis=0))


@pytest.mark.parametrize("threads", [1, 8])
def test_an_open_file_may_come_several_times(film: Path, threads: int) -> None:
    expected = encoder().encode(film)
    with film.open("rb") as file:
        file.seek(7)
        assert np.array_equal(encoder(threads).encode([file] * 9), np.repeat(expected, 9, axis=0))
        with ThreadPoolExecutor(THREADS) as pool:
            rows = list(pool.map(lambda _: encoder(threads).encode(file), range(40)))
        assert all(np.array_equal(row, expected) for row in rows)
        assert np.array_equal(np.stack(list(encoder(threads).encode_iter([file] * 9))), np.repeat(expected, 9, axis=0))
        assert file.tell() == 7, "where the caller left it"


def test_what_can_be_read_once_is_read_once(film: Path) -> None:
    expected = encoder().encode(film)
    stream = Unseekable(film.read_bytes())
    found = encoder(8).encode([stream, film, stream, stream, film, stream, stream, stream])
    assert np.array_equal(found, np.repeat(expected, 8, axis=0))
    with pytest.raises(InputError, match=r"Unseekable: has nothing left to read, and cannot be rewound. .* its bytes"):
        encoder().encode(stream)
    reader, writer = os.pipe()
    os.write(writer, film.read_bytes()[:50_000])
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert np.array_equal(encoder(8).encode([pipe, pipe]), np.repeat(expected, 2, axis=0))


def test_every_place_of_a_bad_object_is_named(film: Path) -> None:
    broken = Image.open(io.BytesIO(film.read_bytes()[:600]))
    with pytest.raises(InputError) as caught:
        encoder(8).encode([broken, film, broken])
    assert [fault.index for fault in caught.value.faults] == [0, 2]
    assert "2 of 3 images" in str(caught.value)
    loaded, faults = encoder().load([film, broken, film, broken])
    assert [fault.index for fault in faults] == [1, 3]
    assert len(loaded) == 2


def test_an_image_that_failed_fails_again(film: Path) -> None:
    """Pillow forgets some failures, and would hand out the part that it had decoded."""
    content = bytearray(film.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 50] = bytes(50)
    alone = Image.open(io.BytesIO(content))
    with pytest.raises(OSError):  # noqa: PT011
        alone.load()
    alone.load()
    image = Image.open(io.BytesIO(content))
    for reason in ("broken|unrecognized|truncated", "Open it again", "Open it again"):
        with pytest.raises(InputError, match=f"cannot be decoded.*({reason})"):
            encoder().encode(image)


def test_equal_but_different_things_keep_their_rows(film: Path, other: Path) -> None:
    images = [film, other, str(film), FILM, FILM, Image.open(film), other.read_bytes(), film.read_bytes()]
    expected = [encoder().encode(image)[0] for image in images]
    assert np.array_equal(encoder(4).encode(images), np.stack(expected))
    assert not np.array_equal(expected[0], expected[1])


def test_only_what_reading_changes_is_taken_once(film: Path) -> None:
    image, file = Image.open(film), io.BytesIO(b"")
    images = [image, "a", file, image, "a", FILM, FILM, file, Image.open(film)]
    different, places = only_once(images)
    assert [different[place] for place in places] == images
    assert places == [0, 1, 2, 0, 3, 4, 5, 2, 6]


def test_different_files_are_read_side_by_side() -> None:
    """Two that wait for each other can only be read together."""
    barrier = threading.Barrier(2, timeout=20)

    class Waiting(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            barrier.wait()
            return super().read(size)

    buffer = io.BytesIO()
    Image.fromarray(FILM).save(buffer, "PNG")
    files = [Waiting(buffer.getvalue())]
    spare = [Waiting(buffer.getvalue()) for _ in range(9)]
    files.append(
        next(file for file in spare if given_images._of_files.of(file) is not given_images._of_files.of(files[0]))
    )
    loaded, faults = load_pixels(files, grey_rule(64, 48), threads=2)
    assert len(loaded) == 2, faults


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_a_thread_of_its_parent(film: Path) -> None:
    reading, go_on = threading.Event(), threading.Event()

    class Stuck(io.BytesIO):
        stuck = True

        def read(self, size: int | None = -1) -> bytes:
            if self.stuck:
                reading.set()
                go_on.wait(20)
            return super().read(size)

    file = Stuck(film.read_bytes())
    thread = threading.Thread(target=lambda: read_file(file))
    thread.start()
    reading.wait(20)
    child = os.fork()
    if child == 0:
        file.stuck = False
        os._exit(0 if read_file(file) == film.read_bytes() else 1)
    for _ in range(200):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.05)
    else:
        os.kill(child, 9)
        os.waitpid(child, 0)
    go_on.set()
    thread.join()
    assert done
    assert os.waitstatus_to_exitcode(status) == 0


# --- Image files that are no paths


def temporary(content: bytes) -> Any:
    file = tempfile.SpooledTemporaryFile()  # noqa: SIM115
    file.write(content)
    return file


def mapped(content: bytes) -> mmap.mmap:
    found = mmap.mmap(-1, len(content))
    found[:] = content
    return found


class Upload:
    """As of Flask: a name and a stream."""

    def __init__(self, content: bytes) -> None:
        self.filename = "chest.png"
        self.name = "field"
        self._stream = io.BytesIO(content)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


HOLDERS: dict[str, Callable[[bytes], Any]] = {
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "BytesIO": io.BytesIO,
    "SpooledTemporaryFile": temporary,
    "mmap": mapped,
    "Unseekable": Unseekable,
    "Upload": Upload,
    "pyarrow": lambda content: pyarrow.BufferReader(content),
    "gzip": lambda content: gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(content))),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_the_bytes_of_a_file_are_that_file(holder: str, film: Path, other: Path, tmp_path: Path) -> None:
    dicom = write(tmp_path / "film.dcm", header(FILM), FILM.tobytes())
    volume = tmp_path / "film.nii.gz"
    nibabel.save(nibabel.Nifti1Image(FILM.T[:, :, None].astype(np.int16), np.eye(4)), volume)
    bare = tmp_path / "bare.dcm"
    bare.write_bytes(dicom.read_bytes()[132:])
    for file in (film, other, dicom, volume, bare):
        expected = pixels_of(file)
        assert np.array_equal(pixels_of(HOLDERS[holder](file.read_bytes())), expected), file.name
        one = HOLDERS[holder](file.read_bytes())
        assert encoder().encode(one).shape == (1, 4), "one image, not one for each byte or line"
        assert encoder().encode([HOLDERS[holder](file.read_bytes()), file]).shape == (2, 4)


def test_fast_decoding_and_dicom_options_hold_for_bytes(other: Path, tmp_path: Path) -> None:
    large = tmp_path / "large.jpg"
    Image.fromarray(chest_phantom(600, 700, 5)).save(large)
    fast = [load_pixels([image], grey_rule(64, 48), fast_decode=True)[0][0] for image in (large, large.read_bytes())]
    assert np.array_equal(fast[0].pixels, fast[1].pixels)
    assert fast[1].size == (700, 600)
    assert not np.array_equal(fast[1].pixels, pixels_of(large.read_bytes()))
    inverted = write(tmp_path / "film.dcm", header(FILM, "MONOCHROME1"), FILM.tobytes())
    kept = DicomOptions(invert_monochrome1=False)
    assert np.array_equal(pixels_of(inverted.read_bytes(), kept), pixels_of(inverted, kept))
    assert not np.array_equal(pixels_of(inverted.read_bytes(), kept), pixels_of(inverted))


class Awaited:
    """As an upload of Starlette."""

    filename = "chest.png"

    async def read(self, size: int = -1) -> bytes:
        return b""


class AwaitedLater:
    def read(self) -> Any:
        return Awaited().read()


class Odd:
    def read(self) -> Any:
        return 5


def closed() -> io.BytesIO:
    file = io.BytesIO(b"")
    file.close()
    return file


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (b"chest.png", r"bytes: not an image of a known format; .* its path is a str"),
        (bytearray(b"\x89PNG\r\n\x1a\n broken"), "bytearray: begins as a PNG"),
        (b"", r"bytes: is empty \(0 bytes\)"),
        (io.BytesIO(b""), r"BytesIO: is empty \(0 bytes\)"),
        (io.BytesIO(b"GIF89a"), "BytesIO: is GIF, which is not read here"),
        (io.StringIO("No effusion"), "StringIO: is a file opened as text.*'rb'"),
        (closed(), "BytesIO: cannot be read .*closed file"),
        (Awaited(), r"chest.png: has a read\(\) that must be awaited.*\.file"),
        (AwaitedLater(), r"AwaitedLater: has a read\(\) that must be awaited"),
        (Odd(), r"Odd: its read\(\) gave a int; bytes are expected"),
        (None, r"NoneType: is a NoneType \(a missing value\); a path"),
        (float("nan"), r"float: is a float \(a missing value\); a path"),
        (3, "int: is a int; a path"),
        ([FILM], "list: is a list; a path"),
        ({"image": FILM}, "dict: is a dict; a path"),
        (pandas.DataFrame(FILM), "DataFrame: is a DataFrame; a path"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else type(value).__name__,
)
@pytest.mark.filterwarnings("error")
def test_what_is_no_image_is_named_with_a_reason(image: object, reason: str) -> None:
    loaded, faults = load_pixels([image], grey_rule(64, 48))
    assert not loaded
    assert re.search(reason, f"{faults[0].name}: {faults[0].reason}"), faults
    with pytest.raises(InputError, match=re.escape(faults[0].reason)):
        encoder().encode([image, FILM])


def test_an_upload_is_read_by_its_file(film: Path) -> None:
    """What the messages about uploads that must be awaited tell the caller to do."""
    upload = Awaited()
    upload.file = temporary(film.read_bytes())  # type: ignore[attr-defined]
    assert np.array_equal(pixels_of(upload.file), pixels_of(film))  # type: ignore[attr-defined]
    assert asyncio.run(upload.read()) == b""


def test_a_text_file_is_named_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("No effusion")
    with (tmp_path / "a.txt").open() as file:
        assert fault_of(file).startswith(str(tmp_path / "a.txt"))
    assert image_name(Upload(b"")) == "chest.png"


def test_bytes_of_no_image_are_named_without_being_decoded(film: Path) -> None:
    faults: list[Fault] = []
    bad = [film.read_bytes()[:600], *[FILM] * 20, b"text", memoryview(b"GIF89a"), film]
    with pytest.raises(InputError) as caught:
        encoder().encode(bad)
    faults += caught.value.faults
    assert [fault.index for fault in faults] == [0, 21, 22]


# --- Pillow images


def test_closed_images_say_so(film: Path) -> None:
    with Image.open(film) as left:
        pass
    closed_image = Image.open(film)
    closed_image.close()
    with film.open("rb") as file:
        without = Image.open(file)
    for image in (left, closed_image, without):
        assert "cannot be decoded" in fault_of(image)
        assert "closed" in fault_of(image)


def test_decompression_bombs_are_named(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", FILM.size // 3)
    for image in (film, film.read_bytes(), io.BytesIO(film.read_bytes())):
        assert "DecompressionBombError" in fault_of(image)
    with pytest.raises(InputError, match=r"film.png: cannot be decoded \(DecompressionBombError"):
        encoder().encode(film)


def test_of_several_frames_the_current_one_is_taken(tmp_path: Path) -> None:
    frames = [chest_phantom(90, 110, seed) for seed in range(3)]
    file = tmp_path / "frames.tif"
    first, *rest = map(Image.fromarray, frames)
    first.save(file, save_all=True, append_images=rest)
    expected = np.concatenate([encoder().encode(frame) for frame in frames])
    with Image.open(file) as opened:
        assert np.array_equal(encoder().encode(opened), expected[:1])
        opened.seek(2)
        assert np.array_equal(encoder().encode(opened), expected[2:])
        assert opened.tell() == 2
    with Image.open(file) as opened:
        # The iterator hands out one object over and over, which stands at the last frame when it is through.
        assert np.array_equal(encoder().encode(ImageSequence.Iterator(opened)), expected)
        assert np.array_equal(np.stack(list(encoder().encode_iter(ImageSequence.Iterator(opened)))), expected)


def test_images_keep_their_mode_format_and_pixels(film: Path, tmp_path: Path) -> None:
    for mode in ("L", "LA", "RGB", "RGBA", "P", "1", "I;16"):
        file = tmp_path / "image.png"
        Image.fromarray(FILM.astype(np.uint16) * 200 if mode == "I;16" else FILM).convert(mode).save(file)
        with Image.open(file) as untouched:
            before = (untouched.mode, untouched.format, untouched.size, untouched.info)
            values = np.asarray(untouched).copy()
        image = Image.open(file)
        encoder().encode([image, image])
        assert (image.mode, image.format, image.size, image.info) == before
        assert np.array_equal(np.asarray(image), values), mode


# --- Arrays


def stack(count: int) -> np.ndarray:
    return np.stack([chest_phantom(90, 110, seed) for seed in range(count)])


ARRAYS: dict[str, tuple[Callable[[], Any], int]] = {
    "(H, W)": (lambda: FILM, 1),
    "(H, W, 1)": (lambda: FILM[:, :, None], 1),
    "(H, W, 2)": (lambda: np.stack([FILM, FILM], axis=2), 1),
    "(H, W, 3)": (lambda: np.stack([FILM] * 3, axis=2), 1),
    "(H, W, 4)": (lambda: np.stack([FILM] * 4, axis=2), 1),
    "(1, H, W)": (lambda: FILM[None], 1),
    "(5, H, W)": (lambda: stack(5), 5),
    "(N, H, W, 3)": (lambda: np.stack([stack(2)] * 3, axis=3), 2),
    "(N, H, W, 1)": (lambda: stack(3)[..., None], 3),
    "(N, 1, H, W)": (lambda: stack(3)[:, None], 3),
    "list of (1, H, W)": (lambda: list(stack(3)[:, None]), 3),
    "bool": (lambda: FILM > 100, 1),
    "float16": (lambda: FILM.astype(np.float16), 1),
    "big-endian": (lambda: FILM.astype(">u2") * 99, 1),
    "Fortran": (lambda: np.asfortranarray(FILM), 1),
    "backwards": (lambda: FILM[::-1, ::-1], 1),
    "every second": (lambda: np.repeat(FILM, 2, axis=1)[:, ::2], 1),
    "read-only": (lambda: np.frombuffer(FILM.tobytes(), np.uint8).reshape(FILM.shape), 1),
    "tensor": (lambda: Tensor(FILM), 1),
    "tensors": (lambda: [Tensor(FILM), Tensor(FILM)], 2),
    "tensor of a stack": (lambda: Tensor(stack(6)), 6),
    "generator": (lambda: (film for film in stack(3)), 3),
    "dict values": (lambda: {"a": FILM, "b": FILM}.values(), 2),
    "0-d of an image": (lambda: boxed(FILM), 1),
}


def boxed(value: object) -> np.ndarray:
    found = np.empty((), dtype=object)
    found[()] = value
    return found


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_that_are_accepted(name: str) -> None:
    make, count = ARRAYS[name]
    found = encoder().encode(make())
    assert found.shape == (count, 4)
    given = make()
    values = [np.asarray(item) for item in as_image_list(given)]
    expected = []
    for value in values:
        grey = value if value.ndim == 2 else value[0] if value.shape[0] == 1 else value[..., 0]
        expected.append(encoder().encode(np.ascontiguousarray(grey, dtype=grey.dtype.newbyteorder("=")))[0])
    assert np.array_equal(found, np.stack(expected))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: stack(3), r"shape \(3, 90, 110\) came .*: 3 grey images, or one with its channels first\?.*moveaxis"),
        (lambda: stack(2).astype(float), r"shape \(2, 90, 110\).*list\(array\)"),
        (lambda: Tensor(stack(4)), r"shape \(4, 90, 110\).*channels first"),
        (lambda: np.stack([stack(3)] * 2), r"shape \(2, 3, 90, 110\) came where images are expected\. \(H, W\)"),
        (lambda: np.zeros((2, 2, 3, 90, 110)), r"shape \(2, 2, 3, 90, 110\)"),
        (lambda: FILM.astype(complex), "dtype complex128"),
        (lambda: FILM.astype("m8[s]"), "dtype timedelta64"),
        (lambda: FILM.astype("M8[s]"), "dtype datetime64"),
        (lambda: FILM.astype(object), r"array object \(90, 110\) came where images are expected"),
        (lambda: np.zeros(FILM.shape, dtype=[("a", int)]), "came where images are expected"),
        (lambda: FILM[0], r"shape \(110,\)"),
        (lambda: np.array(3), r"shape \(\)"),
        (lambda: np.float32(3), r"shape \(\)|float32 came"),
        (lambda: np.zeros((0, 5)), "is empty"),
        (lambda: np.zeros((0, 90, 110)), "list of images is empty"),
        (lambda: np.where(FILM > 99, np.inf, FILM), "NaN or infinite"),
        (lambda: np.full((9, 9), 7), "is constant"),
        (lambda: np.full((9, 9), "a"), "array <U1"),
        (lambda: [[1, 2], [3, 4]], "is a list; a path"),
        (lambda: np.array([b"a.png"]), "not an image of a known format"),
    ],
)
def test_arrays_that_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        encoder().encode(make())


def test_a_tensor_that_is_no_array_says_why() -> None:
    torch = pytest.importorskip("torch")
    grey = torch.from_numpy(FILM.copy())
    assert np.array_equal(encoder().encode(grey), encoder().encode(FILM))
    assert np.array_equal(encoder().encode([grey, grey]), encoder().encode([FILM, FILM]))
    with pytest.raises(InputError, match=r"requires.grad"):
        encoder().encode([grey.float().requires_grad_()])
    with pytest.raises(InputError, match="images is a Tensor of which no array can be made"):
        encoder().encode(grey.to(torch.bfloat16))


def test_arrays_are_never_written_to(tmp_path: Path) -> None:
    floats = (FILM - FILM.mean()).astype(np.float64)
    np.save(tmp_path / "film.npy", floats)
    mapped_array = np.load(tmp_path / "film.npy", mmap_mode="r")
    for array in (FILM, floats, FILM.astype(np.int16), mapped_array, FILM > 90):
        before = np.array(array)
        encoder(4).encode([array, array, array[::-1]])
        assert np.array_equal(array, before)
    writable = np.load(tmp_path / "film.npy", mmap_mode="r+")
    assert np.array_equal(encoder().encode(writable), encoder().encode(floats))
    assert np.array_equal(np.load(tmp_path / "film.npy"), floats)


def test_what_was_returned_does_not_follow_the_array() -> None:
    array = FILM.copy()
    loaded, _ = encoder().load(array)
    before = loaded[0].pixels.copy()
    array[:] = 255 - array
    assert np.array_equal(loaded[0].pixels, before)


# --- Columns of tables

PATHS = ["film.png", "other.jpg", "film.png"]
COLUMNS: dict[str, Callable[[list[str]], Any]] = {
    "list": list,
    "tuple": tuple,
    "iterator": iter,
    "object array": lambda paths: np.array(paths, dtype=object),
    "str array": np.array,
    "Paths": lambda paths: np.array([Path(path) for path in paths], dtype=object),
    "Series": lambda paths: pandas.Series(paths, index=[9, 7, 8]),
    "Series of Paths": lambda paths: pandas.Series([Path(path) for path in paths]),
    "Categorical": lambda paths: pandas.Series(paths, dtype="category"),
    "polars": lambda paths: polars.Series(paths),
    "pyarrow": lambda paths: pyarrow.array(paths),
    "chunked": lambda paths: pyarrow.chunked_array([paths[:1], paths[1:]]),
    "dictionary": lambda paths: pyarrow.array(paths).dictionary_encode(),
    "bytes": lambda paths: pyarrow.array([Path(path).read_bytes() for path in paths]),
    "polars bytes": lambda paths: polars.Series([Path(path).read_bytes() for path in paths]),
    "directory entries": lambda paths: [entry for path in paths for entry in os.scandir() if entry.name == path],
    "entries as bytes": lambda paths: [e for path in paths for e in os.scandir(b".") if e.name == path.encode()],
}


@pytest.mark.parametrize("column", COLUMNS)
def test_columns_of_paths(column: str, film: Path, other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(film.parent)
    expected = np.concatenate([encoder().encode(path) for path in PATHS])
    assert np.array_equal(encoder().encode(COLUMNS[column](PATHS)), expected)
    assert np.array_equal(np.stack(list(encoder().encode_iter(COLUMNS[column](PATHS)))), expected)


def test_missing_values_are_named_by_their_place(film: Path) -> None:
    for column in (
        pandas.Series([str(film), None, str(film)]),
        pandas.Series([str(film), None, str(film)], dtype="string"),
        polars.Series([str(film), None, str(film)]),
        pyarrow.array([str(film), None, str(film)]),
    ):
        with pytest.raises(InputError, match=r"1 of 3 images(?s:.)*\[1\].*a missing value") as caught:
            encoder().encode(column)
        assert caught.value.faults[0].index == 1


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ({"a.png": FILM}, "A dict came where images are expected.*keys"),
        (pandas.DataFrame({"path": ["a.png"]}), "A DataFrame came where images.*one of its columns"),
        (polars.DataFrame({"path": ["a.png"]}), "A DataFrame came where images.*one of its columns"),
        (pyarrow.table({"path": ["a.png"]}), "A Table came where images.*one of its columns"),
        ({"a.png", "b.png"}, "A set came where images.*no order"),
        (frozenset(["a.png"]), "A frozenset came where images"),
        (header(FILM), "A Dataset came where images are expected.*keys"),
        (None, "A NoneType came where images"),
        (3.5, "A float came where images"),
        (np.str_, "A type came where images"),
        ([], "list of images is empty"),
        (iter(()), "list of images is empty"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else type(value).__name__,
)
def test_what_holds_no_images_is_refused(images: object, message: str) -> None:
    for call in (encoder().encode, encoder().load):
        with pytest.raises(InputError, match=message):
            call(images)  # type: ignore[operator]
    if "empty" not in message:
        with pytest.raises(InputError, match=message):
            encoder().encode_iter(images)  # type: ignore[arg-type]


def test_one_path_for_encode_iter_is_one_image(film: Path) -> None:
    """Its characters are no paths."""
    for image in (film, str(film), film.read_bytes(), FILM, Image.open(film)):
        assert len(list(encoder().encode_iter(image))) == 1
        assert len(encoder().load(image)[0]) == 1
    assert np.array_equal(np.asarray(read_grey(film.read_bytes())), np.asarray(read_grey(film)))
