"""What a file is by its first bytes: against the libraries that write and read the formats."""

from __future__ import annotations

import gzip
import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.samples import chest_phantom
from runtime.errors import DecodeError
from runtime.files.formats import HEAD_BYTES, read_head, recognize
from runtime.image.decoders import read_array
from runtime.image.dicom_options import DicomOptions
from tests.conftest import ROOT

USUAL = DicomOptions()
FILM = chest_phantom(90, 70)


def name(content: bytes) -> str | None:
    found = recognize(content[:HEAD_BYTES])
    return found.name if found else None


def refusal(path: Path) -> str:
    with pytest.raises(DecodeError) as caught:
        read_array(path, USUAL)
    return str(caught.value)


@pytest.mark.parametrize(
    ("pillow", "expected", "is_image"),
    [
        ("PNG", "PNG", True),
        ("JPEG", "JPEG", True),
        ("GIF", "GIF", False),
        ("TIFF", "TIFF", False),
        ("BMP", "BMP", False),
        ("WEBP", "WebP", False),
        ("JPEG2000", "JPEG 2000 without DICOM", False),
        ("AVIF", "AVIF", False),
        ("PDF", "PDF", False),
    ],
)
def test_what_pillow_writes_is_recognized_whatever_its_name(
    tmp_path: Path, pillow: str, expected: str, is_image: bool
) -> None:
    Image.init()
    if pillow not in Image.SAVE:
        pytest.skip(f"this Pillow does not write {pillow}")
    stream = io.BytesIO()
    Image.fromarray(FILM).save(stream, pillow)
    assert name(stream.getvalue()) == expected
    for file in (
        tmp_path / "IM000001",
        tmp_path / "a.jpg",
        tmp_path / "b.dcm",
        tmp_path / "c.nii",
        tmp_path / "1.2.84",
    ):
        file.write_bytes(stream.getvalue())
        if is_image:
            assert np.abs(read_array(file, USUAL).astype(int) - FILM).max() <= (12 if pillow == "JPEG" else 0)
        else:
            assert f"is {expected}, which is not read here; supported are JPEG, PNG, DICOM" in refusal(file)


@pytest.mark.filterwarnings("ignore")
def test_pydicom_s_own_test_files() -> None:
    """What pydicom reads, with a header or without one, is DICOM by its first bytes, and nothing else is."""
    pydicom = pytest.importorskip("pydicom")
    from tests.runtime.dicoms import TEST_FILES

    headerless = 0
    for file in sorted(path for path in TEST_FILES.rglob("*") if path.is_file()):
        known = recognize(read_head(file))
        found = known.name.partition(",")[0] if known and known.reader else None
        with file.open("rb") as stream:
            marked = stream.read(132)[128:] == b"DICM"
        try:
            dataset = pydicom.dcmread(file, force=True, stop_before_pixels=True)
            kind = dataset.file_meta.get("MediaStorageSOPClassUID") or dataset.get("SOPClassUID")
        except Exception:  # broken on purpose, or no DICOM
            kind = None
        expected = "DICOMDIR" if kind == "1.2.840.10008.1.3.10" else "DICOM" if marked or kind else None
        assert found == expected, file.name
        headerless += found is not None and not marked
    assert headerless >= 3


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"])
def test_dicom_without_preamble_is_recognized_in_every_encoding(tmp_path: Path, syntax: str) -> None:
    pytest.importorskip("pydicom")
    from tests.runtime.dicoms import header, write

    film = FILM.astype(">u2" if syntax.endswith(".2.2") else "<u2")
    whole = write(tmp_path / "whole", header(film), film.tobytes(), syntax).read_bytes()
    dataset = 144 + int.from_bytes(whole[140:144], "little")
    for start in (132, dataset):
        (tmp_path / "I10").write_bytes(whole[start:])
        assert name(whole[start:]) == "DICOM"
        assert np.array_equal(read_array(tmp_path / "I10", USUAL), FILM)
    acr_nema = struct.pack("<HHIIHHII", 8, 0, 4, 200, 8, 1, 4, 9000)
    assert name(acr_nema) == "DICOM"
    for end in range(16):
        assert name(acr_nema[:end]) is None, "two elements are wanted"
    assert name(b"\x08\0\x05\0" + bytes(range(200))) is None, "an impossible length"
    assert name(b"\x08\0\x08\0CS\x04\0ABCD\x08\0\x05\0") is None, "elements out of order"


