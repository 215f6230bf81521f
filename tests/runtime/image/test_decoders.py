"""DICOM and NIfTI, as the reference reads them and where it does not."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.samples import chest_phantom
from runtime.errors import MissingExtraError
from runtime.image.decoders import read_array
from runtime.image.dicom_options import DicomOptions
from runtime.image.images import load_pixels
from tests.runtime.parts import grey_rule

pydicom = pytest.importorskip("pydicom")

from tests.runtime.dicoms import header, write_compressed, write_dicom  # noqa: E402

USUAL = DicomOptions()


def test_stored_values_are_those_of_the_reference(tmp_path: Path, film: np.ndarray) -> None:
    file = write_dicom(tmp_path / "a.dcm", film)
    assert np.array_equal(read_array(file, USUAL), film)
    assert np.array_equal(read_array(file.rename(tmp_path / "no_suffix"), USUAL), film), "known by its content"


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_monochrome1_is_inverted_by_default(tmp_path: Path, film: np.ndarray, dtype: type) -> None:
    stored = (4095 - film).astype(dtype)
    upright = write_dicom(tmp_path / "upright.dcm", film)
    inverted = write_dicom(tmp_path / "inverted.dcm", stored, "MONOCHROME1", 12 if dtype == np.uint16 else 16)
    expected = load_pixels([upright], grey_rule(64, 48))[0][0].pixels
    assert np.array_equal(load_pixels([inverted], grey_rule(64, 48))[0][0].pixels, expected)
    kept = load_pixels([inverted], grey_rule(64, 48), DicomOptions(invert_monochrome1=False))[0][0].pixels
    assert not np.array_equal(kept, expected)


def test_the_shared_monochrome1_film_equals_its_upright_png(shared_data: Path) -> None:
    """The 16-bit PNG was inverted by someone else; the reference reads it, so it says what the DICOM should give."""
    from tests.runtime.image.test_images import reference_pixels

    expected = reference_pixels(shared_data / "images" / "cr_mono1_as_16bit.png")
    for name in ("cr_mono1_10bit_explicitLE.dcm", "cr_mono1_10bit_implicit_nometa.dcm"):
        loaded, faults = load_pixels([shared_data / "images" / name], grey_rule(512, 480))
        assert not faults
        assert np.array_equal(loaded[0].pixels, expected), name


def test_the_dicom_extra_alone_decodes_every_transfer_syntax(shared_data: Path) -> None:
    """The other decoders in the test environment are there to encode; users of the extra have GDCM."""
    from pydicom.pixels import get_decoder
    from pydicom.uid import JPEG2000, JPEG2000Lossless, JPEGBaseline8Bit, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless

    for uid in (JPEGBaseline8Bit, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000, JPEG2000Lossless):
        assert "gdcm" in get_decoder(uid).available_plugins, uid.name
    for name in ("nema_RG2_JPLL_hip_jpeglossless.dcm", "nema_RG1_J2KI_mono1_15bit.dcm"):
        dataset = pydicom.dcmread(shared_data / "images" / name)
        dataset.pixel_array_options(decoding_plugin="gdcm")
        stored = read_array(shared_data / "images" / name, DicomOptions(invert_monochrome1=False))
        assert np.array_equal(dataset.pixel_array, stored), name


def test_jpeg_baseline(tmp_path: Path) -> None:
    import io

    from pydicom.uid import JPEGBaseline8Bit

    grey = chest_phantom(90, 70)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "JPEG", quality=95)
    file = write_compressed(tmp_path / "a.dcm", header(grey), [buffer.getvalue()], JPEGBaseline8Bit)
    assert np.abs(read_array(file, USUAL).astype(int) - np.asarray(Image.open(buffer))).max() <= 1


def test_jpeg_lossless_and_jpeg_2000_of_the_shared_films(shared_data: Path) -> None:
    for name, shape in (("nema_RG2_JPLL_hip_jpeglossless.dcm", None), ("nema_RG1_J2KI_mono1_15bit.dcm", (1955, 1841))):
        array = read_array(shared_data / "images" / name, USUAL)
        assert array.ndim == 2
        assert shape is None or array.shape == shape
        assert np.ptp(array) > 500


def test_looking_at_a_file_tells_what_it_is_without_decoding(tmp_path: Path, film: np.ndarray) -> None:
    from runtime.image.images import look_at

    good = [write_dicom(tmp_path / "a", film), tmp_path / "a.png", tmp_path / "cut.jpg"]
    Image.fromarray(chest_phantom(90, 70)).save(good[1])
    Image.fromarray(chest_phantom(90, 70)).save(good[2])
    good[2].write_bytes(good[2].read_bytes()[:700])  # only decoding tells
    text = tmp_path / "b.jpg"
    text.write_text("a text")
    faults = look_at([*good, text, film, tmp_path / "absent.png", tmp_path])
    assert [fault.index for fault in faults] == [3, 5, 6]
    assert "not an image of a known format" in faults[0].reason
    assert "there is no such file" in faults[1].reason


def test_nifti_has_the_reference_s_orientation(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    from tests.runtime.image.test_images import reference_pixels

    array = chest_phantom(300, 420).astype(np.int16) * 5 - 300
    file = tmp_path / "film.nii.gz"
    nibabel.save(nibabel.Nifti1Image(array.T[:, :, None], np.eye(4)), file)
    assert np.array_equal(read_array(file, USUAL), array)
    loaded, _ = load_pixels([file], grey_rule(512, 480))
    assert np.array_equal(loaded[0].pixels, reference_pixels(file))


@pytest.mark.parametrize(
    ("package", "extra", "name"), [("pydicom", "dicom", "a.dcm"), ("nibabel", "nifti", "a.nii.gz")]
)
def test_a_missing_extra_is_named(
    package: str, extra: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, film: np.ndarray
) -> None:
    file = write_dicom(tmp_path / name, film) if extra == "dicom" else tmp_path / name
    file.touch()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"{package}.*pip install 'cxr-engine\[{extra}\]'"):
        load_pixels([file], grey_rule(64, 48))
