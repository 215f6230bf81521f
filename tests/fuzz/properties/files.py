"""JSON files of the project's own: manifest, index, job, tuning. The independent reader is `json` with a plain walk."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from runtime.archive.job import read_job
from runtime.bundle import Manifest
from runtime.errors import BundleError, CxrEngineError, InputError
from runtime.retrieval.index_folder import ABOUT, IndexedItem, Origin, read_about, write_folder
from tests.fuzz.property import Property, scratch_folder

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from((0, -1, 1, 2**31, 2**64, 10**400))
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(("", "..", "/etc/passwd", "\ud800", "a\0b", "x" * 5000))
)
_ANYTHING = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_STEPS = st.lists(st.integers(0, 40), max_size=6)


def edited_json(valid: Any) -> SearchStrategy[str]:
    """The text of a valid document with up to three of its values or keys replaced, taken out or added."""
    edit = st.tuples(st.sampled_from(("set", "remove", "add")), _STEPS, _ANYTHING, st.text(max_size=5))
    return st.lists(edit, max_size=3).map(lambda edits: json.dumps(_edited(valid, edits)))


def _edited(valid: Any, edits: list[tuple[str, list[int], Any, str]]) -> Any:
    document = json.loads(json.dumps(valid))
    for kind, steps, value, key in edits:
        parent: Any = None
        place: Any = None
        here = document
        for step in steps or [0]:
            if not isinstance(here, (dict, list)) or not here:
                break
            places = list(here) if isinstance(here, dict) else range(len(here))
            parent, place = here, places[step % len(places)]
            here = parent[place]
        if kind == "add" and isinstance(here, dict):
            here[key] = value
        elif kind == "remove" and isinstance(parent, dict):
            del parent[place]
        elif parent is not None:
            parent[place] = value
    return document


def same_as_json(read: Any, document: Any) -> bool:
    """Whether a frozen dataclass, as `asdict` gives it, says what the JSON says; keys with defaults may be absent."""
    if isinstance(read, dict) and isinstance(document, dict):
        return all(key in read and same_as_json(read[key], value) for key, value in document.items())
    if isinstance(read, (tuple, list)) and isinstance(document, list):
        return len(read) == len(document) and all(map(same_as_json, read, document))
    if isinstance(read, bool) is not isinstance(document, bool):
        return False
    return bool(read == document) or (read != read and document != document)


@cache
def handmade_manifest() -> dict[str, Any]:
    """The manifest of a small bundle, which lies in the scratch folder."""
    from tests.runtime.handmade import artifact, fp32, write_bundle

    folder = write_bundle(scratch_folder() / "handmade", text=[fp32()], image=[artifact(name="picture")])
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


def check_manifest(text: str) -> None:
    """`Manifest.from_json` says what the JSON says, or raises BundleError."""
    try:
        found = Manifest.from_json(text, Path("manifest.json"))
    except BundleError:
        return
    assert same_as_json(asdict(found), json.loads(text))
    assert Manifest.from_json(found.to_json(), Path("again")) == found or "NaN" in found.to_json()


def check_manifest_bytes(data: bytes) -> None:
    """A bundle with any bytes as its manifest opens or raises BundleError."""
    from runtime.bundle import open_bundle

    handmade_manifest()
    folder = scratch_folder() / "handmade"
    (folder / "manifest.json").write_bytes(data)
    try:
        bundle = open_bundle(folder)
    except BundleError:
        return
    assert same_as_json(asdict(bundle.manifest), json.loads(data.decode("utf-8-sig")))


def check_loading(text: str) -> None:
    """A bundle whose manifest lies loads and answers, or raises one of the project's errors."""
    import runtime

    handmade_manifest()
    folder = scratch_folder() / "handmade"
    (folder / "manifest.json").write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        engine = runtime.load(folder, provider="cpu", threads=1)
        engine.text.encode("no effusion")
        engine.image.encode(_film())
    except CxrEngineError:
        return


@cache
def _film() -> Any:
    import numpy as np

    return np.random.default_rng(0).integers(0, 255, (140, 150), dtype=np.uint8)


@cache
def _index() -> tuple[Path, dict[str, Any]]:
    import numpy as np

    folder = scratch_folder() / "index"
    origin = Origin("text", "biovil", "0" * 64, {"weights": "0" * 64}, "cpu", "fp32", True)
    vectors = np.eye(3, 4, dtype=np.float32)
    write_folder(folder, origin, vectors, [IndexedItem(f"item {number}", "a text") for number in range(3)])
    return folder, json.loads((folder / ABOUT).read_text(encoding="utf-8"))


def check_index(text: str) -> None:
    """An index is read as its JSON says, or raises InputError."""
    folder, _ = _index()
    (folder / ABOUT).write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        found = read_about(folder)
    except InputError:
        return
    assert same_as_json(asdict(found), json.loads(text))


_SETTINGS = {"part": "text", "part_rows": 8, "inputs": [{"name": "a.csv", "bytes": 3}], "model_digest": "0"}


def check_job(text: str) -> None:
    """A run is resumed with the very settings it was begun with, or raises InputError."""
    path = scratch_folder() / "_job.json"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        finished = read_job(path, _SETTINGS)
    except InputError:
        return
    job = json.loads(text)
    assert job["settings"] == _SETTINGS
    assert finished == (job["finished"] is not None)


def _lazily(valid: Callable[[], Any]) -> SearchStrategy[str]:
    return st.deferred(lambda: edited_json(valid()))


PROPERTIES: Mapping[str, Property] = {
    "manifest": Property(_lazily(handmade_manifest), check_manifest),
    "manifest-bytes": Property(None, check_manifest_bytes, lambda: (json.dumps(handmade_manifest()).encode(),)),
    "bundle": Property(_lazily(handmade_manifest), check_loading),
    "index": Property(_lazily(lambda: _index()[1]), check_index),
    "job": Property(edited_json({"format": 1, "settings": _SETTINGS, "finished": None}), check_job),
}
