"""Trained checkpoints are kept until something that determines their weights changes."""

from __future__ import annotations

import ast
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

__all__ = ["cached", "digest"]

_ROOT = Path(__file__).resolve().parents[3]
# What initializes weights, computes their gradients and reads captions.
_LIBRARIES = ("torch", "transformers", "tokenizers")


def cached(
    train: Callable[[Path], None], made_of: Sequence[ModuleType], further: str = "", folder: Path | None = None
) -> Path:
    """Train a model, or take it from the cache.

    Args:
        train: the function `train` of a module here: writes a checkpoint into an existing, empty folder.
        made_of: the modules whose code determines the weights, beside that of `train`.
        further: what else determines them.
        folder: the cache; None takes $CXR_TRAINED_CACHE, else `.cache` in the repository.

    Returns:
        A folder, named by the model and the digest of what determines its weights.
    """
    cache = (folder or Path(os.environ.get("CXR_TRAINED_CACHE", _ROOT / ".cache"))).resolve()
    name = train.__module__.rpartition(".")[2]
    checkpoint = cache / f"trained-{name}-{digest([sys.modules[train.__module__], *made_of], further)}"
    if checkpoint.is_dir():
        return checkpoint
    cache.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(prefix="training-", dir=cache))
    try:
        # A process of its own: it seeds torch's generator, and its threads sleep where they would otherwise spin, which
        # takes 2.5 times as long on processors that other work shares.
        subprocess.run(
            [sys.executable, "-m", "tests.trained", name, str(stage)],
            cwd=_ROOT,
            env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
            check=True,
        )
        stage.rename(checkpoint)
    except OSError:
        if not checkpoint.is_dir():  # else another process was faster
            raise
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return checkpoint


def digest(made_of: Sequence[ModuleType], further: str = "") -> str:
    """Of the code of modules, of the libraries' versions, and of what else is given: 16 hexadecimal digits."""
    found = hashlib.sha256("\n".join(f"{name} {version(name)}" for name in _LIBRARIES).encode())
    found.update(further.encode())
    for module in made_of:
        found.update(_code(Path(str(module.__file__))))
    return found.hexdigest()[:16]


def _code(file: Path) -> bytes:
    """What a module does: its code without comments and docstrings, however it is laid out."""
    module = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(module):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            del node.body[0]
    return ast.dump(module).encode()
