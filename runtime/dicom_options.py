"""How DICOM files are read."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.errors import InputError

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
    """

    invert_monochrome1: bool = True
    frame: int | None = None
    voi_lut: bool = False
    padding: str = "auto"

    def __post_init__(self) -> None:
        faults = []
        if self.frame is not None and (not isinstance(self.frame, int) or self.frame < 1):
            faults.append(f"dicom_frame={self.frame!r}; the number of a frame, from 1, or None is expected.")
        if self.padding not in PADDING:
            faults.append(f"pixel_padding={self.padding!r}; {' or '.join(map(repr, PADDING))} is expected.")
        if faults:
            raise InputError(" ".join(faults))
