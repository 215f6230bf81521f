"""How DICOM files are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runtime.errors import InputError
from runtime.process import flag
from runtime.process.checks import one_of, whole_number

__all__ = ["PADDING", "DicomOptions"]

PADDING = ("auto", "exclude", "keep")


@dataclass(frozen=True)
class DicomOptions:
    """How DICOM files are read; see `runtime.load`.

    Attributes:
        invert_monochrome1: turn greyscale in which low values are white the right way up.
        frame: which frame of files with several, from 1; None refuses them. Files with one frame are not affected.
        voi_lut: apply the Modality LUT (or rescale) and the VOI LUT (or window) before anything else.
        padding: "auto" leaves pixel padding out where it takes up more than half of the range of values; "exclude"
            always does, "keep" never, as the reference.
        threads: at work on one frame of JPEG 2000; 0 takes all that this process may use.
    """

    invert_monochrome1: bool = True
    frame: int | None = None
    voi_lut: bool = False
    padding: str = "auto"
    threads: int = 0

    def __post_init__(self) -> None:
        faults = []
        for name, argument, check in _CHECKS:
            try:
                object.__setattr__(self, name, check(argument, getattr(self, name)))
            except InputError as error:
                faults.append(str(error))
        if faults:
            raise InputError(" ".join(faults))


def _frame(argument: str, value: Any) -> int | None:
    return None if value is None else whole_number(argument, value, instead=": of a frame, or None")


def _padding(argument: str, value: Any) -> str:
    return one_of(argument, value, PADDING)


# Field, the argument of `runtime.load` that it is, and what is accepted.
_CHECKS: tuple[tuple[str, str, Callable[[str, Any], Any]], ...] = (
    ("invert_monochrome1", "invert_monochrome1", flag),
    ("frame", "dicom_frame", _frame),
    ("voi_lut", "voi_lut", flag),
    ("padding", "pixel_padding", _padding),
    ("threads", "threads", lambda argument, value: whole_number(argument, value, least=0)),
)
