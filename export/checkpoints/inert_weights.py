"""Files of torch.save that hold other objects beside tensors, read without running or importing anything of theirs.

torch's own safe reader refuses such a file whole. Here tensors come out of it, what else there is stays a description;
see `export.checkpoints.inert_pickle`.

Source: torch, `serialization.py` (both formats) and `_utils.py` (`_rebuild_tensor_v2`, `_rebuild_parameter`).
"""

from __future__ import annotations

import io
import math
import mmap
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, cast

import torch

from export.checkpoints.inert_pickle import Named, PickleDamageError, read_pickle
from export.checkpoints.signatures import PICKLE, require, unreadable
from export.errors import CheckpointError

__all__ = ["InertFile", "StoredTensor", "read_inert"]

# Storages by the name of their class; others (quantized, complex) are in no checkpoint that is read so.
_STORAGES: Mapping[str, torch.dtype] = MappingProxyType(
    {
        "torch.FloatStorage": torch.float32,
        "torch.DoubleStorage": torch.float64,
        "torch.HalfStorage": torch.float16,
        "torch.BFloat16Storage": torch.bfloat16,
        "torch.LongStorage": torch.int64,
        "torch.IntStorage": torch.int32,
        "torch.ShortStorage": torch.int16,
        "torch.CharStorage": torch.int8,
        "torch.ByteStorage": torch.uint8,
        "torch.BoolStorage": torch.bool,
    }
)
# Of the older format, which is a row of pickles: its first and second one.
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_COUNT_BYTES = 8
# Numbers of elements are below it.
_MOST = 1 << 48
# Of what is no tensor; the largest published checkpoints take a few hundred kilobytes.
_LONGEST_PICKLE = 1 << 28
_AGAIN = "Fetch it again and compare its size with the original's"


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: torch.dtype
    length: int


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor that was not read yet: a part of a storage, in elements of it."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class InertFile:
    """What a file of torch.save holds.

    Attributes:
        path: of the file.
        content: numbers, text, containers, `StoredTensor`, `Named` and `Record`.
    """

    path: Path
    content: Any
    _read: Callable[[_Storage], bytes]

    def tensors(self, stored: Mapping[str, StoredTensor]) -> dict[str, torch.Tensor]:
        """Read some of its tensors.

        Args:
            stored: name → tensor of `content`.

        Returns:
            Name → tensor of its own memory, on the CPU.

        Raises:
            CheckpointError: a storage is missing, damaged or of another size, or a tensor reaches beyond it.
        """
        try:
            return {name: self._tensor(name, each) for name, each in stored.items()}
        except OSError as error:
            raise unreadable(self.path, error) from None
        except PickleDamageError as error:
            raise _damaged(self.path, str(error)) from None

    def _tensor(self, name: str, stored: StoredTensor) -> torch.Tensor:
        storage, size, stride = stored.storage, stored.size, stored.stride
        count = math.prod(size)
        last = stored.offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
        # A tensor of more elements than its storage has would be a repetition of them, of any size.
        if count > storage.length or (count and last >= storage.length):
            raise PickleDamageError(f"the tensor {name} of shape {size} reaches beyond its {storage.length} values")
        if not count:
            return torch.empty(size, dtype=storage.dtype)
        data = self._read(storage)
        if len(data) != storage.length * storage.dtype.itemsize:
            raise PickleDamageError(f"the values of {name} take {len(data)} bytes, not what its type and number say")
        values = torch.frombuffer(bytearray(data), dtype=storage.dtype)
        return values.as_strided(size, stride, stored.offset).clone(memory_format=torch.contiguous_format)


def read_inert(path: Path) -> InertFile:
    """Read what a file of torch.save describes; its tensors when they are asked for.

    Args:
        path: of either format, the zip or the older row of pickles.

    Raises:
        CheckpointError: no such file, damaged, or of a kind that torch.save does not write.
    """
    require(path, PICKLE)
    try:
        with path.open("rb") as stream:  # of a row of pickles a zip could be the end
            reader = _read_zip if stream.read(2) == b"PK" else _read_row
        return reader(path)
    except OSError as error:
        raise unreadable(path, error) from None
    except PickleDamageError as error:
        raise _damaged(path, str(error)) from None


def _damaged(path: Path, why: str) -> CheckpointError:
    return CheckpointError(f"{path} cannot be read: {why}. {_AGAIN}.")


