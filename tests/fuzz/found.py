"""What fuzzing found, each mended since: the property's name and the input, as small as the fuzzer could make it."""

from __future__ import annotations

import json
from typing import Any

from tests.fuzz.properties.archives import PART, embedded_files
from tests.fuzz.properties.files import handmade_manifest

__all__ = ["found"]


def found() -> list[tuple[str, object]]:
    """Name of the property and input, of everything that was found."""
    job = {"format": 1, "settings": {"part": "text", "part_rows": 8, "inputs": [None]}, "finished": None}
    return [
        ("job", json.dumps(job)),
        ("job", "[" * 100_000),
        ("manifest", "[" * 100_000),
        # The name of a column in another encoding, in Parquet's own schema.
        ("embedded file", embedded_files()[0].replace(b"embedding", b"embeddin\xe9")),
        *(("resumed run", (json.dumps(_changed_part(**values)), b"")) for values in _IMPOSSIBLE),
        *(("bundle", json.dumps(_changed(part, **values))) for part, values in _LIES),
    ]


_LIES = (
    ("text", {"embedding_size": 2**64}),
    ("text", {"embedding_size": 17}),
    ("text", {"tokenization": {"max_length": -1}}),
    ("image", {"grid": 0}),
    ("image", {"embedding_size": 17}),
    ("image", {"preprocessing": {"crop": 10**9, "size": 10**9}}),
)
_IMPOSSIBLE: tuple[dict[str, int], ...] = (
    {"rejects_bytes": -1},
    {"rejects_bytes": -(2**80)},
    {"items": -1, "embedded": -1},
)


def _changed_part(**values: int) -> dict[str, object]:
    return {**PART, **values}


def _changed(part: str, **values: Any) -> dict[str, object]:
    manifest = json.loads(json.dumps(handmade_manifest()))
    for name, value in values.items():
        manifest[part][name] = manifest[part][name] | value if isinstance(value, dict) else value
    return manifest
