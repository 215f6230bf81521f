"""JPEG 2000 outside Python's lock: the values of pydicom's own decoders, and those where the library is not there."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pydicom = pytest.importorskip("pydicom")

from pydicom.uid import JPEG2000, JPEG2000Lossless  # noqa: E402

from export.samples import chest_phantom  # noqa: E402
from runtime.image import dicom, images, openjpeg  # noqa: E402
from runtime.image.dicom_options import DicomOptions  # noqa: E402
from runtime.image.images import load_pixels  # noqa: E402
from tests.runtime.dicoms import header, refusal, write_compressed  # noqa: E402
from tests.runtime.parts import grey_rule  # noqa: E402

pytestmark = pytest.mark.skipif(not openjpeg.is_available(JPEG2000Lossless), reason="Pillow has no OpenJPEG here")


def stream_of(array: np.ndarray, bits: int, **options: object) -> bytes:
    """A codestream."""
    return bytes(pytest.importorskip("openjpeg.utils").encode_array(array, bits_stored=bits, **options))


def film(bits: int, signed: bool) -> np.ndarray:
    values = chest_phantom(90, 70).astype(np.int64) * 257 >> (16 - bits)
    values -= (1 << (bits - 1)) if signed else 0
    return values.astype(f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}")


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("bits", [2, 7, 8, 9, 12, 14, 16])
def test_values_are_those_that_were_encoded(bits: int, signed: bool, threads: int) -> None:
    array = film(bits, signed)
    found = openjpeg.decode(stream_of(array, bits), threads)
    assert (found.shape, found.bits, found.size) == (array.shape, bits, array.dtype.itemsize)
    assert np.array_equal(np.frombuffer(found.words, array.dtype).reshape(found.shape), array)


def test_files_are_decoded_by_it_and_as_pydicom_decodes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    decode = openjpeg.decode

    def counted(stream: bytes, threads: int) -> openjpeg.Words:
        decoded.append(threads)
        return decode(stream, threads)

    monkeypatch.setattr(openjpeg, "decode", counted)
    for signed in (False, True):
        array = film(14, signed)
        stream = stream_of(array, 14)
        for syntax in (JPEG2000Lossless, JPEG2000):
            file = write_compressed(tmp_path / "a.dcm", header(array, bits=14), [stream], syntax)
            found, _ = dicom.read_dicom(file, DicomOptions(threads=3))
            assert np.array_equal(found, array)
            assert np.array_equal(found, pydicom.dcmread(file).pixel_array)
            assert found.dtype == array.dtype
    assert decoded == [3] * 4
    lossy = stream_of(film(14, False), 14, compression_ratios=[8])
    file = write_compressed(tmp_path / "lossy.dcm", header(film(14, False), bits=14), [lossy], JPEG2000)
    assert np.array_equal(dicom.read_dicom(file, DicomOptions())[0], pydicom.dcmread(file).pixel_array)
    assert len(decoded) == 4, "of lossy streams the values are GDCM's, whose release of OpenJPEG is another"


def test_without_the_library_pydicom_decodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = film(12, False)
    file = write_compressed(tmp_path / "a.dcm", header(array, bits=12), [stream_of(array, 12)], JPEG2000Lossless)
    monkeypatch.setattr(openjpeg, "_library", lambda: None)
    openjpeg.decoder.cache_clear()
    try:
        assert openjpeg.decoder(JPEG2000Lossless) is pydicom.pixels.get_decoder(JPEG2000Lossless)
        assert np.array_equal(dicom.read_dicom(file, DicomOptions())[0], array)
        with pytest.raises(OSError, match="not found"):
            openjpeg.decode(b"")
    finally:
        openjpeg.decoder.cache_clear()


def test_pydicom_s_own_decoder_stays_as_it_is() -> None:
    before = pydicom.pixels.get_decoder(JPEG2000Lossless).available_plugins
    assert openjpeg.decoder(JPEG2000Lossless).available_plugins == tuple(sorted([*before, "openjpeg"]))
    assert pydicom.pixels.get_decoder(JPEG2000Lossless).available_plugins == before


def test_broken_streams_raise(tmp_path: Path) -> None:
    array = film(12, False)
    stream = stream_of(array, 12)
    colours = io.BytesIO()
    Image.fromarray(np.stack([film(8, False)] * 3, -1)).save(colours, "JPEG2000", irreversible=False)
    for broken in (b"", b"abc", stream[:20], stream[:-4][: len(stream) // 9], colours.getvalue()):
        with pytest.raises(ValueError, match=r"header|broken|components|samples"):
            openjpeg.decode(broken)
    file = write_compressed(tmp_path / "a.dcm", header(array, bits=12), [stream[:200]], JPEG2000Lossless)
    assert "cannot be decoded" in refusal(file)


def test_other_threads_go_on_meanwhile(tmp_path: Path) -> None:
    """GDCM, pylibjpeg and Pillow let none of them run before they are done."""
    rng = np.random.default_rng(0)
    array = rng.integers(0, 1 << 14, (700, 600), np.uint16)  # noise takes longest
    stream, counted, decoding = stream_of(array, 14), [0], threading.Event()

    def count() -> None:
        decoding.wait()
        while decoding.is_set():
            counted[0] += 1

    counting = threading.Thread(target=count)
    counting.start()
    decoding.set()
    before = counted[0]
    openjpeg.decode(stream)
    during = counted[0] - before
    decoding.clear()
    counting.join()
    assert during > 100


def test_threads_that_are_left_work_on_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = film(12, False)
    given: list[int] = []
    monkeypatch.setattr(images, "_stored", lambda image, options, *_: given.append(options.threads) or 1 / 0)
    for count, threads, expected in ((1, 4, [4]), (2, 4, [2, 2]), (3, 4, [1, 1, 1]), (2, 1, [1, 1])):
        given.clear()
        load_pixels([array] * count, grey_rule(64, 48), threads=threads)
        assert given == expected