def test_nifti_is_recognized_and_read_whatever_its_name(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    values = (FILM.astype(np.int16) * 5 - 300).T[:, :, None]
    for kind, endian in ((nibabel.Nifti1Image, "<"), (nibabel.Nifti1Image, ">"), (nibabel.Nifti2Image, "<")):
        image = kind(values.astype(f"{endian}i2"), np.eye(4), kind.header_class(endianness=endian))
        plain = image.to_bytes()
        for content in (plain, gzip.compress(plain), gzip.compress(plain, 0)):
            assert name(content) == "NIfTI"
            for file in (tmp_path / "film", tmp_path / "film.nii", tmp_path / "film.nii.gz", tmp_path / "film.dcm"):
                file.write_bytes(content)
                assert np.array_equal(read_array(file, USUAL), values.T[0])
    pair = nibabel.Nifti1Pair(values, np.eye(4))
    nibabel.save(pair, tmp_path / "pair.img")
    assert "is NIfTI in two files (.hdr and .img), which is not read here" in refusal(tmp_path / "pair.hdr")
    (tmp_path / "text.nii").write_text("no volume")
    assert "cannot be decoded" in refusal(tmp_path / "text.nii")


def test_what_is_often_found_under_an_image_s_name_is_named(tmp_path: Path) -> None:
    for content, expected in (
        (b"<!DOCTYPE html><html>Not found", "is HTML or XML, which"),
        (b"\xef\xbb\xbf\n <?xml version='1.0'?>", "is HTML or XML, which"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:", "is a Git LFS pointer, not the file itself"),
        (b"PK\x03\x04....", "is ZIP, which"),
        (b"\0\x05\x16\x07\0\x02\0\0", "is AppleDouble"),
        (b"\x93NUMPY\1\0", "is a NumPy array, which"),
        (gzip.compress(b"x" * 2000, mtime=0), "is compressed with gzip"),
    ):
        for suffix in ("", ".jpg", ".png", ".dcm", ".nii"):
            (tmp_path / f"a{suffix}").write_bytes(content)
            assert expected in refusal(tmp_path / f"a{suffix}")
    for suffix in ("", ".png", ".jpg"):
        (tmp_path / f"b{suffix}").touch()
        assert refusal(tmp_path / f"b{suffix}") == "is empty (0 bytes)"
        for beginning in (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"):
            (tmp_path / f"b{suffix}").write_bytes(beginning)
            assert "is broken or cut off" in refusal(tmp_path / f"b{suffix}") or "cannot be decoded" in refusal(
                tmp_path / f"b{suffix}"
            )


def test_texts_and_programs_are_no_images() -> None:
    """A format that is recognized too easily would turn notes into broken images."""
    files = [file for folder in ("runtime", "tests", "docs") for file in (ROOT / folder).rglob("*") if file.is_file()]
    found = {file.suffix for file in files if (known := recognize(read_head(file))) and known.image}
    assert len(files) > 200
    assert found <= {".png"}
    random = np.random.default_rng(0)
    noise = [recognize(random.bytes(HEAD_BYTES)) for _ in range(20_000)]
    assert not [known for known in noise if known and known.reader]
    assert recognize(b"") is None
    assert recognize(bytes(HEAD_BYTES)) is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="FIFOs are POSIX's")
def test_a_fifo_or_a_device_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "film.png")
    for path in (tmp_path / "film.png", Path(os.devnull)):
        assert "cannot be read (It is a FIFO, a socket or a device; a file is expected)" in refusal(path)
    assert "cannot be read (Is a directory)" in refusal(tmp_path)
