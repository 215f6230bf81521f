"""A home folder in which nothing lies yet, and what runs in it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tests.conftest import ROOT
from tests.tracing import Trace, trace, why_not

__all__ = ["RUN_COMMANDS", "Machine", "commands"]

# Whatever a library might read.
_UNSET = ("ORT_DISABLE_", "CXR_", "HF_", "XDG_", "MPL", "TORCH", "TRITON_", "CUDA_CACHE", "CI", "PYTEST", "NNCF_")
# In one process, for the sake of time; the first argument is a list of commands in JSON.
RUN_COMMANDS = """
import json, sys
from runtime.__main__ import main
for arguments in json.loads(sys.argv[1]):
    status = main(arguments)
    assert status == 0, (status, arguments)
"""


def commands(bundle: Path, film: Path, provider: str) -> list[list[str]]:
    """Every command of `python -m runtime` with one engine."""
    named, picture, engine = str(bundle), str(film), ["--provider", provider]
    return [
        ["info", named],
        ["doctor", named],
        ["embed", named, "--text", "Clear lungs", "--out", "texts.npy", *engine],
        ["embed", named, picture, "--out", "image.parquet", *engine],
        ["similarity", named, picture, "Left pleural effusion", *engine],
        ["classify", named, picture, "--prompts", "chexpert", "--out", "labels.csv", *engine],
        ["fill-mask", named, "Moderate [MASK] effusion", *engine],
        ["ground", named, picture, "opacity", "--out", "ground.png", "--save-map", "map.npy", *engine],
        ["index", named, picture, "--out", "index", *engine],
        ["search", named, "index", "--text", "opacity", "--html", "sheet.html", *engine],
        ["tune", named, "--budget", "1", *engine],
    ]


@dataclass(frozen=True)
class Machine:
    """An empty home, and folders for what may be written."""

    root: Path

    @staticmethod
    def make(root: Path) -> Machine:
        """Its folders, and a film."""
        for name in ("home", "out", "tmp"):
            (root / name).mkdir()
        grey = np.random.default_rng(0).integers(0, 255, (128, 128), dtype=np.uint8)
        Image.fromarray(grey).resize((256, 256)).save(root / "film.png")
        return Machine(root)

    @property
    def film(self) -> Path:
        return self.root / "film.png"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def out(self) -> Path:
        return self.root / "out"

    def environment(self, **variables: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_UNSET)}
        places = {
            "HOME": str(self.home),
            "CXR_ENGINE_CACHE": str(self.root / "cache"),
            "TMPDIR": str(self.root / "tmp"),
        }
        # What a machine would send goes nowhere: to a port at which nobody listens.
        away = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
        return {**kept, **places, **away, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **variables}

    def run(self, *arguments: str, **variables: str) -> Trace:
        """Python with arguments; without strace, what lies in the home is what was written, and nobody was asked."""
        command, environment = [sys.executable, *arguments], self.environment(**variables)
        if why_not():
            options = {"cwd": self.out, "env": environment, "capture_output": True, "text": True, "timeout": 600}
            return Trace(frozenset(self.left()), (), subprocess.run(command, check=False, **options))
        return trace(command, self.root / "strace.log", environment, self.out)

    def left(self) -> set[Path]:
        """What lies in the home and among the temporary files."""
        return {path for folder in (self.home, self.root / "tmp") for path in folder.rglob("*")}

    def check(self, seen: Trace) -> None:
        """Nothing but what may be."""
        assert seen.process.returncode == 0, seen.process.stdout + seen.process.stderr
        allowed = (self.out, self.root / "cache", self.root / "tmp")
        strange = [path for path in sorted(seen.writes) if not any(path.is_relative_to(folder) for folder in allowed)]
        assert strange == []
        assert self.left() == set()
        assert seen.contacts == ()
