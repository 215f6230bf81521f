"""JPEG 2000 by the library OpenJPEG, which Pillow brings along, on several threads and without Python's lock.

GDCM, pylibjpeg and Pillow's own reader keep that lock while they decode, so that files on several threads are decoded
one after the other, and nothing else goes on meanwhile. ctypes releases it. GDCM also hands its 10 MB out as a string.

Source: OpenJPEG 2.5, `openjpeg.h`. What is declared here has been the same since 2.2.
"""

from __future__ import annotations

import ctypes
from contextlib import ExitStack, suppress
from ctypes import POINTER, c_char_p, c_int, c_int32, c_int64, c_size_t, c_uint8, c_uint16, c_uint32, c_void_p
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL

__all__ = [
    "DECODER_DEPENDENCIES",
    "SYNTAXES",
    "THREADS",
    "Words",
    "decode",
    "decode_frame",
    "decoder",
    "is_available",
    "prepare",
]

# DICOM's transfer syntaxes of JPEG 2000: without loss, and with or without it.
SYNTAXES = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")

# The option of pydicom's runner that says on how many threads a frame is decoded.
THREADS = "openjpeg_threads"
_NAMES = ("libopenjp2.so.7", "libopenjp2.7.dylib", "openjp2.dll")
_CODESTREAM, _FILE = 0, 2  # OPJ_CODEC_FORMAT
_CODESTREAM_START = b"\xff\x4f\xff\x51"
_PARAMETERS_BYTES = 1 << 16  # of opj_dparameters_t, which has 8,3xx
_NO_MORE = c_size_t(-1).value


class _Component(ctypes.Structure):
    """opj_image_comp_t"""

    _fields_ = (
        *((name, c_uint32) for name in ("dx", "dy", "w", "h", "x0", "y0", "prec", "bpp", "sgnd", "resno", "factor")),
        ("data", POINTER(c_int32)),
        ("alpha", c_uint16),
    )


class _Image(ctypes.Structure):
    """opj_image_t"""

    _fields_ = (
        *((name, c_uint32) for name in ("x0", "y0", "x1", "y1", "numcomps")),
        ("color_space", c_int),
        ("comps", POINTER(_Component)),
        ("icc_profile_buf", POINTER(c_uint8)),
        ("icc_profile_len", c_uint32),
    )


_Read = ctypes.CFUNCTYPE(c_size_t, c_void_p, c_size_t, c_void_p)
_Skip = ctypes.CFUNCTYPE(c_int64, c_int64, c_void_p)
_Seek = ctypes.CFUNCTYPE(c_int, c_int64, c_void_p)
# Function → what it returns and takes.
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "opj_version": (c_char_p, ()),
    "opj_create_decompress": (c_void_p, (c_int,)),
    "opj_set_default_decoder_parameters": (None, (c_void_p,)),
    "opj_setup_decoder": (c_int, (c_void_p, c_void_p)),
    "opj_codec_set_threads": (c_int, (c_void_p, c_int)),
    "opj_has_thread_support": (c_int, ()),
    "opj_stream_create": (c_void_p, (c_size_t, c_int)),
    "opj_stream_set_read_function": (None, (c_void_p, _Read)),
    "opj_stream_set_skip_function": (None, (c_void_p, _Skip)),
    "opj_stream_set_seek_function": (None, (c_void_p, _Seek)),
    "opj_stream_set_user_data_length": (None, (c_void_p, ctypes.c_uint64)),
    "opj_read_header": (c_int, (c_void_p, c_void_p, POINTER(POINTER(_Image)))),
    "opj_decode": (c_int, (c_void_p, c_void_p, POINTER(_Image))),
    "opj_end_decompress": (c_int, (c_void_p, c_void_p)),
    "opj_stream_destroy": (None, (c_void_p,)),
    "opj_destroy_codec": (None, (c_void_p,)),
    "opj_image_destroy": (None, (POINTER(_Image),)),
}


@cache
def _library() -> Any | None:
    """OpenJPEG as Pillow's wheel brings it, else as the system has it; None where there is none."""
    package = Path(PIL.__file__).parent
    bundled = [*(package.parent / "pillow.libs").glob("libopenjp2*"), *(package / ".dylibs").glob("libopenjp2*")]
    for name in (*map(str, bundled), *_NAMES):
        try:
            library = ctypes.CDLL(name)
            for function, (returned, taken) in _FUNCTIONS.items():
                found = getattr(library, function)
                found.restype, found.argtypes = returned, taken
        except (OSError, AttributeError):
            continue
        if library.opj_version().startswith(b"2."):
            return library
    return None


