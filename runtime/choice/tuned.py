"""What `python -m runtime tune` measured of a bundle on this machine: kept in the user's cache folder."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
import math
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from runtime.bundle import Bundle
from runtime.engines import PROVIDERS, first_gpu, processor_name
from runtime.engines.cores import find_cores
from runtime.errors import CxrEngineError
from runtime.files import read_json
from runtime.files.decode import decode
from runtime.files.whole_file import whole_file
from runtime.process.cache import CACHE_VARIABLE, cache_folder, cache_path

__all__ = [
    "GOALS",
    "NOUNS",
    "Row",
    "Tuning",
    "files_digest",
    "kept_file",
    "read_tuning",
    "this_machine",
    "write_tuning",
]

SCHEMA_VERSION = 1
GOALS = ("throughput", "latency")
NOUNS = {"text": "texts", "image": "images"}
_KIND = "tune"
_SHOWN_DIGITS = 16
_LOG = logging.getLogger("runtime")
_ENGINES = ("onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt")


@dataclass(frozen=True)
class Row:
    """One setting that was measured.

    Attributes:
        part: "text" or "image".
        provider: the engine; precision is what it computed in.
        threads: of the session; streams is the number of calls side by side.
        batch: tokens (text) or images (image) of one call.
        rate: texts or images a second in bulk work, the median of `rounds` rounds.
        milliseconds: one short text, or one image, alone.
        rounds: how often it was measured.
    """

    part: str
    provider: str
    precision: str
    threads: int
    streams: int
    batch: int
    rate: float
    milliseconds: float
    rounds: int

    def score(self, goal: str) -> float:
        """Larger is better."""
        return self.rate if goal == "throughput" else 1 / self.milliseconds

    def figure(self, goal: str) -> str:
        """What it is judged by, in words."""
        return f"{self.rate:.1f} {NOUNS[self.part]}/s" if goal == "throughput" else f"{self.milliseconds:.1f} ms"


@dataclass(frozen=True)
class Tuning:
    """What was measured of one bundle on one machine.

    Attributes:
        schema_version: of the file.
        machine: see `this_machine`.
        bundle: digest of the bundle's files.
        goal: what engines are chosen by: "throughput" or "latency".
        rows: what was measured.
    """

    schema_version: int
    machine: dict[str, str]
    bundle: str
    goal: str
    rows: tuple[Row, ...]


def this_machine() -> dict[str, str]:
    """What must be the same for times measured to hold: processor, cores, system, GPU, versions of the engines."""
    cores = find_cores()
    machine = {
        "processor": processor_name(),
        "cores": f"{cores.logical} logical, {cores.allowed} allowed, {cores.threads} threads",
        "system": f"{platform.system()} {platform.machine()}",
    }
    for name in _ENGINES:
        version = _version(name)
        if version is not None:
            machine[name] = version
    if PROVIDERS["cuda"].missing() is None:
        gpu = first_gpu()
        machine["gpu"] = gpu.name if gpu else "unknown"
    return machine


@functools.cache
def _version(package: str) -> str | None:
    with contextlib.suppress(Exception):  # PackageNotFoundError, or torn metadata
        return metadata.version(package)
    return None


def new_tuning(bundle: Bundle, goal: str, rows: tuple[Row, ...]) -> Tuning:
    """What was measured here and now."""
    return Tuning(SCHEMA_VERSION, this_machine(), files_digest(bundle), goal, rows)


def read_tuning(bundle: Bundle) -> Tuning | None:
    """What was stored of this bundle on this machine, or None.

    A file that cannot be used is left aside with a line of the logger "runtime": at level WARNING where it is damaged,
    at INFO where it is of another machine or of other versions of the engines. It never raises.
    """
    try:
        file = kept_file(_KIND, bundle, this_machine())
        if file is None:
            return None
        if file.is_file():
            return _read(file, bundle)
        if any(file.parent.glob(f"{file.name.partition('-')[0]}-*.json")):
            _LOG.info(
                "%s was tuned on another machine, or with other versions of the engines: not used. "
                "Tune it anew with: python -m runtime tune %s",
                bundle.root,
                bundle.root,
            )
    except OSError as error:
        _LOG.warning("What was tuned of %s cannot be read: %s", bundle.root, error)
    return None


def write_tuning(bundle: Bundle, tuning: Tuning) -> Path:
    """Store it for `runtime.load`. Rows stored earlier of parts that were not measured now are kept.

    Raises:
        CxrEngineError: the user's cache folder cannot be written.
    """
    folder = cache_folder(_KIND)
    file = kept_file(_KIND, bundle, tuning.machine)
    if folder is None or file is None:
        raise CxrEngineError(
            f"The choice could not be stored: the user's cache folder cannot be written. "
            f"Name another one with the environment variable {CACHE_VARIABLE}."
        )
    earlier = read_tuning(bundle)
    measured = {row.part for row in tuning.rows}
    kept = tuple(row for row in earlier.rows if row.part not in measured) if earlier else ()
    text = json.dumps(dataclasses.asdict(dataclasses.replace(tuning, rows=kept + tuning.rows)), indent=1)
    try:
        with whole_file(file) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CxrEngineError(f"The choice could not be stored: {error}") from None
    return file


def kept_file(kind: str, bundle: Bundle, machine: dict[str, str]) -> Path | None:
    """Where what was measured of a bundle on a machine is kept; None for a user without a home.

    Args:
        kind: of the cache folder.
        bundle: what was measured.
        machine: see `this_machine`.
    """
    folder = cache_path(kind)
    key = _sha256(json.dumps(machine, sort_keys=True))
    return folder and folder / f"{files_digest(bundle)[:_SHOWN_DIGITS]}-{key[:_SHOWN_DIGITS]}.json"


def files_digest(bundle: Bundle) -> str:
    """Of the files, not of the manifest: measuring fidelity anew changes no file that is computed with."""
    return _sha256("\n".join(f"{name} {entry.sha256}" for name, entry in sorted(bundle.manifest.files.items())))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _read(file: Path, bundle: Bundle) -> Tuning | None:
    try:
        data: Any = read_json(file)
        version = data.get("schema_version") if isinstance(data, dict) else None
        if version != SCHEMA_VERSION:
            raise ValueError(f"its schema version is {version!r}, {SCHEMA_VERSION} is expected")
        tuning: Tuning = decode(Tuning, data, file.name)
        if tuning.bundle != files_digest(bundle):
            raise ValueError("it belongs to another bundle")
        if tuning.machine != this_machine():
            raise ValueError("it belongs to another machine, or to other versions of the engines")
        _check(tuning)
    except ValueError as error:
        _LOG.warning("%s is not used: %s. Tune anew with: python -m runtime tune %s", file, error, bundle.root)
        return None
    return tuning


def _check(tuning: Tuning) -> None:
    """Hold against each value what no type says."""
    if tuning.goal not in GOALS:
        raise ValueError(f"its goal is {tuning.goal!r}")
    most = 8 * find_cores().logical
    for row in tuning.rows:
        times = (row.rate, row.milliseconds)
        sane = row.part in NOUNS and all(math.isfinite(value) and value > 0 for value in times)
        if not (sane and 1 <= row.threads <= most and 1 <= row.streams <= row.threads and row.batch >= 1):
            raise ValueError(f"it has an impossible row: {row}")
