"""What is done with a picture, in whichever process."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from runtime.bundle.parts import Preprocessing
from runtime.errors import CxrEngineError, DecodeError
from runtime.image import openjpeg
from runtime.image.bounds import TOO_LARGE, Bounds
from runtime.image.dicom_options import DicomOptions
from runtime.image.images import load_pixels, read_picture
from runtime.process.notices import Notice
from runtime.serve.decoding.answers import PICTURE, Answer, Expected

__all__ = ["ACCEPTED", "Work"]

# Formats that clients may send.
ACCEPTED = ("PNG", "JPEG", "DICOM")
# At work on one picture of JPEG 2000; there is a child for every two cores.
_THREADS = 2
_SIDE = 16  # of the pictures that warm a process up
# A DICOM file of 2 × 2 pixels, without file header: Rows, Columns and so on in implicit little endian.
_TINY = b"".join(
    struct.pack("<HHI", group, element, len(value)) + value
    for group, element, value in (
        (0x0008, 0x0016, b"1.2.840.10008.5.1.4.1.1.1\0"),
        (0x0008, 0x0060, b"CR"),
        (0x0028, 0x0002, b"\1\0"),
        (0x0028, 0x0004, b"MONOCHROME2 "),
        (0x0028, 0x0010, b"\2\0"),
        (0x0028, 0x0011, b"\2\0"),
        (0x0028, 0x0100, b"\x10\0"),
        (0x0028, 0x0101, b"\x10\0"),
        (0x0028, 0x0102, b"\x0f\0"),
        (0x0028, 0x0103, b"\0\0"),
        (0x7FE0, 0x0010, b"\0\0\1\0\2\0\3\0"),
    )
)


@dataclass(frozen=True)
class Work:
    """How pictures are decoded; the same for all of a bundle.

    Attributes:
        rule: of the bundle.
        dicom: how DICOM files are read.
        bounds: on what is decoded.
        fast_decode: see `runtime.load`.
    """

    rule: Preprocessing
    dicom: DicomOptions
    bounds: Bounds
    fast_decode: bool = False

    def __call__(self, kind: bytes, image: bytes) -> Answer:
        """Decode a picture: `PIXELS` of it, or the `PICTURE` itself. What is wrong with it is the answer's reason."""
        try:
            return self._picture(image) if kind == PICTURE else self._pixels(image)
        except (CxrEngineError, DecodeError) as error:  # a missing extra is the server's fault, and yet its answer
            return Answer(reason=str(error))
        except MemoryError:
            return Answer(reason=TOO_LARGE)
        except Exception as error:
            return Answer(reason=f"cannot be prepared ({type(error).__name__})")

    def expected(self, kind: bytes) -> Expected:
        """What an answer can be."""
        if kind == PICTURE:
            return Expected(None, self.bounds.pixels)
        return Expected(self.rule.shape, self.bounds.pixels)

    def touch(self) -> None:
        """Decode a picture that has next to no pixels."""
        self._pixels(_TINY)

    def warm(self) -> None:
        """Decode a picture of each kind, so that what is imported on the way is imported."""
        self.touch()
        openjpeg.prepare()
        grey = Image.fromarray(np.arange(_SIDE * _SIDE, dtype=np.uint8).reshape(_SIDE, _SIDE))
        for image in (grey, grey.convert("RGB")):
            for kind in ("PNG", "JPEG"):
                file = io.BytesIO()
                image.save(file, kind)
                self._pixels(file.getvalue())
                self._picture(file.getvalue())

    def _pixels(self, image: bytes) -> Answer:
        notices: list[Notice] = []
        loaded, faults = load_pixels(
            [image],
            self.rule,
            self.dicom,
            fast_decode=self.fast_decode,
            threads=_THREADS,
            on_notice=lambda _, found: notices.extend(found),
            bounds=self.bounds,
        )
        if faults:
            return Answer(reason=faults[0].reason)
        return Answer(pixels=loaded[0], notices=tuple(notices))

    def _picture(self, image: bytes) -> Answer:
        dicom = replace(self.dicom, threads=_THREADS)
        return Answer(picture=read_picture(image, self.rule.colours, dicom, bounds=self.bounds))
