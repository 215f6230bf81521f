"""Stored values of a DICOM frame → values to be remapped: Modality LUT, VOI LUT, pixel padding, polarity, palette.

Source: DICOM PS3.3, C.7.6.3.1.5 (palettes), C.7.5.1.1.2 (pixel padding), C.11.1 (Modality LUT), C.11.2 (VOI LUT).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import DecodeError
from runtime.image.dicom_faults import element
from runtime.process.notices import Notice

__all__ = ["resolve_palette", "turn_and_window"]

# "auto" leaves padding out where the film itself would get less than this share of the grey levels.
_FILM_S_SHARE = 0.5
_TABLE_LIMIT = 1 << 16
_RESCALE = ("RescaleIntercept", "RescaleSlope")
_WINDOW = ("WindowCenter", "WindowWidth", "VOILUTFunction")
_DECIMALS = frozenset({*_RESCALE, *_WINDOW[:2]})
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_POLARITY = ("ModalityLUTSequence", "RescaleSlope", *_GROUPS)
# What Enhanced images keep for each frame, or for all, in sequences of their functional groups.
_FUNCTIONAL_GROUPS = {"PixelValueTransformationSequence": _RESCALE, "FrameVOILUTSequence": _WINDOW}


def turn_and_window(
    dataset: Any,
    stored: NDArray[Any],
    index: int,
    *,
    low_is_white: bool,
    turn: bool,
    voi_lut: bool,
    padding: str,
) -> tuple[NDArray[Any], tuple[Notice, ...]]:
    """Make values of which the greatest are white, as far as that is asked for.

    A linear rescale with a positive slope changes nothing, since the values are remapped to 0–255 anyway; one with a
    negative slope, or a descending Modality LUT, exchanges black and white, as MONOCHROME1 does.

    Args:
        dataset: the header.
        stored: (H, W), greyscale.
        index: of the frame, from 0.
        low_is_white: the photometric interpretation is MONOCHROME1.
        turn: see `DicomOptions.invert_monochrome1`.
        voi_lut: see `DicomOptions`.
        padding: see `DicomOptions`.

    Returns:
        (H, W), and what a user should know.

    Raises:
        DecodeError: nothing but pixel padding.
    """
    values, notices = stored, []
    inverted = low_is_white
    if voi_lut:
        values, windowed = _through_luts(_view(dataset, index), stored)
        if not windowed:
            notices.append(Notice("no window to apply", "has no window or VOI LUT that could be applied"))
    elif turn and _descends(dataset, index):
        inverted = not inverted
        notices.append(Notice("a descending rescale", "has a descending rescale: it is turned the right way up"))
    padded = None if padding == "keep" else _padding(dataset, stored)
    if padded is not None:
        values, notice = _without(values, padded, inverted, padding)
        notices += [notice] if notice else []
    if turn and inverted:
        # For integers NOT is (a constant - value) that cannot overflow; the remap to 0–255 subtracts the minimum.
        values = ~values if values.dtype.kind in "iu" else -values
    return values, tuple(notices)


def resolve_palette(dataset: Any, stored: NDArray[Any]) -> NDArray[Any]:
    """Indices of PALETTE COLOR → (H, W, 3) of uint8 or uint16.

    Raises:
        DecodeError: no palette.
    """
    from pydicom.pixels import apply_color_lut

    if "SegmentedRedPaletteColorLookupTableData" in dataset:
        colours: NDArray[Any] = apply_color_lut(stored, dataset)
        return colours[..., :3]
    channels = []
    for colour in ("Red", "Green", "Blue"):
        descriptor = dataset.get(f"{colour}PaletteColorLookupTableDescriptor")
        data = dataset.get(f"{colour}PaletteColorLookupTableData")
        if not descriptor or not data:
            raise DecodeError("has PALETTE COLOR pixels, but lacks the palette")
        channels.append(_look_up(stored, descriptor, _entries(data, descriptor, dataset)))
    return np.stack(channels, axis=-1)


def _view(dataset: Any, index: int) -> Any:
    """The elements of the greyscale pipeline as they hold for one frame."""
    from pydicom import Dataset

    names = ("BitsStored", "PixelRepresentation", "ModalityLUTSequence", "VOILUTSequence", *_RESCALE, *_WINDOW)
    view = Dataset()
    view.PhotometricInterpretation = "MONOCHROME2"  # whatever it is: polarity comes last
    _copy(dataset, view, names)
    for groups, item in zip(_GROUPS, (0, index), strict=True):
        found = element(dataset, groups) or ()
        for sequence, contained in _FUNCTIONAL_GROUPS.items() if item < len(found) else ():
            for each in element(found[item], sequence) or ():
                _copy(each, view, contained)
    view.set_original_encoding(*dataset.original_encoding)
    return view


def _window(values: NDArray[Any], view: Any) -> NDArray[Any]:
    from pydicom import Dataset
    from pydicom.pixels import apply_windowing

    if _falls(view):
        # pydicom rescales the ends of its output as well, and so would exchange black and white once more.
        without = Dataset()
        without.update({element.tag: element for element in view if element.keyword not in _RESCALE})
        view = without
    windowed: NDArray[Any] = apply_windowing(values, view)
    return windowed


def _copy(source: Any, target: Any, names: tuple[str, ...]) -> None:
    for name in names:
        value = element(source, name)
        if value not in (None, "") and (name not in _DECIMALS or _is_decimal(value)):
            target[name] = source[name]


def _is_decimal(value: Any) -> bool:
    try:
        return bool(np.isfinite(np.ravel(value).astype(np.float64)).all())
    except (TypeError, ValueError):
        return False  # pydicom hands out broken decimals as strings


def _descends(dataset: Any, index: int) -> bool:
    if not any(name in dataset for name in _POLARITY):
        return False
    view = _view(dataset, index)
    if view.get("ModalityLUTSequence"):
        entries = _table(view.ModalityLUTSequence[0], view)
        return bool(entries[-1] < entries[0])
    return _falls(view)


def _falls(view: Any) -> bool:
    return "RescaleIntercept" in view and "RescaleSlope" in view and float(view.RescaleSlope) < 0


def _through_luts(view: Any, stored: NDArray[Any]) -> tuple[NDArray[Any], bool]:
    """Apply the Modality LUT and the first VOI LUT or window; say whether there was one of these."""
    from pydicom.pixels import apply_rescale

    steps: list[Callable[[NDArray[Any]], NDArray[Any]]] = []
    if view.get("ModalityLUTSequence"):
        modality = view.ModalityLUTSequence[0]
        steps.append(lambda values: _look_up(values, modality.LUTDescriptor, _table(modality, view)))
    else:
        steps.append(lambda values: apply_rescale(values, view))
    voi = view.get("VOILUTSequence")
    if voi:
        steps.append(lambda values: _look_up(values, voi[0].LUTDescriptor, _table(voi[0], view)))
    elif _has_window(view):
        steps.append(lambda values: _window(values, view))
    windowed = len(steps) > 1

    def through(values: NDArray[Any]) -> NDArray[Any]:
        for step in steps:
            values = step(values)
        return values

    low, high = stored.min(), stored.max()
    if stored.dtype.kind not in "iu" or int(high) - int(low) >= _TABLE_LIMIT:
        return through(stored), windowed
    every_value = np.arange(int(low), int(high) + 1).astype(stored.dtype)
    return through(every_value)[stored.astype(np.int64) - int(low)], windowed


def _has_window(view: Any) -> bool:
    """Whether the first window can be applied; some files have empty ones, or a width of 0."""
    if not all(name in view for name in _WINDOW[:2]):
        return False
    width = float(np.ravel(view.WindowWidth)[0])
    known = {"LINEAR": width >= 1, "LINEAR_EXACT": width > 0, "SIGMOID": width > 0}
    return known.get(str(view.get("VOILUTFunction", "LINEAR")).upper(), False)


def _table(item: Any, view: Any) -> NDArray[Any]:
    """The entries of an item of a LUT sequence."""
    return _entries(item.LUTData, item.LUTDescriptor, view)


def _entries(data: Any, descriptor: Any, dataset: Any) -> NDArray[Any]:
    """Entries of a LUT, which are numbers, or bytes that hold one or two each."""
    if not isinstance(data, bytes):
        return np.atleast_1d(np.asarray(data)).astype(np.uint16)
    count = descriptor[0] or _TABLE_LIMIT
    if len(data) < 2 * count:
        return np.frombuffer(data, np.uint8)[:count]
    return np.frombuffer(data, "<u2" if dataset.original_encoding[1] else ">u2")[:count]


def _look_up(values: NDArray[Any], descriptor: Any, entries: NDArray[Any]) -> NDArray[Any]:
    """Values below the first that is mapped get the first entry, those above the last get the last."""
    first = descriptor[1]
    if first >= _TABLE_LIMIT // 2 and values.dtype.kind != "u":
        first -= _TABLE_LIMIT  # a negative number that was read without its sign
    found: NDArray[Any] = entries[np.clip(values.astype(np.int64) - first, 0, len(entries) - 1)]
    return found


def _padding(dataset: Any, stored: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Which pixels are padding; None where none are."""
    limits = [element(dataset, name) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if not isinstance(limits[0], int) or stored.dtype.kind not in "iu":
        return None
    # Files that store signed values often have the value without its sign, or the other way round.
    bits = 8 * stored.dtype.itemsize
    numbers = [int(limit) % (1 << bits) for limit in limits if isinstance(limit, int)]
    if stored.dtype.kind == "i":
        numbers = [number - (1 << bits) if number >> (bits - 1) else number for number in numbers]
    padded: NDArray[np.bool_] = (stored >= min(numbers)) & (stored <= max(numbers))
    return padded if padded.any() else None


def _without(
    values: NDArray[Any], padded: NDArray[np.bool_], inverted: bool, rule: str
) -> tuple[NDArray[Any], Notice | None]:
    """Draw padding as the background, which is black once the film is the right way up."""
    film = values[~padded]
    if film.size == 0:
        raise DecodeError("holds nothing but pixel padding")
    low, high = film.min(), film.max()
    whole = float(max(high, values.max())) - float(min(low, values.min()))
    share = (float(high) - float(low)) / whole if whole else 1.0
    if rule == "auto" and share >= _FILM_S_SHARE:
        return values, None
    notice = Notice(
        "pixel padding left out",
        f"has pixel padding that would leave {max(share, 0.0):.0%} of the grey levels to the film: it is left out",
    )
    return np.where(padded, high if inverted else low, values), notice if rule == "auto" else None
