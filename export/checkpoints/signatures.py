"""What a file is, by its first bytes: a name says what a file should be, and downloads are often something else.

Every file of a checkpoint is looked at here before it is read.
"""

from __future__ import annotations

import json
import re
import stat
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.errors import CheckpointError
from runtime.process.wording import few

__all__ = [
    "FOREIGN_WEIGHTS",
    "PICKLE",
    "SAFETENSORS",
    "TEXT",
    "identify",
    "read_json",
    "read_list",
    "read_text",
    "require",
]

# Formats that a checkpoint is made of. A pickle is what torch.save writes, of either kind: a zip or a bare one.
PICKLE, SAFETENSORS, TEXT = "pickle", "safetensors", "text"
_WORDS = {
    PICKLE: "a file of PyTorch's torch.save",
    SAFETENSORS: "a safetensors file",
    TEXT: "text",
}
_HEAD = 512
# A header of more is refused by the format's own reader.
_LONGEST_HEADER = 100_000_000

_AGAIN = "Fetch the file again"
_WHOLE = f"{_AGAIN} and compare its size with the original's"
_LOGIN = f"{_AGAIN} with `hf download REPO` (log in first where the model asks for it), not from a page's address"
_UNPACK = "Unpack it, and give the folder that holds config.json"
_TENSORFLOW = (
    "Convert it with transformers 4 and TensorFlow: AutoModelForMaskedLM.from_pretrained(FOLDER, from_tf=True)"
    ".save_pretrained(NEW)"
)
_FLAX = (
    "Convert it with transformers 4 and Flax: AutoModelForMaskedLM.from_pretrained(FOLDER, from_flax=True)"
    ".save_pretrained(NEW)"
)
_TRAINED = "Give the PyTorch checkpoint (model.safetensors or pytorch_model.bin) that it was made from"

# Weights of other tools, by the beginning or end of their names: what they are, what to do.
FOREIGN_WEIGHTS: tuple[tuple[str, str, str], ...] = (
    (r"tf_model.*\.h5", "TensorFlow weights", _TENSORFLOW),
    (r".*\.ckpt[-.](index|meta|data-.*)|.*\.ckpt-\d+\..*", "a TensorFlow checkpoint", _TENSORFLOW),
    (r"saved_model\.pb", "a TensorFlow model", _TENSORFLOW),
    (r"flax_model.*\.msgpack(\.index\.json)?", "Flax weights", _FLAX),
    (r".*\.onnx", "an ONNX graph", _TRAINED),
    (r".*\.gguf|.*\.ggml", "weights for llama.cpp (GGUF)", _TRAINED),
    (r"openvino_model\.(xml|bin)", "an OpenVINO graph", _TRAINED),
    (r"rust_model\.ot|.*\.mlmodel|.*\.mlpackage|.*\.tflite", "weights of another tool", _TRAINED),
    (
        r".*\.distcp|zero_to_fp32\.py|global_step\d+|mp_rank_.*\.pt",
        "weights in the pieces of distributed training (DeepSpeed, FSDP)",
        "Put them together where it was trained: `python zero_to_fp32.py . pytorch_model.bin` for DeepSpeed, "
        "`accelerate merge-weights FOLDER NEW` for FSDP",
    ),
    (
        r".*\.(incomplete|crdownload|part|partial|download|aria2)",
        "an unfinished download",
        _AGAIN,
    ),
)


@dataclass(frozen=True)
class _Signature:
    """A kind of file that is never part of a checkpoint."""

    matches: Callable[[bytes], object]
    what: str
    advice: str


def _begins(*prefixes: bytes) -> Callable[[bytes], object]:
    return lambda head: head.startswith(prefixes)


def _pattern(pattern: bytes) -> Callable[[bytes], object]:
    return re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:" + pattern + rb")", re.IGNORECASE | re.DOTALL).match


