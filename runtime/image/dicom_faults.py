"""Why a DICOM file cannot be used, in words that name elements and codes of the standard but no value of a patient."""

from __future__ import annotations

from typing import Any

from runtime.errors import DecodeError, MissingExtraError

__all__ = ["count_of", "element", "refuse_what_is_no_image", "why_not_decoded"]

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_NEEDED = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated")
_NEEDED_OF_INTEGERS = ("BitsStored", "PixelRepresentation")
_DICOMDIR = "1.2.840.10008.1.3.10"
_HTJ2K = ("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203")


def element(dataset: Any, keyword: str) -> Any:
    """The value of an element, or None where it is absent or broken: the reference does not look at it, either."""
    try:
        return dataset.get(keyword)
    except Exception:
        return None


def count_of(dataset: Any, keyword: str) -> int | None:
    """An element that is one integer, or None where it is absent or empty.

    Raises:
        DecodeError: it is something else, which is not quoted.
    """
    try:
        value = dataset.get(keyword)
        return None if value is None or value == "" else int(value)
    except Exception:
        raise DecodeError(f"has a broken header: {keyword} is no number") from None


def refuse_what_is_no_image(dataset: Any) -> None:
    """Raise for a dataset without pixel data.

    Raises:
        DecodeError: none; the message says what kind of object it is, where the standard has a name for that.
    """
    found = [keyword for keyword in _PIXELS if keyword in dataset]
    if not found:
        raise DecodeError(f"holds no image: {_what_it_is(dataset)}")
    if not dataset[found[0]].value:
        raise DecodeError(f"holds no image: {found[0]} is empty")


def why_not_decoded(dataset: Any) -> DecodeError | MissingExtraError:
    """The reason why pydicom failed on a dataset with pixel data, found by looking at it again."""
    keyword = next(keyword for keyword in _PIXELS if keyword in dataset)
    reason = _broken_header(dataset, keyword)
    if reason:
        return DecodeError(f"has a broken header: {reason}")
    return _undecoded(dataset, keyword)


def _what_it_is(dataset: Any) -> str:
    from pydicom.uid import UID

    kinds = (dataset.file_meta.get("MediaStorageSOPClassUID"), dataset.get("SOPClassUID"))
    known = [UID(str(kind)) for kind in kinds if kind and _is_registered(str(kind))]
    if not known or known[0].name.endswith("Image Storage"):
        return "it has no PixelData; it is cut off, or was never more than a header"
    if known[0] == _DICOMDIR:
        return "it is a DICOMDIR, the list of the files on a medium; give those files"
    return f"it is of the kind '{known[0].name}' and has no PixelData"


def _is_registered(uid: str) -> bool:
    from pydicom.uid import UID

    return bool(UID(uid).name != uid)


def _broken_header(dataset: Any, keyword: str) -> str | None:
    needed = (*_NEEDED, *(_NEEDED_OF_INTEGERS if keyword == "PixelData" else ()))
    numbers = {name: count_of(dataset, name) for name in needed}
    missing = [name for name, number in numbers.items() if number is None]
    photometric = dataset.get("PhotometricInterpretation")
    if not photometric:
        missing.append("PhotometricInterpretation")
    if numbers["SamplesPerPixel"] == 3 and count_of(dataset, "PlanarConfiguration") is None:
        missing.append("PlanarConfiguration")
    if missing:
        return f"it lacks {', '.join(missing)}"
    rows, columns, samples, allocated = (numbers[name] or 0 for name in _NEEDED)
    if not (rows > 0 and columns > 0):
        return f"{columns} × {rows} pixels"
    if samples not in (1, 3):
        return f"SamplesPerPixel is {samples}; 1 or 3 is expected"
    stored = numbers.get("BitsStored") or allocated
    if not (allocated == 1 or (allocated % 8 == 0 and 8 <= allocated <= 64)) or not 1 <= stored <= allocated:
        return f"BitsAllocated is {allocated} and BitsStored {stored}"
    if numbers.get("PixelRepresentation") not in (None, 0, 1):
        return f"PixelRepresentation is {numbers['PixelRepresentation']}; 0 or 1 is expected"
    if str(photometric).startswith("YBR") and allocated > 8:
        return f"the colours are YBR of {allocated} bits; 8 bits are expected"
    return None


def _wrong_length(dataset: Any, keyword: str) -> str:
    rows, columns, samples, allocated = (count_of(dataset, name) or 0 for name in _NEEDED)
    frames = count_of(dataset, "NumberOfFrames") or 1
    expected = (rows * columns * samples * frames * allocated + 7) // 8
    if dataset.get("PhotometricInterpretation") == "YBR_FULL_422":
        expected = expected // 3 * 2
    actual = len(dataset[keyword].value)
    of_frames = f" in {frames} frames" if frames > 1 else ""
    described = f"{columns} × {rows} pixels of {samples} × {allocated} bits{of_frames}"
    if actual < expected:
        return f"is cut off: {keyword} has {actual:,} bytes, {described} need {expected:,}"
    return f"cannot be decoded: its header does not fit its {keyword} ({actual:,} bytes; {described})"


def _undecoded(dataset: Any, keyword: str) -> DecodeError | MissingExtraError:
    from pydicom.pixels import get_decoder

    syntax = dataset.file_meta.TransferSyntaxUID
    name = f"'{syntax.name}'" if _is_registered(str(syntax)) else "a private or unknown transfer syntax"
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        return DecodeError(f"cannot be decoded: it is stored as {name}, for which there is no decoder")
    if decoder.is_native:
        return DecodeError(_wrong_length(dataset, keyword))
    if not decoder.is_available:
        if syntax in _HTJ2K:
            packages = "pylibjpeg pylibjpeg-openjpeg"
            return DecodeError(f"is compressed as {name}, which needs other packages: pip install {packages}")
        return MissingExtraError(f"Decoding DICOM compressed as {name}", "python-gdcm", "dicom")
    tried = ", ".join(decoder.available_plugins)
    return DecodeError(f"cannot be decoded: its pixel data ({name}) are broken or cut off (tried: {tried})")
