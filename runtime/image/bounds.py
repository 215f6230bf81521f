"""What is decoded of files that come from strangers.

A header of a few bytes may claim any number of pixels, and a compressed stream may be a thousandth of what it inflates
to. So what a file says of itself is checked before anything is allocated or inflated, whichever format it is of.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from io import BytesIO

from runtime.errors import DecodeError

__all__ = ["FORMATS", "TOO_LARGE", "Bounds", "GuardedFile"]

# The formats that are read, by their names in `runtime.files.formats`.
FORMATS = ("PNG", "JPEG", "DICOM", "NIfTI")
# Of a reason, where memory ran out.
TOO_LARGE = "needs more memory than an image may take"
# Three channels of 16 bits, or one of float64.
_BYTES_OF_A_PIXEL = 8
# Of a file beside its pixels: DICOM's sequences, NIfTI's extensions.
_HEADER_BYTES = 16 << 20
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Bounds:
    """What is decoded of a file from a stranger. Reasons of refusals then quote nothing that a decoder says.

    Decoders of Pillow have a bound of their own, 179 million pixels, above which they refuse whatever stands here.

    Attributes:
        pixels: most of them in an image, those of all frames counted, by its header.
        formats: that are accepted, of `FORMATS`.
    """

    pixels: int
    formats: tuple[str, ...] = FORMATS

    @property
    def most_bytes(self) -> int:
        """Most bytes that the pixels of a frame may take, and what is inflated may have."""
        return _BYTES_OF_A_PIXEL * self.pixels + _HEADER_BYTES

    @property
    def accepted(self) -> str:
        """The formats in words."""
        *most, last = self.formats
        return f"{', '.join(most)} and {last}" if most else last

    def check_format(self, name: str) -> None:
        """Raise DecodeError for a format that is not accepted; `name` completes "is …"."""
        if not any(name.startswith(format_) for format_ in self.formats):
            raise DecodeError(f"is {name}, which is not accepted here; accepted are {self.accepted}")

    def check_size(self, width: int, height: int, frames: int = 1, sample_bytes: int = 1) -> None:
        """Raise DecodeError for an image of too many pixels, or of too many bytes.

        Args:
            width: by the header, as everything here.
            height: in pixels.
            frames: images in the file.
            sample_bytes: of a pixel, all channels together.
        """
        of_frames = f" in {frames:,} frames" if frames > 1 else ""
        if width * height * frames > self.pixels:
            raise DecodeError(
                f"has {width:,} × {height:,} pixels{of_frames} by its header; at most {self.pixels:,} pixels are "
                "accepted"
            )
        if width * height * sample_bytes > self.most_bytes:
            raise DecodeError(
                f"has {width:,} × {height:,} pixels of {sample_bytes} bytes by its header; at most {self.most_bytes:,} "
                "bytes are accepted"
            )

    def check_inflated(self, compressed: bytes) -> None:
        """Raise DecodeError where a raw deflate stream inflates to more bytes than are accepted; keeps none of them."""
        inflating, count = zlib.decompressobj(-zlib.MAX_WBITS), 0
        try:
            while compressed and not inflating.eof:
                count += len(inflating.decompress(compressed, _CHUNK))
                compressed = inflating.unconsumed_tail
                if count > self.most_bytes:
                    raise DecodeError(f"inflates to more than {self.most_bytes:,} bytes, the most that is accepted")
        except zlib.error:
            return  # of which its reader knows more


class GuardedFile(BytesIO):
    """A file for pydicom, which reads all that is left of one in order to inflate it, whatever that becomes."""

    def __init__(self, content: bytes, bounds: Bounds) -> None:
        super().__init__(content)
        self._bounds = bounds

    def read(self, size: int | None = -1, /) -> bytes:
        """So many bytes; all that are left once they were seen not to inflate beyond the bounds."""
        content = super().read(size)
        if size is None or size < 0:
            self._bounds.check_inflated(content)
        return content
