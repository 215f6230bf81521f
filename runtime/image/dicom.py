"""DICOM files → pixel values.

Source: hi-ml-multimodal, `image/data/io.py`, which takes pydicom's `pixel_array`: stored values, without rescale and
window, colours as RGB. So it is here, except that greyscale is turned the right way up, palettes are resolved, a frame
is chosen, and pixel padding that would ruin the contrast is left out.
"""

from __future__ import annotations

from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from runtime.engines import default_threads
from runtime.errors import DecodeError, MissingExtraError
from runtime.files.formats import Source, opened
from runtime.image import openjpeg
from runtime.image.bounds import Bounds, GuardedFile
from runtime.image.codestream import check_codestream
from runtime.image.dicom_bits import find_stored_bits
from runtime.image.dicom_bounds import check_expansion, check_size
from runtime.image.dicom_faults import count_of, element, refuse_what_is_no_image, why_not_decoded
from runtime.image.dicom_options import DicomOptions
from runtime.image.dicom_values import resolve_palette, turn_and_window
from runtime.process.notices import Notice
from runtime.process.silence import SILENCE

__all__ = ["read_dicom"]

# All that is read of a header: nothing that names a patient, a place or a time is even looked at.
_COLOURS = ("Red", "Green", "Blue")
_ELEMENTS = [
    *("SOPClassUID", "Modality", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"),
    *("NumberOfFrames", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleIntercept", "RescaleSlope", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *(f"{colour}PaletteColorLookupTableDescriptor" for colour in _COLOURS),
    *(f"{colour}PaletteColorLookupTableData" for colour in _COLOURS),
    *(f"Segmented{colour}PaletteColorLookupTableData" for colour in _COLOURS),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths", "FloatPixelData", "DoubleFloatPixelData", "PixelData"),
]

# Modalities that make radiographs, and what they are copied to; the others are what this model has never seen.
_RADIOGRAPHS = frozenset({"CR", "DX", "DR", "RG", "OT", "SC"})
_OTHERS = frozenset(
    {"CT", "MR", "US", "NM", "PT", "MG", "XA", "RF", "IO", "PX", "ES", "XC", "SM", "OP", "OPT", "GM", "SEG", "RTDOSE"}
    | {"RTIMAGE", "DG", "TG", "LS", "IVUS", "IVOCT", "BI", "BMD", "HC", "DOC"}
)


_BROKEN = "has a broken DICOM header, or is cut off within it"


def read_dicom(
    source: Source, options: DicomOptions, bounds: Bounds | None = None
) -> tuple[NDArray[Any], tuple[Notice, ...]]:
    """Read one frame of a DICOM file.

    Nothing that pydicom says leaves this function: its warnings and errors quote values of the header. What is said
    here names elements and codes of the standard only.

    Args:
        source: path of the file, or its bytes; one without preamble and file meta information is read as well.
        options: see `DicomOptions`.
        bounds: of a file from a stranger; None decodes whatever it is.

    Returns:
        The values, (H, W) or (H, W, 3) of any integer or float dtype, and what a user should know of the file.

    Raises:
        DecodeError: no image, several frames, broken or unsupported pixel data; the message is the reason.
        MissingExtraError: pydicom or a decoder is not installed.
    """
    try:
        import pydicom  # noqa: F401
    except ImportError:
        what = f"Reading the DICOM file {source}" if isinstance(source, Path) else "Reading DICOM"
        raise MissingExtraError(what, "pydicom", "dicom") from None
    try:
        with SILENCE:
            return _read(source, options, bounds)
    except (DecodeError, MissingExtraError, MemoryError):
        raise
    except Exception as error:
        raise DecodeError(
            f"cannot be decoded ({type(error).__name__}; the details may name a patient and are left out)"
        ) from None


def _read(source: Source, options: DicomOptions, bounds: Bounds | None) -> tuple[NDArray[Any], tuple[Notice, ...]]:
    dataset, notices = _open(source, bounds)
    refuse_what_is_no_image(dataset)
    if bounds is not None:
        check_size(dataset, bounds)
    notices += _modality(dataset)
    index = _frame_index(dataset, options.frame)
    if bounds is not None:
        check_expansion(dataset, index, bounds)
    values, photometric = _decode(dataset, index, options.threads or default_threads())
    if photometric == "PALETTE COLOR":
        values = resolve_palette(dataset, values)
    elif photometric in ("MONOCHROME1", "MONOCHROME2"):
        values, more = turn_and_window(
            dataset,
            values,
            index,
            low_is_white=photometric == "MONOCHROME1",
            turn=options.invert_monochrome1,
            voi_lut=options.voi_lut,
            padding=options.padding,
        )
        notices += more
    elif photometric != "RGB":
        raise DecodeError(f"has the colour space {photometric}, which cannot be converted to RGB here")
    return values, notices


def _open(source: Source, bounds: Bounds | None) -> tuple[Any, tuple[Notice, ...]]:
    from pydicom import dcmread
    from pydicom.dataset import FileMetaDataset
    from pydicom.errors import InvalidDicomError
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    try:
        dataset, whole = dcmread(_file(source, bounds), specific_tags=_tags()), True
    except DecodeError:
        raise
    except InvalidDicomError:
        try:
            dataset, whole = dcmread(_file(source, bounds), specific_tags=_tags(), force=True), False
        except DecodeError:
            raise
        except Exception:
            raise DecodeError("is not a DICOM file: it has no DICOM header, nor can it be read without one") from None
        if not {"SOPClassUID", "Rows", "PixelData"} & set(dataset.dir()):
            raise DecodeError("is not a DICOM file: it has no DICOM header and no pixel data") from None
    except OSError as error:
        raise DecodeError(f"cannot be read ({error.strerror})" if error.errno else _BROKEN) from None
    except Exception:
        raise DecodeError(_BROKEN) from None
    if getattr(dataset, "file_meta", None) is None:
        dataset.file_meta = FileMetaDataset()
    if dataset.file_meta.get("TransferSyntaxUID"):
        return dataset, () if whole else (_headerless("its preamble is missing"),)
    implicit, little_endian = dataset.original_encoding
    explicit = ExplicitVRLittleEndian if little_endian else ExplicitVRBigEndian
    dataset.file_meta.TransferSyntaxUID = syntax = ImplicitVRLittleEndian if implicit else explicit
    if "PixelData" in dataset and dataset["PixelData"].is_undefined_length:
        raise DecodeError("has no file meta information, so that nothing says how its pixel data are compressed")
    return dataset, (_headerless(f"read as {syntax.name}"),)


def _file(source: Source, bounds: Bounds | None) -> Path | BytesIO:
    if bounds is None:
        return opened(source)
    return GuardedFile(source.read_bytes() if isinstance(source, Path) else source, bounds)


@cache
def _tags() -> list[int]:
    from pydicom.tag import Tag

    return [Tag(keyword) for keyword in _ELEMENTS]


def _headerless(detail: str) -> Notice:
    return Notice("no DICOM file header", f"has no DICOM file header ({detail})")


def _modality(dataset: Any) -> tuple[Notice, ...]:
    modality = str(element(dataset, "Modality") or "OT")
    if modality in _RADIOGRAPHS:
        return ()
    code = modality if modality in _OTHERS else "an unknown one"
    return (
        Notice(
            f"no radiographs by their modality ({code})",
            f"is no radiograph by its modality ({code}); chest radiographs are what the model was trained on",
        ),
    )


def _frame_index(dataset: Any, frame: int | None) -> int:
    frames = count_of(dataset, "NumberOfFrames") or 1
    if frames == 1:
        return 0
    if frame is None:
        raise DecodeError(
            f"holds {frames} frames; one image is expected. Choose one, 1 to {frames}, with dicom_frame=N (--frame N)"
        )
    if frame > frames:
        raise DecodeError(f"holds {frames} frames; frame {frame} was asked for")
    return frame - 1


def _decode(dataset: Any, index: int, threads: int) -> tuple[NDArray[Any], str]:
    """The values of a frame, colours as RGB where pydicom can convert them, and their photometric interpretation."""
    from pydicom.pixels import get_decoder
    from pydicom.pixels.utils import as_pixel_options
    from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit, RLELossless

    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
        options: dict[str, Any] = {"view_only": True} if decoder.is_native else {}
        if not decoder.is_native and decoder.is_available and syntax != RLELossless:
            precision, lossless = check_codestream(dataset, index)
            bits = find_stored_bits(dataset, precision, lossless)
            if bits is not None:
                options["bits_stored"] = precision  # or GDCM clears the bits above those that are stored
            # Of lossy streams other releases of OpenJPEG, such as GDCM's, may give other values in the last place.
            if syntax in openjpeg.SYNTAXES and lossless and dataset.SamplesPerPixel == 1:
                decoder = openjpeg.decoder(syntax)
                options[openjpeg.THREADS] = threads
        else:
            bits = find_stored_bits(dataset)
        if syntax == JPEGExtended12Bit and dataset.BitsStored == 12:
            # GDCM reads 12 bits, but pydicom forbids it to; by the precision in the stream it picks the right codec.
            source = {"pixel_keyword": "PixelData", "decoding_plugin": "gdcm", **as_pixel_options(dataset)}
            values, found = get_decoder(JPEGBaseline8Bit).as_array(dataset.PixelData, index=index, **source)
        else:
            values, found = decoder.as_array(dataset, index=index, correct_unused_bits=bits is None, **options)
    except (DecodeError, MemoryError):
        raise
    except Exception:
        raise why_not_decoded(dataset) from None
    return values if bits is None else bits.of(values), str(found["photometric_interpretation"])
