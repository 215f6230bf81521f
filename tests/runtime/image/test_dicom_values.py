"""Rescale, windows, LUTs, pixel padding and polarity, against pydicom's functions and small cases written out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtime.errors import InputError
from runtime.image.decoders import DecodeError, read_array
from runtime.image.dicom_options import DicomOptions
from runtime.image.images import load_pixels, read_grey
from tests.runtime.parts import grey_rule

pydicom = pytest.importorskip("pydicom")

from pydicom.dataset import Dataset  # noqa: E402
from pydicom.pixels import apply_modality_lut, apply_rescale, apply_voi, apply_voi_lut  # noqa: E402

from tests.runtime.dicoms import header, write, write_dicom  # noqa: E402
from tests.runtime.image.test_images import REFERENCE, same  # noqa: E402

USUAL, WINDOWED = DicomOptions(), DicomOptions(voi_lut=True)
SMALL = np.array([[0, 10, 20], [30, 40, 4000]], dtype=np.uint16)


def lut(entries: np.ndarray, first: int, bits: int) -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(entries) % 65536, first, bits]
    item.LUTData = entries.astype("<u2").tobytes()
    item["LUTDescriptor"].VR, item["LUTData"].VR = "SS" if first < 0 else "US", "OW"
    return item


def grey(path: Path, options: DicomOptions = USUAL) -> np.ndarray:
    return np.asarray(read_grey(path, options))


def noticed(path: Path, options: DicomOptions = USUAL) -> list[str]:
    found: list[str] = []
    loaded, faults = load_pixels(
        [path], grey_rule(64, 48), options, on_notice=lambda _, all_: found.extend(n.kind for n in all_)
    )
    assert loaded, faults
    return found


def reference_remap(values: np.ndarray) -> np.ndarray:
    from health_multimodal.image.data.io import remap_to_uint8

    return remap_to_uint8(values)


def test_by_default_a_linear_rescale_and_a_window_change_nothing(tmp_path: Path, film: np.ndarray) -> None:
    elements = {"RescaleSlope": "2.5", "RescaleIntercept": "-1000", "WindowCenter": "100", "WindowWidth": "50"}
    file = write_dicom(tmp_path / "a.dcm", film, bits=12, **elements)
    assert np.array_equal(read_array(file, USUAL), film)
    assert same(grey(file), reference_remap(apply_rescale(film, pydicom.dcmread(file)))), "a positive slope"
    assert noticed(file) == []


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_negative_slope_exchanges_black_and_white(tmp_path: Path, film: np.ndarray, photometric: str) -> None:
    file = write_dicom(tmp_path / "a.dcm", film, photometric, 12, RescaleSlope="-1", RescaleIntercept="4095")
    shown = apply_rescale(film, pydicom.dcmread(file))
    upright = -shown if photometric == "MONOCHROME1" else shown
    assert same(grey(file), reference_remap(upright))
    assert noticed(file) == ["a descending rescale"]
    assert same(grey(file, REFERENCE), reference_remap(film)), "the reference looks at neither"
    assert same(grey(file, WINDOWED), reference_remap(upright)), "no window: the rescale alone"


def test_a_descending_modality_lut_exchanges_black_and_white(tmp_path: Path, film: np.ndarray) -> None:
    down = np.linspace(60000, 100, 4096) ** 2 // 60000
    for entries, upright in ((down, film.max() - film), (down[::-1], film)):
        image = header(film, bits=12, ModalityLUTSequence=[lut(entries, 0, 16)])
        file = write(tmp_path / "a.dcm", image, film.tobytes())
        assert same(grey(file), reference_remap(upright)), "its direction only"
        assert same(grey(file, WINDOWED), reference_remap(apply_modality_lut(film, pydicom.dcmread(file))))


@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.uint32])
def test_windows_are_those_of_pydicom(tmp_path: Path, film: np.ndarray, function: str | None, dtype: type) -> None:
    elements = {"WindowCenter": ["900.5", "3"], "WindowWidth": ["1200", "4"], "RescaleSlope": "1.5"}
    elements |= {"RescaleIntercept": "-100", **({"VOILUTFunction": function} if function else {})}
    for photometric, sign in (("MONOCHROME2", 1), ("MONOCHROME1", -1)):
        file = write_dicom(tmp_path / "a.dcm", film.astype(dtype), photometric, **elements)
        dataset = pydicom.dcmread(file)
        expected = sign * apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset)
        assert same(grey(file, WINDOWED), reference_remap(expected))
        assert not same(grey(file), grey(file, WINDOWED)), "it is not the default"


def test_windows_written_out(tmp_path: Path) -> None:
    """PS3.3 C.11.2.1.2.1: x <= c - 0.5 - (w - 1) / 2 is black, x > c - 0.5 + (w - 1) / 2 is white."""
    file = write_dicom(tmp_path / "a.dcm", SMALL, bits=12, WindowCenter="20.5", WindowWidth="21")
    assert grey(file, WINDOWED).tolist() == [[0, 0, 127], [255, 255, 255]]
    file = write_dicom(
        tmp_path / "a.dcm", SMALL, bits=12, WindowCenter="20", WindowWidth="40", VOILUTFunction="LINEAR_EXACT"
    )
    assert grey(file, WINDOWED).tolist() == [[0, 63, 127], [191, 255, 255]]


def test_a_window_after_a_negative_slope_written_out(tmp_path: Path) -> None:
    """pydicom 3.0 turns the output of such a window over once more; the standard does not."""
    elements = {"RescaleSlope": "-1", "RescaleIntercept": "40", "WindowCenter": "20", "WindowWidth": "40"}
    file = write_dicom(tmp_path / "a.dcm", SMALL, bits=12, VOILUTFunction="LINEAR_EXACT", **elements)
    assert grey(file, WINDOWED).tolist() == [[255, 191, 127], [63, 0, 0]]


@pytest.mark.parametrize("first", [0, 500, -300])
def test_voi_luts_are_those_of_pydicom_and_go_before_windows(tmp_path: Path, film: np.ndarray, first: int) -> None:
    array = film.astype(np.int16) - 600 if first < 0 else film
    entries = np.sqrt(np.arange(3000)) * 70
    image = header(array, VOILUTSequence=[lut(entries, first, 12)], WindowCenter="1", WindowWidth="5")
    image.RescaleSlope, image.RescaleIntercept = "1", "0"
    file = write(tmp_path / "a.dcm", image, array.tobytes())
    assert same(grey(file, WINDOWED), reference_remap(apply_voi(array, pydicom.dcmread(file))))


def test_a_voi_lut_of_8_bits_with_many_entries(tmp_path: Path, film: np.ndarray) -> None:
    """Written out: pydicom 3.0 looks entries up with an index of 8 bits, which wraps around."""
    entries = np.arange(4096) // 16
    image = header(film, bits=12, VOILUTSequence=[lut(entries, 0, 8)])
    file = write(tmp_path / "a.dcm", image, film.tobytes())
    assert np.array_equal(read_array(file, WINDOWED), film // 16)
    image.VOILUTSequence[0].LUTData = (np.arange(4096) // 16).astype(np.uint8).tobytes()
    file = write(tmp_path / "a.dcm", image, film.tobytes())
    assert np.array_equal(read_array(file, WINDOWED), film // 16), "an entry a byte"


def test_windows_of_enhanced_images_are_those_of_the_frame(tmp_path: Path, film: np.ndarray) -> None:
    groups = []
    for centre in ("300", "2000"):
        voi, transformation, group = Dataset(), Dataset(), Dataset()
        voi.WindowCenter, voi.WindowWidth = centre, "800"
        transformation.RescaleSlope, transformation.RescaleIntercept = "1", "0"
        group.FrameVOILUTSequence, group.PixelValueTransformationSequence = [voi], [transformation]
        groups.append(group)
    image = header(film, bits=12, NumberOfFrames=2, PerFrameFunctionalGroupsSequence=groups)
    file = write(tmp_path / "a.dcm", image, np.stack([film, film]).tobytes())
    for frame, centre in ((1, "300"), (2, "2000")):
        flat = write_dicom(tmp_path / "b.dcm", film, bits=12, WindowCenter=centre, WindowWidth="800")
        assert same(grey(file, DicomOptions(frame=frame, voi_lut=True)), grey(flat, WINDOWED))


@pytest.mark.parametrize(
    "elements",
    [
        {},
        {"WindowCenter": "5", "WindowWidth": "0"},
        {"WindowCenter": None, "WindowWidth": None},
        {"WindowCenter": "5"},
        {"WindowCenter": "5", "WindowWidth": "9", "VOILUTFunction": "INVENTED"},
    ],
)
def test_no_usable_window_is_said(tmp_path: Path, film: np.ndarray, elements: dict) -> None:
    file = write_dicom(tmp_path / "a.dcm", film, bits=12, **elements)
    assert same(grey(file, WINDOWED), grey(file))
    assert noticed(file, WINDOWED) == ["no window to apply"]
    assert noticed(file) == []


def framed(film: np.ndarray, value: int) -> np.ndarray:
    """The film in a frame of padding."""
    return np.pad(film, 7, constant_values=value)


@pytest.mark.parametrize(
    ("dtype", "value", "said"),
    [(np.uint16, 65535, 65535), (np.int16, -32768, -32768), (np.int16, -32768, 32768), (np.uint16, 65535, -1)],
)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_that_would_ruin_the_contrast_becomes_the_black_background(
    tmp_path: Path, film: np.ndarray, dtype: type, value: int, said: int, photometric: str
) -> None:
    """Also where the padding value has the wrong sign, as files that mix US and SS have it."""
    array = framed(film.astype(dtype), value)
    image = header(array, photometric)
    image.PixelPaddingValue = said
    image["PixelPaddingValue"].VR = "SS" if said < 0 else "US"
    file = write(tmp_path / "a.dcm", image, array.tobytes())
    turned = film.astype(np.int64) * (-1 if photometric == "MONOCHROME1" else 1)
    expected = framed(reference_remap(turned), 0)
    assert same(grey(file), expected)
    assert same(grey(file, DicomOptions(padding="exclude")), expected)
    assert noticed(file) == ["pixel padding left out"]
    kept = DicomOptions(invert_monochrome1=False, padding="keep")
    assert same(grey(file, kept), reference_remap(array)), "as the reference"
    assert noticed(file, kept) == []
    assert np.ptp(grey(file, kept)[8:-8, 8:-8]) < 40, "which is what it ruins"


def test_padding_near_the_film_s_values_is_kept_as_the_reference_does_unless_asked(
    tmp_path: Path, film: np.ndarray
) -> None:
    array = framed(film + 500, 0)
    file = write_dicom(tmp_path / "a.dcm", array, PixelPaddingValue=0)
    assert same(grey(file), reference_remap(array))
    assert noticed(file) == []
    assert same(grey(file, DicomOptions(padding="exclude")), framed(reference_remap(film), 0))


def test_a_range_of_padding(tmp_path: Path, film: np.ndarray) -> None:
    array = framed(film, 60000)
    array[0], array[-1] = 59000, 61000
    for limits in ((59000, 61000), (61000, 59000)):
        file = write_dicom(tmp_path / "a.dcm", array, PixelPaddingValue=limits[0], PixelPaddingRangeLimit=limits[1])
        assert same(grey(file), framed(reference_remap(film), 0))


def test_padding_is_left_out_after_the_window_too(tmp_path: Path, film: np.ndarray) -> None:
    array = framed(film, 65535)
    elements = {"PixelPaddingValue": 65535, "WindowCenter": "1500", "WindowWidth": "1500"}
    file = write_dicom(tmp_path / "a.dcm", array, **elements)
    bare = write_dicom(tmp_path / "b.dcm", film, WindowCenter="1500", WindowWidth="1500")
    both = DicomOptions(voi_lut=True, padding="exclude")
    assert same(grey(file, both), framed(grey(bare, WINDOWED), 0))


def test_nothing_but_padding_is_refused(tmp_path: Path) -> None:
    file = write_dicom(tmp_path / "a.dcm", np.full((9, 9), 5, np.uint16), PixelPaddingValue=5)
    with pytest.raises(DecodeError, match="nothing but pixel padding"):
        read_array(file, USUAL)
    with pytest.raises(InputError, match="pixel_padding='often'; 'auto' or 'exclude' or 'keep' is expected"):
        DicomOptions(padding="often")


def test_elements_that_the_reference_does_not_look_at_may_be_broken(tmp_path: Path, film: np.ndarray) -> None:
    elements = {"RescaleSlope": "1", "RescaleIntercept": "0", "WindowCenter": "7", "WindowWidth": "7"}
    whole = write_dicom(tmp_path / "a.dcm", film, bits=12, Modality="CR", **elements).read_bytes()
    for tag in (b"\x28\0\x53\x10DS", b"\x28\0\x50\x10DS", b"\x28\0\x52\x10DS"):
        at = whole.index(tag) + 8
        (tmp_path / "b.dcm").write_bytes(whole[:at] + b"?!" + whole[at + 2 :])
        for options in (USUAL, WINDOWED):
            assert read_array(tmp_path / "b.dcm", options).shape == film.shape
        assert np.array_equal(read_array(tmp_path / "b.dcm", USUAL), film)