_SIGNATURES = (
    _Signature(
        _pattern(rb"version https://(git-lfs|hawser)\.github\.com/spec/"),
        "a Git LFS pointer, not the file that it points to",
        "Run `git lfs install && git lfs pull` in the cloned folder, or fetch the file with `hf download REPO`",
    ),
    _Signature(
        _pattern(rb"(\.\./)*(\.git|/)/?annex/objects/"),
        "a git-annex pointer, not the file that it points to",
        "Run `git annex get .` in the cloned folder",
    ),
    _Signature(
        _pattern(rb"(<!--.{0,300}?-->\s*)*<(!doctype\s+html|html|head|body|script|title|meta)\b"),
        "an HTML page, such as a login page or an error page",
        _LOGIN,
    ),
    _Signature(_pattern(rb"<\?xml|<error>"), "an XML page, such as the error of a download server", _LOGIN),
    _Signature(
        _pattern(
            rb"(entry not found|not found|file not found|repository not found|invalid username or password|unauthorized"
            rb"|forbidden|access denied|access to model|access to this|you are trying to access|internal server error"
            rb"|bad gateway|too many requests|rate limit|error[: ]|40[134]\b|50[0-4]\b)[^\n]{0,300}\s*$"
        ),
        "the error message of a server",
        _LOGIN,
    ),
    _Signature(_begins(b"\x1f\x8b"), "a gzip archive", _UNPACK),
    _Signature(_begins(b"BZh"), "a bzip2 archive", _UNPACK),
    _Signature(_begins(b"\xfd7zXZ\x00"), "an xz archive", _UNPACK),
    _Signature(_begins(b"\x28\xb5\x2f\xfd"), "a Zstandard archive", _UNPACK),
    _Signature(_begins(b"7z\xbc\xaf\x27\x1c"), "a 7-Zip archive", _UNPACK),
    _Signature(_begins(b"Rar!"), "a RAR archive", _UNPACK),
    _Signature(lambda head: head[257:262] == b"ustar", "a tar archive", _UNPACK),
    _Signature(_begins(b"\x89HDF\r\n\x1a\n"), "TensorFlow or Keras weights (HDF5)", _TENSORFLOW),
    _Signature(_begins(b"GGUF", b"GGML", b"ggml", b"tjgg", b"lmgg"), "weights for llama.cpp (GGUF)", _TRAINED),
    _Signature(_begins(b"\x93NUMPY"), "a NumPy array", _TRAINED),
    # A protobuf: ir_version, then producer_name or the graph.
    _Signature(re.compile(rb"\x08[\x01-\x20](\x12.{0,64}(\x1a|:|B|J)|:)", re.DOTALL).match, "an ONNX graph", _TRAINED),
    _Signature(re.compile(rb"[\xde\x80-\x8f].{0,4}[\xa0-\xbf\xd9](params|bert|cls|model|0)", re.DOTALL).match,
               "Flax weights (msgpack)", _FLAX),
    _Signature(_begins(b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"%PDF", b"\x7fELF", b"MZ"),
               "an image, a document or a program", _AGAIN),
    _Signature(
        _begins(b"\xff\xfe", b"\xfe\xff"),
        "text in UTF-16, as Windows writes it",
        "Save it as UTF-8 (without a byte-order mark)",
    ),
)  # fmt: skip