def _read_zip(path: Path) -> InertFile:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        pickles = [entry.filename for entry in entries if entry.filename.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise PickleDamageError(f"it has {len(pickles)} files named data.pkl; one is expected")
        # torch stores its bytes as they are: what is compressed, or lies twice in the file, could be of any size.
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise PickleDamageError("its entries are compressed, which those of torch.save are not")
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise PickleDamageError("its entries overlap")
        if archive.getinfo(pickles[0]).file_size > _LONGEST_PICKLE:
            raise PickleDamageError("what is no tensor in it takes more than 256 MiB")
        folder = pickles[0].removesuffix("data.pkl")
        if _entry(archive, f"{folder}byteorder") not in (None, b"little"):
            raise PickleDamageError("its numbers are those of a big-endian machine")
        content = read_pickle(io.BytesIO(_entry(archive, pickles[0]) or b""), _storage, _REBUILD)

    def read(storage: _Storage) -> bytes:
        with zipfile.ZipFile(path) as again:
            found = _entry(again, f"{folder}data/{storage.key}")
        if found is None:
            raise PickleDamageError(f"it lacks the values {storage.key} of its tensors")
        return found

    return InertFile(path, content, read)


def _entry(archive: zipfile.ZipFile, name: str) -> bytes | None:
    """The bytes of an entry; None where there is none."""
    try:
        return archive.read(name)
    except KeyError:
        return None
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise PickleDamageError(f"its entry {name} is damaged ({error})") from None


def _read_row(path: Path) -> InertFile:
    """The older format: pickles of a magic number, a version, the machine, the content and the storages' keys; then
    each storage, its number of elements before it."""
    starts: dict[str, tuple[int, int]] = {}
    storages: dict[str, _Storage] = {}

    def remember(key: Any) -> Any:
        found = _storage(key)
        if isinstance(found, _Storage):
            known = storages.setdefault(found.key, found)
            if known != found:
                raise PickleDamageError(f"its storage {found.key} has two types or sizes")
        return found

    # Of a mapped file no more is read than there is, whatever a length in it says.
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        stream = cast("IO[bytes]", mapped)
        if read_pickle(stream) != _MAGIC or read_pickle(stream) != _PROTOCOL:
            raise PickleDamageError("it is a pickle, but no file of torch.save")
        read_pickle(stream)
        content = read_pickle(stream, remember, _REBUILD)
        keys = read_pickle(stream)
        if not isinstance(keys, list) or not all(isinstance(key, str) and key in storages for key in keys):
            raise PickleDamageError("its list of storages is damaged")
        for key in keys:
            count = int.from_bytes(stream.read(_COUNT_BYTES), "little", signed=True)
            length = storages[key].length * storages[key].dtype.itemsize
            if count != storages[key].length or stream.tell() + length > len(mapped):
                raise PickleDamageError(f"its storage {key} is cut short or of another size")
            starts[key] = stream.tell(), length
            stream.seek(length, 1)

    def read(storage: _Storage) -> bytes:
        start, length = starts.get(storage.key, (0, -1))
        if length < 0:
            raise PickleDamageError(f"it lacks the values {storage.key} of its tensors")
        with path.open("rb") as again:
            again.seek(start)
            return again.read(length)

    return InertFile(path, content, read)


def _storage(key: Any) -> Any:
    """What torch's persistent ids stand for; kinds that are not read stay the ids that they are."""
    if not isinstance(key, tuple) or len(key) < 5 or key[0] != "storage":
        raise PickleDamageError("it refers to something that is no storage")
    _, kind, name, _, length = key[:5]
    if not isinstance(name, str) or not isinstance(length, int) or length < 0:
        raise PickleDamageError("it refers to a storage in a way that torch does not")
    if not isinstance(kind, Named) or kind.name not in _STORAGES:
        return key
    return _Storage(name, _STORAGES[kind.name], length)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Any:
    if not isinstance(storage, _Storage):
        return Named("torch.Tensor")  # of a kind that is not read
    numbers = (offset, *size, *stride)
    if len(size) != len(stride) or any(type(each) is not int or not 0 <= each < _MOST for each in numbers):
        raise PickleDamageError("it has a tensor whose shape is none")
    return StoredTensor(storage, offset, tuple(size), tuple(stride))


def _dictionary(*items: Any) -> dict[Any, Any]:
    if items:
        raise PickleDamageError("it has a dictionary in a spelling that torch does not write")
    return {}


# What stands in for the functions that a file of torch.save names.
_REBUILD: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "collections.OrderedDict": _dictionary,
        "torch._utils._rebuild_tensor": _tensor,
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._utils._rebuild_parameter": lambda data, *_: data,
        "torch.Size": lambda size: tuple(size),
    }
)
