"""What `python -m runtime serve` was asked for; sent to worker processes as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runtime.choice import MIN_FIDELITY
from runtime.image.dicom_options import DicomOptions
from runtime.serve.limits import Limits
from runtime.serve.server_state import TASKS
from runtime.text.embedding_cache import TEXT_CACHE

__all__ = ["EngineOptions", "IndexFolder", "Settings"]


@dataclass(frozen=True)
class EngineOptions:
    """How every bundle is loaded: see `runtime.load`."""

    provider: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    min_fidelity: float = MIN_FIDELITY
    dicom: DicomOptions = field(default_factory=DicomOptions)
    fast_decode: bool = False
    refuse_long: bool = False
    text_cache: int = TEXT_CACHE
    share: bool = False
    trial: bool = True


@dataclass(frozen=True)
class IndexFolder:
    """An index, and the folder that its pictures' relative paths start from: None shows none."""

    name: str
    folder: Path
    root: Path | None = None


@dataclass(frozen=True)
class Settings:
    """All of a server's settings; picklable.

    Attributes:
        bundles: name → folder, the default one first.
        engine: how they are loaded.
        limits: every bound.
        indexes: that can be searched.
        task: what `POST /` is.
        page: whether `GET /` is the page for people.
        auto_truncate: whether texts that are too long are cut where neither request nor bundle says.
        decode_processes: child processes that decode images; 0 decodes on threads, None takes as many as suit
            the machine.
        host: to listen on.
        port: to listen on; 0 for a free one.
        uds: a Unix socket to listen on instead.
        key_file: of clients' keys.
        origins: whose pages may ask.
        drain_seconds: that requests under way have when the server is to stop.
        workers: processes.
        log_json: whether log lines are JSON.
    """

    bundles: Mapping[str, str]
    engine: EngineOptions = field(default_factory=EngineOptions)
    limits: Limits = field(default_factory=Limits)
    indexes: Sequence[IndexFolder] = ()
    task: str = TASKS[0]
    page: bool = True
    auto_truncate: bool = False
    decode_processes: int | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    uds: Path | None = None
    key_file: Path | None = None
    origins: Sequence[str] = ()
    drain_seconds: float = 30.0
    workers: int = 1
    log_json: bool = False
