"""DICOM as archives hold it, against pydicom and the reference's own loader."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.samples import chest_phantom
from runtime.errors import InputError
from runtime.image.decoders import read_array
from runtime.image.dicom_options import DicomOptions
from runtime.image.images import load_pixels, read_grey
from tests.runtime.parts import grey_rule

pydicom = pytest.importorskip("pydicom")

from pydicom.uid import (  # noqa: E402
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tests.runtime.dicoms import TEST_FILES, compress_by_gdcm, header, refusal, write, write_compressed, write_dicom  # noqa: E402
from tests.runtime.image.test_images import REFERENCE, reference_pixels, runtime_pixels, same  # noqa: E402

USUAL = DicomOptions()


def reads(path: Path) -> np.ndarray | None:
    """What pydicom makes of a file, if it is one greyscale or colour image."""
    try:
        dataset = pydicom.dcmread(path)
        array = dataset.pixel_array
    except Exception:
        return None
    plain = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3 and array.shape[0] > 3)
    return array if plain and dataset.PhotometricInterpretation != "PALETTE COLOR" and np.ptp(array) else None


@pytest.mark.filterwarnings("ignore")
def test_every_test_file_of_pydicom_gives_the_reference_s_pixels() -> None:
    """JPEG 8 and 12 bit, JPEG-LS, JPEG 2000, RLE, deflated, big endian, YBR, planar, signed, 1 to 32 bits."""
    found = {file: reads(file) for file in sorted(TEST_FILES.glob("*.dcm"))}
    files = [file for file, array in found.items() if array is not None]
    assert len(files) >= 40
    assert len({pydicom.dcmread(file, stop_before_pixels=True).file_meta.TransferSyntaxUID for file in files}) >= 11
    for file in files:
        assert np.array_equal(read_array(file, REFERENCE), found[file]), file.name
        assert same(runtime_pixels(file), reference_pixels(file)), file.name


def test_12_bit_jpeg_extended_which_pydicom_leaves_to_other_packages() -> None:
    lossy = read_array(TEST_FILES / "JPGExtended.dcm", USUAL)
    assert lossy.dtype == np.uint16
    assert (lossy[420, 140], lossy[230, 120]) == (244, 95), "the values that pydicom's own tests expect"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16], ids=str)
def test_lossless_transfer_syntaxes_give_the_values_that_were_stored(
    tmp_path: Path, film: np.ndarray, dtype: type
) -> None:
    array = (film // 16).astype(dtype) if dtype == np.uint8 else film.astype(dtype)
    bits = 8 if dtype == np.uint8 else 16
    for syntax in (JPEGLSLossless, JPEG2000Lossless, RLELossless):
        image = pydicom.dcmread(write_dicom(tmp_path / "a.dcm", array, bits=bits))
        image.compress(syntax)
        image.save_as(tmp_path / "a.dcm")
        assert same(read_array(tmp_path / "a.dcm", USUAL), array), syntax.name


@pytest.mark.parametrize(
    "syntax", [JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless], ids=lambda uid: uid.name
)
def test_what_gdcm_compressed_is_read(tmp_path: Path, film: np.ndarray, syntax: str) -> None:
    packed = compress_by_gdcm(write_dicom(tmp_path / "a.dcm", film, bits=16), tmp_path / "b.dcm", syntax)
    assert pydicom.dcmread(packed).file_meta.TransferSyntaxUID == syntax
    assert same(read_array(packed, USUAL), film)


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.uint32])
def test_uncompressed_transfer_syntaxes(tmp_path: Path, film: np.ndarray, syntax: str, dtype: type) -> None:
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    array = film.astype(dtype) - (2000 if dtype == np.int16 else 0)
    file = write(tmp_path / "a.dcm", header(array), array.astype(np.dtype(dtype).newbyteorder(order)).tobytes(), syntax)
    assert np.array_equal(read_array(file, USUAL), array)
    assert same(np.asarray(read_grey(file)), np.asarray(read_grey(array)))
    assert same(runtime_pixels(file), reference_pixels(file))


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, ImplicitVRLittleEndian, "1.2.840.10008.1.2.1"])
@pytest.mark.parametrize("kept", ["nothing", "file meta"])
def test_files_without_a_header_are_read_with_a_warning(
    tmp_path: Path, film: np.ndarray, syntax: str, kept: str, caplog: pytest.LogCaptureFixture
) -> None:
    order = ">u2" if syntax == ExplicitVRBigEndian else "<u2"
    whole = write(tmp_path / "whole.dcm", header(film, bits=12), film.astype(order).tobytes(), syntax).read_bytes()
    meta = 132 + 12 + int.from_bytes(whole[140:144], "little")
    bare = tmp_path / "bare.dcm"
    bare.write_bytes(whole[132 if kept == "file meta" else meta :])
    found = []
    loaded, faults = load_pixels(
        [bare], grey_rule(64, 48), on_notice=lambda name, notices: found.append((name, notices))
    )
    assert not faults
    assert same(loaded[0].pixels, load_pixels([tmp_path / "whole.dcm"], grey_rule(64, 48))[0][0].pixels)
    ((name, (notice,)),) = found
    assert (name, notice.kind) == (str(bare), "no DICOM file header")
    assert kept == "file meta" or pydicom.uid.UID(syntax).name in notice.text


@pytest.mark.filterwarnings("ignore:A value of:UserWarning")
def test_a_frame_is_chosen_from_1(tmp_path: Path, film: np.ndarray) -> None:
    frames = np.stack([film, film[::-1], film[:, ::-1]])
    files = [write_dicom(tmp_path / "plain.dcm", frames, bits=12, NumberOfFrames=3)]
    for syntax in (RLELossless, JPEG2000Lossless):
        image = pydicom.dcmread(files[0])
        image.compress(syntax)
        files.append(tmp_path / f"{syntax}.dcm")
        image.save_as(files[-1])
    for file in files:
        for number in (1, 2, 3):
            assert np.array_equal(read_array(file, DicomOptions(frame=number)), frames[number - 1])
        assert "holds 3 frames; frame 4 was asked for" in refusal(file, frame=4)
        assert "holds 3 frames; one image is expected" in refusal(file)
    single = write_dicom(tmp_path / "single.dcm", film, bits=12)
    assert np.array_equal(read_array(single, DicomOptions(frame=7)), film), "of files with several only"
    for count in ("0", ""):
        odd = write_dicom(tmp_path / "odd.dcm", film, bits=12, NumberOfFrames=count or None)
        assert np.array_equal(read_array(odd, USUAL), pydicom.dcmread(odd).pixel_array)
    for wrong in (0, -1, 1.5, "2"):
        with pytest.raises(InputError, match=r"dicom_frame=.*; a whole number of at least 1 is expected: of a frame"):
            DicomOptions(frame=wrong)  # type: ignore[arg-type]


def test_colour_frames_are_chosen_too() -> None:
    file = TEST_FILES / "examples_ybr_color.dcm"
    assert np.array_equal(read_array(file, DicomOptions(frame=30)), pydicom.dcmread(file).pixel_array[29])


@pytest.mark.parametrize("planar", [0, 1])
def test_colour_secondary_captures_become_grey_as_the_reference_makes_them(tmp_path: Path, planar: int) -> None:
    colours = np.stack([chest_phantom(530, 610, seed) // 2 + 31 for seed in range(3)], axis=-1)
    image = header(colours, "RGB", PlanarConfiguration=planar, Modality="OT")
    stored = np.ascontiguousarray(colours.transpose(2, 0, 1)) if planar else colours
    file = write(tmp_path / "a.dcm", image, stored.tobytes())
    assert np.array_equal(read_array(file, USUAL), colours)
    assert same(runtime_pixels(file), reference_pixels(file))


def test_ybr_of_a_jpeg_is_near_the_colours_that_were_compressed(tmp_path: Path) -> None:
    colours = np.stack([chest_phantom(128, 96, seed) for seed in range(3)], axis=-1)
    buffer = io.BytesIO()
    Image.fromarray(colours).save(buffer, "JPEG", quality=98)
    file = write_compressed(tmp_path / "a.dcm", header(colours, "YBR_FULL_422"), [buffer.getvalue()], JPEGBaseline8Bit)
    with Image.open(buffer) as opened:
        difference = np.abs(read_array(file, USUAL).astype(int) - np.asarray(opened))
    assert difference.mean() < 1, "another decoder, which interpolates colours differently"
    assert same(runtime_pixels(file), reference_pixels(file))


def test_palettes_are_resolved_as_in_png(tmp_path: Path) -> None:
    grey = chest_phantom(530, 500)
    ramps = [np.random.default_rng(seed).integers(0, 256, 256, dtype=np.uint8) for seed in range(3)]
    image = header(grey, "PALETTE COLOR")
    for colour, ramp in zip(("Red", "Green", "Blue"), ramps, strict=True):
        setattr(image, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(image, f"{colour}PaletteColorLookupTableData", (ramp.astype("<u2") * 257).tobytes())
    file, png = write(tmp_path / "a.dcm", image, grey.tobytes()), tmp_path / "a.png"
    paletted = Image.fromarray(grey, "L").convert("P")
    paletted.putpalette(np.stack(ramps, axis=-1).tobytes())
    paletted.save(png)
    assert same(runtime_pixels(file), reference_pixels(png))
    shown = pydicom.pixels.apply_color_lut(grey, image)
    assert np.array_equal(read_array(file, USUAL), shown)
    del image.GreenPaletteColorLookupTableData
    assert "lacks the palette" in refusal(write(file, image, grey.tobytes()))


def test_palettes_of_pydicom_s_test_files() -> None:
    file = TEST_FILES / "examples_palette.dcm"
    dataset = pydicom.dcmread(file)
    assert np.array_equal(read_array(file, USUAL), pydicom.pixels.apply_color_lut(dataset.pixel_array, dataset))


def test_bits_beside_the_values_are_masked(tmp_path: Path, film: np.ndarray) -> None:
    overlay = (np.random.default_rng(0).integers(0, 16, film.shape) << 12).astype(np.uint16)
    file = write_dicom(tmp_path / "a.dcm", film | overlay, bits=12)
    assert np.array_equal(read_array(file, USUAL), film)
    assert same(runtime_pixels(file), reference_pixels(file))
    signed = film.astype(np.int16) - 2048
    file = write_dicom(tmp_path / "b.dcm", (signed & 0xFFF).astype(np.int16), bits=12)
    assert np.array_equal(read_array(file, USUAL), signed), "the sign is that of the stored bits"
    # In old files the values stand in the highest bits; pydicom takes the lowest whatever HighBit says.
    file = write_dicom(tmp_path / "c.dcm", (film << 4) | (overlay >> 12), bits=12, HighBit=15)
    assert np.array_equal(read_array(file, USUAL), film)


def test_bits_of_other_kinds(tmp_path: Path, film: np.ndarray) -> None:
    bits = (film > 2000).astype(np.uint8)
    image = header(bits, BitsAllocated=1, BitsStored=1, HighBit=0)
    file = write(tmp_path / "a.dcm", image, np.packbits(bits.ravel(), bitorder="little").tobytes() + b"\0")
    assert np.array_equal(read_array(file, USUAL), bits)
    for keyword, dtype in (("FloatPixelData", "<f4"), ("DoubleFloatPixelData", "<f8")):
        array = film.astype(dtype) / 7
        image = header(array)
        setattr(image, keyword, array.tobytes())
        for name in ("BitsStored", "HighBit", "PixelRepresentation"):
            delattr(image, name)
        file = write(tmp_path / "b.dcm", image, None)
        assert np.array_equal(read_array(file, USUAL), array)
        assert same(runtime_pixels(file), reference_pixels(file))


def test_another_modality_is_read_with_a_warning(
    tmp_path: Path, film: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    from runtime.process.notices import Notices

    seen = Notices()
    files = {code: write_dicom(tmp_path / f"{code}.dcm", film, bits=12, Modality=code) for code in ("CT", "DX", "XQ")}
    with caplog.at_level(logging.WARNING, "runtime"):
        loaded, faults = load_pixels(list(files.values()), grey_rule(64, 48), on_notice=seen.add)
    assert not faults
    assert same(loaded[0].pixels, loaded[1].pixels)
    assert seen.counts() == {
        "no radiographs by their modality (CT)": 1,
        "no radiographs by their modality (an unknown one)": 1,
    }
    assert [record.getMessage().split(";")[0] for record in caplog.records] == [
        f"{files['CT']}: is no radiograph by its modality (CT)",
        f"{files['XQ']}: is no radiograph by its modality (an unknown one)",
    ]
