"""Encoded pictures from clients: what their headers say is looked at before anything is decoded."""

from __future__ import annotations

from io import BytesIO

from PIL import Image

from runtime.errors import DecodeError, Fault, MissingExtraError
from runtime.files.formats import HEAD_BYTES, recognize
from runtime.triton.items import Item

__all__ = ["film_of"]

# It inflates without end, and pydicom inflates all of it before it shows the header.
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_TAKEN = "PNG, JPEG or DICOM"


def film_of(item: Item, name: str, max_pixels: int) -> bytes | Fault:
    """An item's encoded picture; a Fault where its format is not taken or it would have too many pixels.

    The fault's index and name mean nothing.
    """
    values = item[name]
    assert values is not None, "a required input"
    if values.shape != (1,):
        return Fault(0, "", f"{name} has shape {values.shape}; one picture an item is expected")
    data = bytes(values[0])
    try:
        pixels = _pixels(data)
    except DecodeError as error:
        return Fault(0, "", f"{name} {error}")
    if pixels > max_pixels:
        return Fault(0, "", f"{name} has {pixels:,} pixels; at most {max_pixels:,} are taken")
    return data


def _pixels(data: bytes) -> int:
    """How many there are, by the header; 0 where it does not say, which whoever decodes it will find."""
    known = recognize(data[:HEAD_BYTES])
    if known is None or known.reader not in ("pillow", "dicom") or not known.image:
        raise DecodeError(f"is {known.name if known else 'of an unknown format'}; {_TAKEN} is expected")
    if known.reader == "pillow":
        try:
            with Image.open(BytesIO(data), formats=("PNG", "JPEG")) as image:
                return int(image.width) * int(image.height)
        except Image.DecompressionBombError:
            raise DecodeError("has too many pixels") from None
        except (OSError, SyntaxError, ValueError):
            raise DecodeError("is broken or cut off") from None
    if _DEFLATED in data[:HEAD_BYTES]:
        raise DecodeError(f"is deflated DICOM, which is not taken; {_TAKEN} with another transfer syntax is expected")
    return _dicom_pixels(data)


def _dicom_pixels(data: bytes) -> int:
    try:
        import pydicom
    except ImportError as error:
        raise MissingExtraError("Reading DICOM", "pydicom", "dicom") from error
    tags = ["Rows", "Columns", "NumberOfFrames"]
    try:
        header = pydicom.dcmread(BytesIO(data), force=True, stop_before_pixels=True, specific_tags=tags)
        rows, columns, frames = (int(header.get(tag) or 1) for tag in tags)
    except Exception:  # pydicom raises many kinds at what is no DICOM
        raise DecodeError("is broken or cut off") from None
    return rows * columns * frames
