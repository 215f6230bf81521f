"""What an archive says of itself: of each part in the part's metadata, of each reject in a line of JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from runtime.archive.output import clean_id
from runtime.errors import InputError
from runtime.files import parse_json
from runtime.files.decode import decode
from runtime.files.text_files import decode_text

__all__ = ["Part", "Reject", "part_metadata", "read_part", "reject_line"]

_PART_KEY = "cxr_engine.part"


@dataclass(frozen=True)
class Reject:
    """An item that could not be used: its id, its position among all items from 0, and why."""

    id: str
    index: int
    reason: str


@dataclass(frozen=True)
class Part:
    """What a part says of itself.

    Attributes:
        items: how many items it covers, embedded or rejected.
        embedded: how many rows it has.
        sha256: digest of its items.
        rejects_bytes: length of the rejects file with this part's rejects.
    """

    items: int
    embedded: int
    sha256: str
    rejects_bytes: int


def part_metadata(part: Part) -> dict[str, str]:
    """What is added to the schema of a part's file, see `read_part`."""
    return {_PART_KEY: json.dumps(asdict(part))}


def reject_line(reject: Reject) -> bytes:
    """A reject as a line of JSON."""
    fields_of = {**asdict(reject), "id": clean_id(reject.id), "reason": clean_id(reject.reason)}
    return json.dumps(fields_of, ensure_ascii=False).encode("utf-8") + b"\n"


def read_part(path: Path) -> Part:
    """What the file of a part says of it.

    Raises:
        InputError: it cannot be read, or says what cannot be meant.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        metadata = pyarrow.parquet.read_metadata(path)
        part: Part = decode(Part, parse_json(decode_text(metadata.metadata[_PART_KEY.encode()])), "part")
        if not 0 <= part.embedded <= part.items or part.rejects_bytes < 0:
            raise ValueError(
                f"{part.items} items, {part.embedded} of them embedded, {part.rejects_bytes} bytes of rejects"
            )
    except (pyarrow.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} cannot be read ({error}). Remove it and all later parts: they are then made again."
        ) from None
    return part
