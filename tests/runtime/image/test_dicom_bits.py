"""Overlays in the bits beside the stored ones: every codec gives the values that the native file has."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.samples import chest_phantom
from runtime.image.codestream import is_lossless
from runtime.image.decoders import read_array
from runtime.image.dicom_options import DicomOptions

pydicom = pytest.importorskip("pydicom")

from pydicom.encaps import get_frame  # noqa: E402
from pydicom.uid import (  # noqa: E402
    JPEG2000,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from tests.runtime.dicoms import compress_by_gdcm, header, write, write_compressed, write_dicom  # noqa: E402

HTJ2K_LOSSLESS = "1.2.840.10008.1.2.4.201"
# (12, 10) words: 37 times the number of the pixel in 12 bits, overlays above.
HTJ2K_STREAM = (
    "/0//UQApQAAAAAAKAAAADAAAAAAAAAAAAAAACgAAAAwAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB/1wAEyCI"
    "kJCQkJCQkJCQkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAOsAAf+TwAAmKvwCh3QAAMAAE0AAE0AAEwA8"
    "yAUHdABe5wUHdAB/UAWHdADAABUQAAVEAAEwF0YmhgULdAB/S76EAUI0AB+EBQd0AMAAFdAABakAAFaAf+CAOIR/AXaMBM0AVQD/"
    "QH/k7wEU9nX6Hv4CwW5BgHdYAP8B/mP/E/zvAs1DVQDAAC6CAAFuQAAtYEggEvh/JLD2+/9/8/98/39/az8k8NCmSBa9mcD0C3sA"
    "/2//E64b8f9t6P3/Df3/T7jw6BTPAt+kRnBaAP9//3//f/9n/3//f/7oBorrrEaQWQD/2Q=="
)
FILM = chest_phantom(90, 70).astype(np.int32) * 256 + 3


def encoded(folder: Path, words: np.ndarray, syntax: str, **options: object) -> bytes:
    """A stream of all bits of the words."""
    file = write_dicom(folder / "plain.dcm", words)
    if syntax in (JPEGLossless, JPEGLosslessSV1):
        image = pydicom.dcmread(compress_by_gdcm(file, folder / "packed.dcm", syntax))
    else:
        image = pydicom.dcmread(file)
        image.compress(syntax, **options)
    return get_frame(image.PixelData, 0, number_of_frames=1)


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize(("stored", "high"), [(12, 11), (12, 15), (12, 13), (10, 9), (8, 7), (15, 14), (16, 15)])
@pytest.mark.parametrize(
    "syntax",
    [JPEG2000Lossless, JPEGLSLossless, JPEGLossless, JPEGLosslessSV1, RLELossless],
    ids=lambda uid: getattr(uid, "name", str(uid)),
)
def test_bits_beside_the_values_are_masked_in_every_codec(
    tmp_path: Path, syntax: str, stored: int, high: int, signed: bool
) -> None:
    values = (FILM >> (16 - stored)) - ((1 << (stored - 1)) if signed else 0)
    mask = ((1 << stored) - 1) << (high + 1 - stored)
    overlay = np.random.default_rng(0).integers(0, 1 << 16, FILM.shape) & ~mask
    words = (((values << (high + 1 - stored)) & mask) | overlay).astype(np.uint16)
    described = {"bits": stored, "HighBit": high, "PixelRepresentation": int(signed)}
    native = write(tmp_path / "native.dcm", header(words, **described), words.tobytes())
    assert np.array_equal(read_array(native, DicomOptions()), values)
    for as_signed in (False, True):  # the stream of JPEG 2000 says which, right or wrong
        stream = encoded(tmp_path, words.view(np.int16) if as_signed else words, syntax)
        for frames in (1, 2):
            image = header(words, **described, NumberOfFrames=frames)
            file = write_compressed(tmp_path / "packed.dcm", image, [stream] * frames, syntax)
            found = read_array(file, DicomOptions(frame=frames))
            assert np.array_equal(found, values), (as_signed, frames)
            assert found.dtype.kind == ("i" if signed else "u")


@pytest.mark.parametrize("precision", range(12, 17))
@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
def test_streams_of_any_precision_are_masked(tmp_path: Path, precision: int, signed: bool) -> None:
    encode_array = pytest.importorskip("openjpeg.utils").encode_array
    values = (FILM >> 4) - (2048 if signed else 0)
    overlay = np.random.default_rng(0).integers(0, 1 << 16, FILM.shape) & 0xF000 & ((1 << precision) - 1)
    words = ((values & 0xFFF) | overlay).astype(np.uint16)
    image = header(words, bits=12, PixelRepresentation=int(signed))
    stream = encode_array(words, bits_stored=precision)
    file = write_compressed(tmp_path / "a.dcm", image, [stream], JPEG2000Lossless)
    assert np.array_equal(read_array(file, DicomOptions()), values)


def test_high_throughput_jpeg_2000_is_masked_too(tmp_path: Path) -> None:
    """A stream of OpenJPH, of which there is no encoder in the test environment."""
    values = np.arange(120).reshape(12, 10) * 37 % 4096
    stream = base64.b64decode(HTJ2K_STREAM)
    assert is_lossless(stream)
    for signed in (False, True):
        image = header(values.astype(np.uint16), bits=12, PixelRepresentation=int(signed))
        file = write_compressed(tmp_path / "a.dcm", image, [stream], HTJ2K_LOSSLESS)
        expected = np.where(signed & (values > 2047), values - 4096, values)
        assert np.array_equal(read_array(file, DicomOptions()), expected)


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
def test_the_overshoot_of_a_lossy_codec_stays_white(tmp_path: Path, signed: bool) -> None:
    """Masked, what is whiter than white would come out black."""
    encode_array = pytest.importorskip("openjpeg.utils").encode_array
    film = np.zeros((90, 70), np.int32)
    film[:, 30:] = film[::7] = 4095
    film = (film - 2048).astype(np.int16) if signed else film.astype(np.uint16)
    stream = encode_array(film, bits_stored=16, compression_ratios=[12])
    file = write_compressed(tmp_path / "a.dcm", header(film, bits=12), [stream], JPEG2000)
    raw, found = pydicom.dcmread(file).pixel_array, read_array(file, DicomOptions())
    assert raw.max() > film.max(), "or there would be nothing to see"
    assert np.array_equal(found, np.clip(raw, film.min(), film.max()))


def test_streams_say_whether_they_are_lossless(tmp_path: Path) -> None:
    grey = chest_phantom(90, 70)
    for options, lossless in (({"irreversible": False}, True), ({"irreversible": True}, False)):
        for no_jp2 in (False, True):
            buffer = io.BytesIO()
            Image.fromarray(grey).save(buffer, "JPEG2000", no_jp2=no_jp2, **options)
            assert is_lossless(buffer.getvalue()) == lossless
    for options in ({}, {"progressive": True}, {"comment": b"\xff\xda" * 9}):
        buffer = io.BytesIO()
        Image.fromarray(grey).save(buffer, "JPEG", **options)
        assert not is_lossless(buffer.getvalue()), JPEGBaseline8Bit.name
    for syntax in (JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless):
        assert is_lossless(encoded(tmp_path, grey.astype(np.uint16) * 16, syntax)), syntax.name
    assert not is_lossless(encoded(tmp_path, grey, JPEGLSNearLossless, jls_error=2))
