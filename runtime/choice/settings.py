"""Everything an engine is opened by, once it is decided: what opens it here opens the same one in another process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from runtime.bundle import Bundle
from runtime.choice.precision import Choice
from runtime.image.dicom_options import DicomOptions

__all__ = ["EngineSettings", "PartSettings"]


@dataclass(frozen=True)
class PartSettings:
    """How a part is computed.

    Attributes:
        choice: the artifact and its precision.
        streams: calls side by side in bulk work.
        batch: tokens or images of one call in bulk work; None takes the engine's own.
    """

    choice: Choice
    streams: int
    batch: int | None


@dataclass(frozen=True)
class EngineSettings:
    """What an engine is opened by; pickled with it.

    Attributes:
        bundle: its folder, and the manifest with the digests that its files must have.
        provider: name of the inference engine.
        reason: why this one.
        parts: those loaded.
        threads: that compute.
        share: see `runtime.load`.
        dicom: how DICOM files are read.
        fast_decode: see `runtime.load`; refuse_long and text_cache alike.
    """

    bundle: Bundle
    provider: str
    reason: str
    parts: Mapping[str, PartSettings]
    threads: int
    share: bool
    dicom: DicomOptions
    fast_decode: bool
    refuse_long: bool
    text_cache: int

    def alone(self, part: str) -> EngineSettings:
        """The same of one part."""
        return replace(self, parts={part: self.parts[part]})
