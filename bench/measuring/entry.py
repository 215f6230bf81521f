"""A contestant with how it is opened."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.record import GPU, Contestant
from runtime.engines import PROVIDERS, first_gpu, unavailable_reason

__all__ = ["Entry", "peers_python"]


@dataclass(frozen=True)
class Entry:
    """A contestant with how it is opened.

    Attributes:
        contestant: what the report says of it.
        opener: its name in `bench.peers.PEERS`.
        systems: what it can do: of "texts", "masks", "images", "joint", or "files" alone.
        modules: that must be installed.
        foreign: whether it runs in the environment of `make peers`.
        makes: name of what it has made of the checkpoint, where that takes minutes: see `bench.peers.made_once`.
        full: measured only where there is no bound on the time, or where it is asked for by name.
        seldom: where time is bound, takes part in the chief cases alone.
        left_out: why it is not measured, or "".
        told: what its worker is told beside what all are.
    """

    contestant: Contestant
    opener: str
    systems: tuple[str, ...]
    modules: tuple[str, ...] = ()
    foreign: bool = False
    makes: str = ""
    full: bool = False
    seldom: bool = False
    left_out: str = ""
    told: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the contestant."""
        return self.contestant.name

    @property
    def on_gpu(self) -> bool:
        """Whether it computes on a GPU."""
        return self.contestant.device == GPU

    @property
    def partner(self) -> str:
        """What it is compared with about masks in a precision whose words are not the reference's."""
        start, other = ("engine-", "every-token-") if self.opener == "engine" else ("every-token-", "engine-")
        return self.name.replace(start, other, 1)

    def unmade(self, place: Path) -> str:
        """Why it cannot be measured where nothing may be made that takes minutes, or "".

        Args:
            place: the folder of what was made.
        """
        if not self.makes or (place / self.makes).is_dir():
            return ""
        return "its int8 takes minutes to make: a run without --minutes does, and keeps it in the folder of --work"

    def unavailable(self) -> str:
        """Why it cannot be measured here, or ""."""
        if self.left_out:
            return self.left_out
        if self.foreign:
            return "" if peers_python() else "it runs in an environment of its own; set it up with: make peers"
        if self.on_gpu and first_gpu() is None:
            return "there is no NVIDIA GPU, or its driver does not answer; nvidia-smi tells"
        missing = [module for module in self.modules if importlib.util.find_spec(module) is None]
        if missing:
            return f"not installed: {', '.join(missing)}; pip install 'cxr-engine[bench]'"
        if "compile" in self.name and not any(shutil.which(name) for name in ("g++", "clang++")):
            return "torch.compile needs a C++ compiler, and there is none"
        provider = PROVIDERS.get(self.contestant.provider)
        if provider is not None:
            return unavailable_reason(provider) or provider.refuses(self.contestant.precision) or ""
        return ""


def peers_python() -> Path | None:
    """The interpreter of the environment that `make peers` sets up, or None."""
    named = os.environ.get("CXR_PEERS_PYTHON")
    own = Path(__file__).resolve().parents[2] / ".venv-peers" / "bin" / "python"
    return Path(named) if named else own if own.is_file() else None