class Words(NamedTuple):
    """A decoded picture.

    Attributes:
        shape: rows and columns.
        bits: of a sample in the stream.
        size: bytes of a word: 1, 2 or 4, as few as hold a sample.
        words: row by row, little-endian; numbers below 0 as their two's complement.
    """

    shape: tuple[int, int]
    bits: int
    size: int
    words: bytearray


def decode(stream: bytes, threads: int = 1) -> Words:
    """Decode a grey picture.

    Args:
        stream: a codestream of JPEG 2000, or a JP2 file.
        threads: at work on it.

    Raises:
        ValueError: it is broken, or has several components.
        OSError: the library is not there.
    """
    library = _library()
    if library is None:
        raise OSError("OpenJPEG's library was not found.")
    with ExitStack() as held:
        codec = library.opj_create_decompress(_CODESTREAM if stream.startswith(_CODESTREAM_START) else _FILE)
        held.callback(library.opj_destroy_codec, codec)
        parameters = ctypes.create_string_buffer(_PARAMETERS_BYTES)
        library.opj_set_default_decoder_parameters(parameters)
        opened = library.opj_stream_create(max(1, len(stream)), True)
        held.callback(library.opj_stream_destroy, opened)
        source = _Source(stream)
        library.opj_stream_set_read_function(opened, source.read)
        library.opj_stream_set_skip_function(opened, source.skip)
        library.opj_stream_set_seek_function(opened, source.seek)
        library.opj_stream_set_user_data_length(opened, len(stream))
        ready = library.opj_setup_decoder(codec, parameters)
        if threads > 1 and library.opj_has_thread_support():
            library.opj_codec_set_threads(codec, threads)
        image = POINTER(_Image)()
        held.callback(lambda: library.opj_image_destroy(image))
        if not (ready and library.opj_read_header(opened, codec, ctypes.byref(image))):
            raise ValueError("its header cannot be read")
        if image.contents.numcomps != 1:
            raise ValueError(f"it has {image.contents.numcomps} components; one is expected")
        if not (library.opj_decode(codec, opened, image) and library.opj_end_decompress(codec, opened)):
            raise ValueError("it is broken or cut off")
        component = image.contents.comps[0]
        if not component.data:
            raise ValueError("it holds no samples")
        samples = np.ctypeslib.as_array(component.data, (component.h, component.w))
        bits = int(component.prec)
        size = 1 if bits <= 8 else 2 if bits <= 16 else 4
        words = bytearray(samples.size * size)
        np.copyto(np.frombuffer(words, f"<u{size}").reshape(samples.shape), samples, casting="unsafe")
        return Words(samples.shape, bits, size, words)


class _Source:
    """What a stream is read through: OpenJPEG asks for all of it at once."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0
        self.read, self.skip, self.seek = _Read(self._read), _Skip(self._skip), _Seek(self._seek)

    def _read(self, buffer: int, count: int, _: object) -> int:
        part = self._content[self._at : self._at + count]
        if not part:
            return int(_NO_MORE)
        ctypes.memmove(buffer, part, len(part))
        self._at += len(part)
        return len(part)

    def _skip(self, count: int, _: object) -> int:
        self._at += count
        return count

    def _seek(self, position: int, _: object) -> bool:
        self._at = position
        return position <= len(self._content)


# From here on what pydicom expects of a plugin.
DECODER_DEPENDENCIES: dict[str, tuple[str, ...]] = {}


def is_available(uid: str) -> bool:
    """Whether the library is there."""
    return _library() is not None


def decode_frame(source: bytes, runner: Any) -> bytearray:
    """A frame's words, in as many bytes as its precision needs.

    Args:
        source: the frame's stream.
        runner: pydicom's `DecodeRunner`.

    Raises:
        ValueError: see `decode`; or the picture is of another size than the header says.
    """
    shape, _, size, words = decode(source, runner.get_option(THREADS, 1))
    if shape != (runner.rows, runner.columns):
        raise ValueError(f"it has {shape[1]} × {shape[0]} pixels")
    runner.set_option("bits_allocated", 8 * size)
    return words


@cache
def decoder(syntax: str) -> Any:
    """pydicom's decoder of a transfer syntax with this plugin before its own ones, without a change to pydicom's.

    Args:
        syntax: UID of one of JPEG 2000.

    Returns:
        pydicom's own where OpenJPEG's library was not found.
    """
    from pydicom.pixels import get_decoder
    from pydicom.pixels.decoders.base import Decoder

    usual = get_decoder(syntax)
    if _library() is None:
        return usual
    own = Decoder(usual.UID)
    own.add_plugin("openjpeg", (__name__, decode_frame.__name__))
    for label, function in usual._available.items():
        own._available[label] = function
    return own


def prepare() -> None:
    """Find the library now, for a process that can open no file later."""
    if _library() is not None:
        for syntax in SYNTAXES:
            with suppress(ImportError):  # without pydicom nothing is decoded
                decoder(syntax)