def identify(path: Path) -> str:
    """The format of a file: PICKLE, SAFETENSORS, or TEXT for everything else.

    Raises:
        CheckpointError: the file is empty, cut short, or something that is never part of a checkpoint; the message says
            what it is and what to do. Also where it cannot be read.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
            raise CheckpointError(f"{path} is {kind}, where a file is expected.")
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
    except OSError as error:
        raise unreadable(path, error) from None
    if not head:
        raise _refused(path, "an empty file: a copy or download that failed", _AGAIN)
    if not head.strip(b"\x00"):
        raise _refused(path, f"{status.st_size:,} bytes that begin with zeros: an unfinished download", _AGAIN)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _identify_zip(path)
    header = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and header <= _LONGEST_HEADER:
        _check_safetensors(path, header, status.st_size)
        return SAFETENSORS
    for signature in _SIGNATURES:
        if signature.matches(head):
            raise _refused(path, signature.what, signature.advice)
    return PICKLE if head[:1] == b"\x80" and head[1:2] in b"\x01\x02\x03\x04\x05" else TEXT


def require(path: Path, *formats: str) -> str:
    """The format of a file, which must be one of those named.

    Raises:
        CheckpointError: see `identify`; or another format of a checkpoint is in the file.
    """
    found = identify(path)
    if found not in formats:
        expected = " or ".join(_WORDS[each] for each in formats)
        what = "text or bytes of an unknown kind" if found == TEXT else _WORDS[found]
        raise _refused(path, f"{what}; {expected} is expected", _AGAIN)
    return found


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, with line ends as "\\n".

    Raises:
        CheckpointError: see `require`; or the file is not UTF-8.
    """
    require(path, TEXT)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not UTF-8: {error}. {_AGAIN}, or save it as UTF-8.") from None
    except OSError as error:
        raise unreadable(path, error) from None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        CheckpointError: see `read_text`; or it is not valid JSON, no object, or the error message of a server.
    """
    found = _parsed(path)
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} is not a valid JSON object: it holds a {type(found).__name__}. {_AGAIN}.")
    if found and found.keys() <= {"error", "message", "detail", "status", "statusCode", "errors", "code"}:
        raise _refused(path, f"the error message of a server ({str(found)[:100]})", _LOGIN)
    return found


def read_list(path: Path) -> list[Any]:
    """The list in a JSON file.

    Raises:
        CheckpointError: see `read_text`; or it is not valid JSON, or no list.
    """
    found = _parsed(path)
    if not isinstance(found, list):
        raise CheckpointError(f"{path} is not a valid JSON list: it holds a {type(found).__name__}. {_AGAIN}.")
    return found


def _parsed(path: Path) -> Any:
    try:
        return json.loads(read_text(path).removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise CheckpointError(f"{path} is not valid JSON: {reason}. {_AGAIN}.") from None


def unreadable(path: Path, error: OSError) -> CheckpointError:
    """An error of the system as one of a checkpoint."""
    if isinstance(error, FileNotFoundError) and path.is_symlink():
        return CheckpointError(f"{path} is a link to {path.readlink()}, which does not exist. {_AGAIN}.")
    return CheckpointError(f"{path} cannot be read: {error.strerror or error}.")


def _refused(path: Path, what: str, advice: str) -> CheckpointError:
    return CheckpointError(f"{path} cannot be read: it is {what}. {advice}.")


def _identify_zip(path: Path) -> str:
    """PICKLE for an archive of torch.save; anything else in a zip is refused."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        raise _refused(path, "a PyTorch or zip file that is damaged or cut short", _WHOLE) from None
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner:
        raise _refused(
            path,
            "a TorchScript archive, which holds code beside its weights",
            "Save its weights alone where it was made: torch.save(torch.jit.load(FILE).state_dict(), NEW)",
        )
    if "data.pkl" in inner:
        return PICKLE
    if names and all(name.endswith(".npy") for name in names):
        raise _refused(path, "NumPy arrays (.npz)", _TRAINED)
    raise _refused(path, f"a zip archive of files ({few(names, 3)})" if names else "an empty zip archive", _UNPACK)


def _check_safetensors(path: Path, header: int, size: int) -> None:
    """Compare the size that the header promises with the file's."""
    promised = 8 + header
    try:
        with path.open("rb") as stream:
            entries: Mapping[str, Any] = json.loads(stream.read(promised)[8:]) if promised <= size else {}
        ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
        promised += max(ends, default=0)
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        raise _refused(path, "a safetensors file whose header is damaged", _WHOLE) from None
    if size < promised:
        raise _refused(
            path,
            f"a safetensors file that is cut short: {size:,} bytes of the {promised:,} that it should have",
            _WHOLE,
        )
