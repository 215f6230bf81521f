"""Image files and streams. The independent reader is the reference's (hi-ml-multimodal)."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from runtime.errors import DecodeError
from runtime.image.codestream import read_frame_header
from runtime.image.decoders import look_at_file, read_stored
from runtime.image.dicom import read_dicom
from runtime.image.dicom_options import DicomOptions
from runtime.image.images import read_grey
from tests.fuzz.property import Property, scratch_folder
from tests.runtime.dicoms import CANARIES, header, identified, write, write_compressed

_AS_THE_REFERENCE = DicomOptions(False, None, False, "keep")
_PLAIN = np.random.default_rng(0).integers(0, 256, (12, 10), dtype=np.uint8)
_DEEP = np.random.default_rng(1).integers(0, 4096, (9, 11), dtype=np.uint16)
_COLOUR = np.random.default_rng(2).integers(0, 256, (8, 6, 3), dtype=np.uint8)


def _encoded(array: np.ndarray, mode: str | None = None, **options: Any) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(stream, **options)
    return stream.getvalue()


@cache
def _pictures() -> Sequence[bytes]:
    alpha = np.dstack([_COLOUR, _COLOUR[..., 0]])
    return (
        *(_encoded(_COLOUR, mode, format="PNG") for mode in ("L", "LA", "RGB", "P", "1")),
        _encoded(alpha, format="PNG"),
        _encoded(_DEEP, format="PNG"),
        *(_encoded(_COLOUR, mode, format="JPEG") for mode in ("L", "RGB", "CMYK")),
        _encoded(_PLAIN, format="JPEG", progressive=True),
    )


@cache
def _nifti() -> Sequence[bytes]:
    import gzip

    import nibabel

    plain = [nibabel.Nifti1Image(array.astype(kind), np.eye(4)) for array, kind in ((_PLAIN, "u1"), (_DEEP, "<i2"))]
    files = [image.to_bytes() for image in plain]
    return (*files, gzip.compress(files[0], mtime=0))


def _read_by_reference(path: Any) -> Any:
    """Grey pixels of the reference, or None where it fails."""
    from health_multimodal.image.data.io import load_image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(load_image(path))
    except Exception:
        return None


def check_picture(data: bytes) -> None:
    """A JPEG or PNG file: the reference's pixels, or a reason."""
    path = scratch_folder() / "picture.png"
    path.write_bytes(data)
    try:
        look_at_file(path)
        stored = read_stored(path, _AS_THE_REFERENCE)
        found = np.asarray(read_grey(path))
    except DecodeError:
        return
    expected = _read_by_reference(path)
    if expected is not None and stored.values.mode not in ("CMYK", "RGB", "YCbCr"):  # CMYK is read as RGB by design
        np.testing.assert_array_equal(found, expected)


def check_nifti(data: bytes) -> None:
    """A NIfTI file: the reference's pixels (SimpleITK's values), or a reason."""
    # Names of their own: of volume.nii.gz SimpleITK would read the values of a volume.nii beside it.
    path = scratch_folder() / ("packed.nii.gz" if data.startswith(b"\x1f\x8b") else "volume.nii")
    path.write_bytes(data)
    try:
        found = read_grey(path)
    except DecodeError:
        return
    expected = _read_by_reference(path)
    if expected is not None:
        np.testing.assert_array_equal(np.asarray(found), expected)


@cache
def _dicom() -> Sequence[bytes]:
    import jpeg_ls

    path = scratch_folder() / "seed.dcm"
    twelve = header(_DEEP, bits=12, WindowCenter="2048", WindowWidth="4000", RescaleSlope="1", RescaleIntercept="0")
    coded = {
        "1.2.840.10008.1.2.4.50": _encoded(_PLAIN, format="JPEG"),
        "1.2.840.10008.1.2.4.80": bytes(jpeg_ls.encode_array(_PLAIN)),
    }
    coded["1.2.840.10008.1.2.4.90"] = _encoded(_PLAIN, format="JPEG2000", no_jp2=True)
    palette = {
        name: value
        for colour in ("Red", "Green", "Blue")
        for name, value in (
            (f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 8]),
            (f"{colour}PaletteColorLookupTableData", bytes(range(256))),
        )
    }
    stack = np.stack([_PLAIN, _PLAIN[::-1]])
    images = (
        lambda: write(path, identified(twelve), _DEEP.tobytes()),
        lambda: write(path, identified(header(_PLAIN, "MONOCHROME1")), _PLAIN.tobytes(), "1.2.840.10008.1.2"),
        lambda: write(path, identified(header(_COLOUR, "RGB")), _COLOUR.tobytes()),
        lambda: write(path, identified(header(_PLAIN, "PALETTE COLOR", **palette)), _PLAIN.tobytes()),
        lambda: write(
            path, identified(header(_PLAIN, PixelPaddingValue=0)), _PLAIN.tobytes(), "1.2.840.10008.1.2.1.99"
        ),
        lambda: write(path, identified(header(stack, NumberOfFrames=2)), stack.tobytes()),
        *(
            lambda syntax=syntax, frame=frame: write_compressed(path, identified(header(_PLAIN)), [frame], syntax)
            for syntax, frame in coded.items()
        ),
    )
    return tuple(image().read_bytes() for image in images)


def check_dicom(data: bytes) -> None:
    """A DICOM file: the reference's stored values, or a reason, which never quotes what the header says of anybody."""
    path = scratch_folder() / "film.dcm"
    path.write_bytes(data)
    reasons: list[str] = []
    for options in (_AS_THE_REFERENCE, DicomOptions(True, 1, True, "auto")):
        try:
            found, _ = read_dicom(path, options)
        except DecodeError as error:
            reasons.append(str(error))
            continue
        assert found.ndim in (2, 3)
        if options is _AS_THE_REFERENCE:
            expected = _pixel_array(path)
            if expected is not None:
                np.testing.assert_array_equal(found, expected)
    assert not [canary for canary in CANARIES if canary in " ".join(reasons)], reasons


def _pixel_array(path: Any) -> Any:
    """What the reference hands on: pydicom's values of greyscale images; None where it fails or differs by design.

    Overlay bits above BitsStored and values that do not begin at bit 0 are masked here and not there.
    """
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path)
            grey = dataset.PhotometricInterpretation in ("MONOCHROME1", "MONOCHROME2")
            usual = dataset.HighBit == dataset.BitsStored - 1 and int(dataset.get("NumberOfFrames") or 1) == 1
            return dataset.pixel_array if grey and usual else None
    except Exception:
        return None


@cache
def _streams() -> Sequence[bytes]:
    import jpeg_ls

    return (
        *(picture for picture in _pictures() if picture.startswith(b"\xff\xd8")),
        bytes(jpeg_ls.encode_array(_PLAIN)),
        _encoded(_PLAIN, format="JPEG2000", no_jp2=True),
    )


def check_stream(data: bytes) -> None:
    """What a stream says of its size is what Pillow reads of it, where both do."""
    found = read_frame_header(data)
    if found is None or not data.startswith(b"\xff\xd8"):
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            size = Image.open(io.BytesIO(data), formats=["JPEG"]).size
    except Exception:
        return
    assert (found.columns, found.rows) == size


PROPERTIES: Mapping[str, Property] = {
    "picture": Property(None, check_picture, _pictures),
    "nifti": Property(None, check_nifti, _nifti),
    "dicom": Property(None, check_dicom, _dicom),
    "stream": Property(None, check_stream, _streams),
}
