"""Files from strangers: what they claim is checked before anything is allocated or inflated."""

from __future__ import annotations

import gzip
import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from runtime.errors import DecodeError
from runtime.image.bounds import Bounds
from runtime.image.dicom_options import DicomOptions
from runtime.image.images import load_pixels, read_picture
from tests.runtime.dicoms import header, write, write_compressed, write_dicom
from tests.runtime.parts import grey_rule

RULE = grey_rule(64, 48)
BOUNDS = Bounds(20_000)
FROM_STRANGERS = Bounds(20_000, ("PNG", "JPEG", "DICOM"))


def png(width: int, height: int, body: bytes = b"", kind: int = 0) -> bytes:
    """A PNG file with any header and any, also no, compressed pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def zeros(count: int) -> bytes:
    """So many zeros as a zlib stream, which is a thousandth of them."""
    packing = zlib.compressobj(9)
    megabyte = bytes(1 << 20)
    return b"".join(packing.compress(megabyte) for _ in range(count >> 20)) + packing.flush()


def reason(content: bytes, bounds: Bounds | None = BOUNDS, dicom: DicomOptions | None = None) -> str:
    """Why a file is refused, having taken less than 8 MB beyond the bounds."""
    tracemalloc.start()
    try:
        loaded, faults = load_pixels([content], RULE, dicom or DicomOptions(), bounds=bounds)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert not loaded
    most = bounds.most_bytes if bounds else 0
    assert peak < 2 * most + 2 * len(content) + (8 << 20), f"{peak:,} bytes were taken"
    (fault,) = faults
    return fault.reason


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 4096, (height, width)).astype(np.uint16)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("side", [60_000, 10_000])  # beyond Pillow's own bound, and where it would say nothing
def test_a_png_of_too_many_pixels_is_refused_by_its_header(side: int) -> None:
    assert "20,000" in reason(png(side, side, zeros(64 << 20)))
    assert "accepted" in reason(png(side, side))
    assert "20,000" in reason(png(side, side, zeros(1 << 20)), Bounds(20_000, ("PNG",)))


def test_a_jpeg_of_too_many_pixels_is_refused_by_its_header() -> None:
    small = encoded(Image.fromarray(noise(60, 60).astype(np.uint8)), "JPEG")
    at = small.index(b"\xff\xc0") + 5
    forged = small[:at] + struct.pack(">HH", 60_000, 60_000) + small[at + 4 :]
    assert reason(forged) == "has more than 20,000 pixels by its header, the most that are accepted"
    assert "200 × 101" in reason(small[:at] + struct.pack(">HH", 101, 200) + small[at + 4 :])


def test_as_many_pixels_as_are_accepted_are_decoded() -> None:
    for kind in ("PNG", "JPEG"):
        image = encoded(Image.fromarray((noise(100, 200) >> 4).astype(np.uint8)), kind)
        loaded, faults = load_pixels([image], RULE, bounds=BOUNDS)
        assert not faults
        assert np.array_equal(loaded[0].pixels, load_pixels([image], RULE)[0][0].pixels)
        assert read_picture(image, "grey", bounds=BOUNDS).size == (200, 100)
        assert "pixels" in reason(image, Bounds(19_999))
        with pytest.raises(DecodeError, match="at most 19,999 pixels"):
            read_picture(image, "grey", bounds=Bounds(19_999))


def test_without_bounds_nothing_changes() -> None:
    image = encoded(Image.fromarray((noise(300, 400) >> 4).astype(np.uint8)), "PNG")
    assert load_pixels([image], RULE)[0][0].size == (400, 300)
    # What Pillow says is told to those who give files of their own.
    assert "truncated" in reason(image[:-5000], None)


def test_the_first_frame_of_an_animated_png_is_decoded() -> None:
    first, second = (Image.fromarray((noise(90, 80) >> shift).astype(np.uint8)) for shift in (4, 6))
    animated = encoded(first, "PNG", save_all=True, append_images=[second] * 3)
    (loaded,), _ = load_pixels([animated], RULE, bounds=BOUNDS)
    (expected,), _ = load_pixels([first], RULE)
    assert np.array_equal(loaded.pixels, expected.pixels)
    (other,), _ = load_pixels([second], RULE)
    assert not np.array_equal(loaded.pixels, other.pixels)


def test_formats_that_are_not_accepted(tmp_path: Path) -> None:
    nifti = (348).to_bytes(4, "little") + bytes(340) + b"n+1\0" + bytes(100)
    expected = "is NIfTI, which is not accepted here; accepted are PNG, JPEG and DICOM"
    assert reason(nifti, FROM_STRANGERS) == expected
    assert reason(gzip.compress(nifti), FROM_STRANGERS) == expected
    film = write_dicom(tmp_path / "film.dcm", noise(90, 70)).read_bytes()
    assert load_pixels([film], RULE, bounds=FROM_STRANGERS)[0]
    assert "is DICOM, which is not accepted here" in reason(film, Bounds(20_000, ("PNG", "JPEG")))
    image = encoded(Image.fromarray(noise(60, 60).astype(np.uint8)), "JPEG")
    assert "is JPEG, which is not accepted here; accepted are PNG" in reason(image, Bounds(20_000, ("PNG",)))
    assert "supported are PNG, JPEG and DICOM" in reason(b"GIF89a" + bytes(50), FROM_STRANGERS)
    assert reason(b"anything", FROM_STRANGERS) == ("not an image of a known format; supported are PNG, JPEG and DICOM")


@pytest.mark.parametrize(
    "forged",
    [
        {"Rows": 60_000, "Columns": 60_000},
        {"Rows": 201},
        {"NumberOfFrames": 5},
        {"NumberOfFrames": 2_000_000_000},
        {"SamplesPerPixel": 60_000},
    ],
)
def test_a_dicom_file_of_too_many_pixels_is_refused_by_its_header(tmp_path: Path, forged: dict[str, int]) -> None:
    image = header(noise(50, 100))
    for name, value in forged.items():
        setattr(image, name, value)
    film = write(tmp_path / "film.dcm", image, noise(50, 100).tobytes(), ExplicitVRLittleEndian).read_bytes()
    said = reason(film, dicom=DicomOptions(frame=1))
    assert ("20,000 pixels are accepted" in said) or ("bytes are accepted" in said) == ("SamplesPerPixel" in forged)
    # The header is at fault, not the film.
    good = write_dicom(tmp_path / "good.dcm", noise(50, 100)).read_bytes()
    assert load_pixels([good], RULE, DicomOptions(frame=1), bounds=BOUNDS)[0]


def test_a_deflated_dicom_file_inflates_within_bounds(tmp_path: Path) -> None:
    film = write(
        tmp_path / "film.dcm", header(noise(90, 70)), noise(90, 70).tobytes(), DeflatedExplicitVRLittleEndian
    ).read_bytes()
    (loaded,), _ = load_pixels([film], RULE, bounds=BOUNDS)
    assert np.array_equal(loaded.pixels, load_pixels([film], RULE)[0][0].pixels)
    long = header(noise(90, 70))
    long.PixelData = b""
    bomb = write(tmp_path / "bomb.dcm", long, bytes(200 << 20), DeflatedExplicitVRLittleEndian).read_bytes()
    assert len(bomb) < 1 << 20
    expected = f"inflates to more than {BOUNDS.most_bytes:,} bytes, the most that is accepted"
    assert reason(bomb) == expected
    assert reason(bomb[132:]) == expected  # without its preamble, which pydicom inflates as well
    with pytest.raises(AssertionError, match="bytes were taken"):
        reason(bomb, None)


def test_a_jpeg_2000_stream_of_too_many_pixels_is_refused(tmp_path: Path) -> None:
    grey = Image.fromarray((noise(100, 100) >> 4).astype(np.uint8))
    codestream = bytearray(encoded(grey, "JPEG2000", no_jp2=True))
    good = write_compressed(
        tmp_path / "good.dcm", header(np.asarray(grey)), [bytes(codestream)], JPEG2000Lossless
    ).read_bytes()
    assert load_pixels([good], RULE, bounds=BOUNDS)[0]
    image = header(np.asarray(grey))
    for side, said in ((20_000, "its JPEG 2000 stream says 20000 × 20000 pixels"), (2**32 - 1, "are broken")):
        struct.pack_into(">II", codestream, 8, side, side)
        film = write_compressed(tmp_path / "film.dcm", image, [bytes(codestream)], JPEG2000Lossless).read_bytes()
        assert said in reason(film)
    image.Rows = image.Columns = 60_000
    film = write_compressed(tmp_path / "film.dcm", image, [bytes(codestream)], JPEG2000Lossless).read_bytes()
    assert "60,000 × 60,000 pixels by its header" in reason(film)


def test_runs_of_rle_expand_within_bounds(tmp_path: Path) -> None:
    def film(segment: bytes) -> bytes:
        frame = struct.pack("<16L", 1, 64, *[0] * 14) + segment
        image = header(np.zeros((100, 100), np.uint8))
        return write_compressed(tmp_path / "film.dcm", image, [frame], RLELossless).read_bytes()

    assert "expands to more than" in reason(film(b"\x81\0" * 400_000))
    literal = b"".join(b"\x63" + bytes(row) for row in np.arange(10_000, dtype=np.uint32).reshape(100, 100) % 251)
    (loaded,), faults = load_pixels([film(literal)], RULE, bounds=BOUNDS)
    assert not faults
    assert loaded.size == (100, 100)


def test_a_nifti_file_inflates_within_bounds() -> None:
    nibabel = pytest.importorskip("nibabel")
    values = noise(100, 100)[:, :, None]
    volume = nibabel.Nifti1Image(values.astype(np.int16), np.eye(4)).to_bytes()
    for content in (volume, gzip.compress(volume)):
        (loaded,), faults = load_pixels([content], RULE, bounds=BOUNDS)
        assert not faults
        assert np.array_equal(loaded.pixels, load_pixels([content], RULE)[0][0].pixels)
        assert "9,999 pixels are accepted" in reason(content, Bounds(9_999))
    forged = bytearray(volume)
    struct.pack_into("<3h", forged, 42, 30_000, 30_000, 1)
    assert "30,000 × 30,000 pixels by its header" in reason(bytes(forged))
    # An extension, which comes before the pixels, of 200 MB.
    extended = bytearray(volume[:352])
    struct.pack_into("<f", extended, 108, 352 + (200 << 20))
    extended[348] = 1
    bomb = gzip.compress(bytes(extended) + struct.pack("<ii", 200 << 20, 4) + bytes(200 << 20) + volume[352:])
    assert len(bomb) < 1 << 20
    assert "or inflates to, more than" in reason(bomb)


def test_reasons_quote_nothing_that_is_in_a_file(tmp_path: Path) -> None:
    mark = b"ZQXZ"
    image = encoded(Image.fromarray((noise(60, 60) >> 4).astype(np.uint8)), "PNG")
    at = image.index(b"IDAT")
    broken = image[:at] + mark + image[at + 4 :]
    cut = encoded(Image.fromarray((noise(60, 60) >> 4).astype(np.uint8)), "JPEG")[:1500]
    film = write_dicom(tmp_path / "film.dcm", noise(90, 70), PhotometricInterpretation="ZQXZ").read_bytes()
    for content in (broken, image[:-1000], cut, film, mark * 500, b"\x89PNG\r\n\x1a\n" + mark * 50):
        said = reason(content)
        assert "ZQX" not in said
        assert "0x" not in said
        assert "BytesIO" not in said
    # Without bounds, decoders' own words are told.
    assert "image file is truncated" in reason(image[:-1000], None)


def test_pillow_images_and_paths_are_bounded_as_well(tmp_path: Path) -> None:
    image = Image.fromarray((noise(101, 200) >> 4).astype(np.uint8))
    path = tmp_path / "film.png"
    image.save(path)
    for given in (image, path, str(path), path.open("rb"), Image.open(path)):
        loaded, faults = load_pixels([given], RULE, bounds=BOUNDS)
        assert not loaded
        assert "20,000 pixels are accepted" in faults[0].reason
        assert load_pixels([given], RULE, bounds=Bounds(20_200))[0]
    nifti = tmp_path / "scan.nii"
    nifti.write_bytes(b"nothing that is known")
    assert "is NIfTI, which is not accepted" in load_pixels([nifti], RULE, bounds=FROM_STRANGERS)[1][0].reason
