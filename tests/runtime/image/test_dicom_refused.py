"""DICOM files that cannot be used are refused with the reason, in words of the standard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtime.image.decoders import read_array
from runtime.image.dicom_options import DicomOptions

pydicom = pytest.importorskip("pydicom")

from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLosslessSV1, JPEGLSLossless, RLELossless  # noqa: E402

from tests.runtime.dicoms import TEST_FILES, header, refusal, write, write_compressed, write_dicom  # noqa: E402

USUAL = DicomOptions()


@pytest.mark.filterwarnings("ignore")
def test_what_is_no_single_image_in_pydicom_s_test_files_is_refused_with_a_reason() -> None:
    expected = {
        "test-SR.dcm": "holds no image: it is of the kind 'Comprehensive SR Storage'",
        "rtplan.dcm": "holds no image: it is of the kind 'RT Plan Storage'",
        "waveform_ecg.dcm": "holds no image: it is of the kind '12-lead ECG Waveform Storage'",
        "dicomdirtests/DICOMDIR": "it is a DICOMDIR, the list of the files on a medium; give those files",
        "MR_truncated.dcm": "is cut off: PixelData has 8,130 bytes, 64 × 64 pixels of 1 × 16 bits need 8,192",
        "badVR.dcm": "has a broken header: NumberOfFrames is no number",
        "examples_ybr_color.dcm": "holds 30 frames; one image is expected. Choose one, 1 to 30, with dicom_frame=N",
        "JPEG2000-embedded-sequence-delimiter.dcm": "('JPEG 2000 Image Compression') are broken or cut off",
        "nested_priv_SQ.dcm": "has a broken header: it lacks Rows, Columns",
    }
    for name, reason in expected.items():
        assert reason in refusal(TEST_FILES / name), name


def test_what_is_no_dicom_at_all_is_refused(tmp_path: Path, film: np.ndarray) -> None:
    for name, content in (
        ("a", b"nothing of the kind " * 20),
        ("b", b""),
        ("c", bytes(range(256)) * 9),
        ("d", b"\0" * 500),
    ):
        (tmp_path / f"{name}.dcm").write_bytes(content)
        assert "is not a DICOM file: it has no DICOM header" in refusal(tmp_path / f"{name}.dcm")
    packed = header(film, bits=12)
    whole = write_compressed(tmp_path / "e.dcm", packed, [b"\0" * 400], JPEG2000Lossless).read_bytes()
    (tmp_path / "e.dcm").write_bytes(whole[144 + int.from_bytes(whole[140:144], "little") :])
    assert "nothing says how its pixel data are compressed" in refusal(tmp_path / "e.dcm")


def test_cut_files_are_refused_wherever_they_end(tmp_path: Path, film: np.ndarray) -> None:
    plain, packed, cut = (tmp_path / f"{name}.dcm" for name in ("plain", "packed", "cut"))
    image = pydicom.dcmread(write_dicom(plain, film, bits=12))
    image.compress(RLELossless)
    image.save_as(packed)
    for file, last in (
        (plain, "is cut off: PixelData has"),
        (packed, "has no PixelData; it is cut off, or was never more"),
    ):
        whole = file.read_bytes()
        for end in (*range(132, len(whole) - 1, 61), len(whole) - 8):
            cut.write_bytes(whole[:end])
            reason = refusal(cut)
            assert "cut off" in reason or "no pixel data" in reason or "PixelData is empty" in reason, (end, reason)
        assert last in reason


def test_gzip_is_named(tmp_path: Path, film: np.ndarray) -> None:
    import gzip

    for name in ("film.dcm.gz", "film.dcm"):
        (tmp_path / name).write_bytes(gzip.compress(write_dicom(tmp_path / "a.dcm", film).read_bytes()))
        assert "is compressed with gzip" in refusal(tmp_path / name)


def test_broken_files_are_refused_with_what_is_wrong(tmp_path: Path, film: np.ndarray) -> None:
    def broken(
        pixels: bytes | None = None, syntax: str | None = None, without: tuple[str, ...] = (), **elements
    ) -> str:
        image = header(film, bits=12, **elements)
        for name in without:
            delattr(image, name)
        content = film.tobytes() if pixels is None else pixels
        return refusal(write(tmp_path / "a.dcm", image, content, syntax or "1.2.840.10008.1.2.1"))

    assert "lacks Rows, BitsStored" in broken(without=("Rows", "BitsStored"))
    assert "70 × 0 pixels" in broken(Rows=0)
    assert "SamplesPerPixel is 2" in broken(SamplesPerPixel=2)
    assert "BitsAllocated is 13" in broken(BitsAllocated=13)
    assert "BitsStored 40" in broken(BitsStored=40)
    assert "PixelData is empty" in broken(b"")
    assert "is cut off: PixelData has 600 bytes, 70 × 90 pixels of 1 × 16 bits need 12,600" in broken(b"\1\2" * 300)
    assert "does not fit" in broken(PhotometricInterpretation="INVENTED")
    assert "colour space YBR_PARTIAL_420" in broken(PhotometricInterpretation="YBR_PARTIAL_420")
    for syntax, name in (
        ("1.2.840.10008.1.2.4.100", "'MPEG2 Main Profile / Main Level', for which there is no decoder"),
        ("1.2.826.0.1.3680043.9.77", "a private or unknown transfer syntax"),
    ):
        image = header(film, bits=12)
        assert name in refusal(write_compressed(tmp_path / "b.dcm", image, [b"\0" * 64], syntax))
    for frames in ([b""], [b"", b""], [b"\xff\xd8\xff\xd9"], [bytes(200)]):
        for syntax in (JPEGBaseline8Bit, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, RLELossless):
            reason = refusal(write_compressed(tmp_path / "c.dcm", header(film, bits=12), frames, syntax))
            assert "are broken or cut off" in reason, syntax.name


def test_a_missing_decoder_is_named(tmp_path: Path, film: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    from pydicom.pixels.decoders.base import Decoder

    from runtime.errors import MissingExtraError

    monkeypatch.setattr(Decoder, "_validate_plugins", lambda *_: (_ for _ in ()).throw(RuntimeError("none")))
    monkeypatch.setattr(Decoder, "is_available", property(lambda _: False))
    file = write_compressed(tmp_path / "a.dcm", header(film), [b"\0" * 64], JPEGLSLossless)
    with pytest.raises(MissingExtraError, match=r"JPEG-LS.*python-gdcm.*pip install 'cxr-engine\[dicom\]'"):
        read_array(file, USUAL)
    file = write_compressed(file, header(film), [b"\0" * 64], "1.2.840.10008.1.2.4.201")
    assert "High-Throughput JPEG 2000" in refusal(file)
    assert "pip install pylibjpeg pylibjpeg-openjpeg" in refusal(file)
