"""Headers of compressed streams, against the libraries that wrote them, and DICOM headers that do not agree."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.samples import chest_phantom
from runtime.image.codestream import FrameHeader, read_frame_header
from runtime.image.decoders import DecodeError, read_array
from runtime.image.dicom_options import DicomOptions

pydicom = pytest.importorskip("pydicom")

from pydicom.encaps import get_frame  # noqa: E402
from pydicom.uid import (  # noqa: E402
    JPEG2000Lossless,
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
)

from tests.runtime.dicoms import TEST_FILES, header, write_compressed, write_dicom  # noqa: E402

FILM = chest_phantom(90, 70)


def packed(image: Image.Image, format_: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_streams_that_pillow_wrote(mode: str) -> None:
    image = Image.fromarray(FILM).convert(mode)
    samples = len(image.getbands())
    for options in ({}, {"progressive": True}, {"comment": b"\xff\xc0" * 9}):
        assert read_frame_header(packed(image, "JPEG", **options)) == FrameHeader("JPEG", 90, 70, samples, 8)
    for options in ({"no_jp2": True}, {"no_jp2": False}, {"no_jp2": True, "tile_size": (32, 17)}):
        assert read_frame_header(packed(image, "JPEG2000", **options)) == FrameHeader("JPEG 2000", 90, 70, samples, 8)


@pytest.mark.filterwarnings("ignore:Expected explicit VR")
def test_streams_of_pydicom_s_test_files_agree_with_their_headers() -> None:
    families = (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, *JPEG2000TransferSyntaxes)
    seen = set()
    for file in sorted(TEST_FILES.glob("*.dcm")):
        dataset = pydicom.dcmread(file, force=True)
        syntax = dataset.file_meta.get("TransferSyntaxUID")
        if syntax not in families or "PixelData" not in dataset:
            continue
        frames = int(dataset.get("NumberOfFrames", 1))
        found = read_frame_header(get_frame(dataset.PixelData, 0, number_of_frames=frames))
        if file.stem == "JPEG2000-embedded-sequence-delimiter":
            assert found is None, "it is cut off before its first tile"
            continue
        assert found is not None, file.name
        assert (found.rows, found.columns, found.samples) == (dataset.Rows, dataset.Columns, dataset.SamplesPerPixel)
        assert dataset.BitsStored <= found.bits <= dataset.BitsAllocated, file.name
        seen.add(syntax)
    assert len(seen) >= 7


@pytest.mark.parametrize("format_", ["JPEG", "JPEG2000"])
def test_a_stream_that_is_cut_or_broken_before_its_data_has_no_header(format_: str) -> None:
    options = {"no_jp2": True} if format_ == "JPEG2000" else {}
    stream = packed(Image.fromarray(FILM), format_, **options)
    scan = stream.index(b"\xff\xda") if format_ == "JPEG" else 4 + 41
    assert all(read_frame_header(stream[:end]) is None for end in range(scan))
    assert read_frame_header(stream[: scan + 4]) is not None
    if format_ == "JPEG":
        for marker in (b"\xff\xdb", b"\xff\xc4"):  # GDCM would not survive it
            assert read_frame_header(stream.replace(marker, b"\xff\x00", 1)) is None
            assert read_frame_header(stream.replace(marker, b"\x00\x00", 1)) is None
    else:
        for at, content in ((24, bytes(4)), (28, bytes(4)), (40, bytes(2)), (42, b"\x2f"), (43, b"\2"), (8, bytes(4))):
            assert read_frame_header(stream[:at] + content + stream[at + len(content) :]) is None, at
        huge = read_frame_header(stream[:8] + (1 << 20).to_bytes(4, "big") + stream[12:])
        assert huge is None or huge.columns == 1 << 20, "to be compared with the DICOM header"


@pytest.mark.parametrize(
    ("elements", "said"),
    [
        ({"Rows": 91}, "70 × 91 pixels of 1 × 8 bits in 8"),
        ({"Columns": 5000}, "5000 × 90 pixels of 1 × 8 bits in 8"),
        ({"SamplesPerPixel": 3, "PlanarConfiguration": 0}, "70 × 90 pixels of 3 × 8 bits in 8"),
        ({"PhotometricInterpretation": "YBR_FULL"}, "with 3 by their colour space"),
    ],
)
def test_a_header_that_does_not_agree_with_the_stream_is_refused_before_a_decoder_sees_it(
    tmp_path: Path, elements: dict, said: str
) -> None:
    """GDCM 3.2 ends the process on such files: if this check goes, so does the test run."""
    jpeg_ls = pydicom.dcmread(write_dicom(tmp_path / "a.dcm", FILM))
    jpeg_ls.compress(JPEGLSLossless)
    streams = {
        JPEGBaseline8Bit: packed(Image.fromarray(FILM), "JPEG"),
        JPEG2000Lossless: packed(Image.fromarray(FILM), "JPEG2000", no_jp2=True),
        JPEGLSLossless: get_frame(jpeg_ls.PixelData, 0, number_of_frames=1),
    }
    for syntax, stream in streams.items():
        good = write_compressed(tmp_path / "good.dcm", header(FILM), [stream], syntax)
        assert np.abs(read_array(good, DicomOptions()).astype(int) - FILM).max() <= 12
        bad = write_compressed(tmp_path / "bad.dcm", header(FILM, **elements), [stream], syntax)
        with pytest.raises(DecodeError) as caught:
            read_array(bad, DicomOptions())
        assert said in str(caught.value)
        assert "stream says 70 × 90 pixels of 1 × 8 bits" in str(caught.value)


def test_a_container_of_32_bits_for_a_jpeg_of_16_is_refused(tmp_path: Path) -> None:
    film = FILM.astype(np.uint16) * 16
    packed_ = pydicom.dcmread(write_dicom(tmp_path / "a.dcm", film))
    packed_.compress(JPEGLSLossless)
    image = header(film, BitsAllocated=32, BitsStored=16)
    stream = get_frame(packed_.PixelData, 0, number_of_frames=1)
    with pytest.raises(DecodeError, match="of 1 × 16 bits in 32"):
        read_array(write_compressed(tmp_path / "b.dcm", image, [stream], JPEGLSLossless), DicomOptions())


@pytest.mark.parametrize(("kind", "at"), [(b"JFIF\0", 5), (b"Adobe", 11)])
def test_a_writer_that_libjpeg_would_warn_of(kind: bytes, at: int, tmp_path: Path) -> None:
    """GDCM makes an exception of the warning, which ends the process; fuzzing found it."""
    rgb = Image.fromarray(FILM).convert("RGB")
    options = {} if kind == b"JFIF\0" else {"keep_rgb": True}
    stream = bytearray(packed(rgb, "JPEG", **options))
    assert read_frame_header(bytes(stream)) is not None
    stream[stream.index(kind) + at] = 9
    assert read_frame_header(bytes(stream)) is None
    image = header(np.asarray(rgb), "RGB")
    file = write_compressed(tmp_path / "a.dcm", image, [bytes(stream)], JPEGBaseline8Bit)
    with pytest.raises(DecodeError, match="cannot be decoded"):
        read_array(file, DicomOptions())
