"""Folders and files of embeddings, read again: a run that is resumed, and embeddings that are indexed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from runtime.archive.embedded import are_embeddings, read_embedded
from runtime.archive.folder import REJECTS, Archive
from runtime.archive.output import write_embeddings
from runtime.archive.records import Reject
from runtime.errors import InputError
from tests.fuzz.properties.files import edited_json
from tests.fuzz.property import Property, mutated, scratch_folder

_SETTINGS = {"model_digest": "0", "provider": "cpu", "precision": "fp32", "part_rows": 3, "inputs": []}
_MADE_BY = {
    "family": "biovil",
    "model_digest": "0" * 64,
    "provider": "cpu",
    "precision": "fp32",
    "weights": '{"w": "0"}',
}
PART = {
    "items": 3,
    "embedded": 2,
    "sha256": "0" * 64,
    "rejects_bytes": len(b'{"id": "c", "index": 2, "reason": "no text"}\n'),
}
_ROWS = np.eye(2, 4, dtype=np.float32)


@cache
def _run() -> tuple[Path, bytes]:
    """A run of one part with a reject, and the list of rejects."""
    folder = scratch_folder() / "run"
    with Archive(folder, _SETTINGS, _MADE_BY, resume=False) as archive:
        archive.write(["a", "b"], _ROWS, [Reject("c", 2, "no text")], "0" * 64)
    return folder, (folder / REJECTS).read_bytes()


def check_resumed(given: tuple[str, bytes]) -> None:
    """A run whose part or list of rejects says something else is resumed with what it says, or refused."""
    import pyarrow.parquet

    part, rejects = given
    folder, _ = _run()
    again = scratch_folder() / "again"
    shutil.rmtree(again, ignore_errors=True)
    shutil.copytree(folder, again)
    file = again / "part-00000.parquet"
    table = pyarrow.parquet.read_table(file)
    metadata = {**table.schema.metadata, b"cxr_engine.part": part.encode("utf-8", "surrogatepass")}
    pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), file)
    (again / REJECTS).write_bytes(rejects)
    try:
        with Archive(again, _SETTINGS, _MADE_BY, resume=True) as archive:
            found = [archive.rejected_indices(number) for number in range(len(archive.parts))]
    except InputError:
        return
    said = json.loads(part)
    assert [archive.items, archive.embedded] == [said["items"], said["embedded"]]
    lines = rejects[: said["rejects_bytes"]].decode("utf-8").split("\n") if said["rejects_bytes"] else []
    assert found == [{json.loads(line)["index"] for line in lines if line}]


@cache
def embedded_files() -> Sequence[bytes]:
    """A Parquet file of two embeddings, as it is written."""
    path = scratch_folder() / "seed.parquet"
    write_embeddings(path, ["a", "b"], _ROWS, _MADE_BY)
    return (path.read_bytes(),)


def check_embedded(data: bytes) -> None:
    """A Parquet file of embeddings says what pyarrow reads of it, or is refused."""
    path = scratch_folder() / "embedded.parquet"
    path.write_bytes(data)
    try:
        if not are_embeddings([str(path)]):
            return
        found = read_embedded([str(path)])
    except InputError:
        return
    _compare(path, found)


def _compare(path: Path, found: Any) -> None:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    assert found.ids == table["id"].to_pylist()
    np.testing.assert_array_equal(found.rows, np.array(table["embedding"].to_pylist(), np.float32))
    assert found.weights == json.loads(table.schema.metadata[b"weights"])


def check_made_by(metadata: dict[str, str]) -> None:
    """Embeddings with any metadata are read, or refused."""
    path = scratch_folder() / "made-by.parquet"
    write_embeddings(path, ["a", "b"], _ROWS, metadata)
    try:
        found = read_embedded([str(path)])
    except InputError:
        return
    _compare(path, found)


def _metadata() -> st.SearchStrategy[dict[str, str]]:
    values = edited_json({"w": "0"}) | st.text(max_size=20)
    others = st.dictionaries(st.sampled_from(sorted(_MADE_BY)), values, max_size=2)
    return others.map(lambda changed: _MADE_BY | {key: _encodable(value) for key, value in changed.items()})


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


PROPERTIES: Mapping[str, Property] = {
    "resumed run": Property(st.tuples(edited_json(PART), st.deferred(lambda: mutated([_run()[1]]))), check_resumed),
    "embedded file": Property(None, check_embedded, embedded_files),
    "made by": Property(_metadata(), check_made_by),
}
