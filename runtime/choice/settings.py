"""Everything an engine is opened by, once it is decided: what opens it here opens the same one in another process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from runtime.bundle.folder import Bundle
from runtime.choice.opening import open_sessions, open_text
from runtime.choice.precision import Choice
from runtime.engine import Engine
from runtime.engines.providers import Provider, choose_provider
from runtime.engines.session import SessionOptions
from runtime.errors import ProviderError
from runtime.image.dicom_options import DicomOptions
from runtime.process.cache import cache_root
from runtime.text.encoder import TextEncoder

if TYPE_CHECKING:
    from runtime.image.encoder import ImageEncoder

__all__ = ["EngineSettings", "PartSettings", "open_engine"]


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
        fast_decode: see `runtime.load`.
    """

    bundle: Bundle
    provider: str
    reason: str
    parts: Mapping[str, PartSettings]
    threads: int
    share: bool
    dicom: DicomOptions
    fast_decode: bool

    def alone(self, part: str) -> EngineSettings:
        """The same of one part."""
        return replace(self, parts={part: self.parts[part]})


def open_engine(settings: EngineSettings, provider: Provider) -> Engine:
    """Open an engine as it was decided.

    Args:
        settings: what was decided.
        provider: the inference engine of that name.

    Raises:
        BundleError: a file was changed.
        ProviderError: the inference engine cannot open it.
    """
    bundle = settings.bundle
    cache = cache_root()
    options = {
        part: SessionOptions(settings.threads, each.choice.precision, share=settings.share, cache=cache)
        for part, each in settings.parts.items()
    }
    sessions = {
        part: open_sessions(bundle, each.choice, provider, options[part], each.streams)
        for part, each in settings.parts.items()
    }
    text, image = None, None
    if "text" in sessions:
        each = settings.parts["text"]
        text = open_text(
            bundle,
            each.choice,
            provider,
            sessions["text"],
            each.batch,
            masks=options["text"],
            reduced=(_reopen_text, (settings.alone("text"),)),
        )
    if "image" in sessions:
        from runtime.image.encoder import ImageEncoder  # Pillow is imported with the first image part

        image = ImageEncoder(
            bundle.image_part(),
            sessions["image"],
            settings.dicom,
            fast_decode=settings.fast_decode,
            threads=settings.threads,
            batch=settings.parts["image"].batch or provider.batch["image"],
            reduced=(_reopen_image, (settings.alone("image"),)),
        )
    bundle.files.in_use = True
    choices = {part: each.choice for part, each in settings.parts.items()}
    return Engine(bundle, settings.provider, choices, text, image, settings.reason, (_reopen, (settings,)))


def _reopen(settings: EngineSettings) -> Engine:
    """The engine that was pickled."""
    (provider,) = choose_provider(settings.provider)
    for each in settings.parts.values():
        refused = provider.refuses(each.choice.precision)
        if refused:
            raise ProviderError(refused)
    settings.bundle.files.in_use = True
    return open_engine(settings, provider)


def _reopen_text(settings: EngineSettings) -> TextEncoder:
    return _reopen(settings).text


def _reopen_image(settings: EngineSettings) -> ImageEncoder:
    return _reopen(settings).image
