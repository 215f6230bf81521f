"""A model repository on disk: models, the bundle, a record, a README."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from export.staging import staged
from export.triton.models import Model, graph_files, plan_models
from export.triton.options import Asked
from export.triton.readme import readme
from runtime.bundle import MANIFEST_NAME, Bundle, open_bundle
from runtime.errors import BundleError
from runtime.files import check_folder_destination, sha256_file
from runtime.process.version import __version__

__all__ = ["RECORD", "Written", "write_repository"]

# Says that a folder is a repository that was written here.
RECORD = "repository.json"
MODELS_FOLDER, BUNDLE_FOLDER = "models", "bundle"
_VERSION = "1"
_MODEL_PY = '''"""{summary}

Written by `python -m export triton`; what it does is in the package cxr-engine, by the task in config.pbtxt.
"""

from runtime.triton.model import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        out: the folder.
        models: in order, with their precisions where a graph was chosen.
        bundle: where models find the bundle.
    """

    out: Path
    models: tuple[Model, ...]
    bundle: str

    def record(self) -> dict[str, object]:
        """As JSON."""
        return {
            "repository": str(self.out),
            "bundle": self.bundle,
            "models": [
                {
                    "name": each.config.name,
                    "backend": each.config.backend,
                    "inputs": [tensor.name for tensor in each.config.inputs],
                    "outputs": [tensor.name for tensor in each.config.outputs],
                    **({"file": each.graph.artifact.file, "precision": each.graph.precision} if each.graph else {}),
                }
                for each in self.models
            ],
        }


def write_repository(
    bundle: str | os.PathLike[str], out: Path, asked: Asked, *, force: bool, note: Callable[[str], None]
) -> Written:
    """Write a model repository from a bundle, whole or not at all.

    Args:
        bundle: the bundle's folder. Copies are compared with the manifest's sha256.
        out: folder to write: `models`, which Triton is given, `bundle`, README.md and a record.
        asked: what is wanted.
        force: replace a repository that is there.
        note: called with a line for the user.

    Raises:
        BundleError: no bundle, files that changed, or it lacks what is asked for.
        DestinationError: `out` cannot be written or must not be replaced.
        InputError: `out` lies in the bundle or holds it; something that there is not was asked for.
        ProviderError: an engine refuses the precision.
    """
    opened = open_bundle(bundle)
    files = [opened.path(name) for name in (MANIFEST_NAME, *opened.manifest.files)]
    check_folder_destination(out, files, [opened.root])
    models = plan_models(opened, asked)
    with staged(out, force, note, mark=RECORD, what="model repository") as stage:
        copied = _copied(opened, stage / BUNDLE_FOLDER) if asked.bundle_at is None else opened
        for model in models:
            _write_model(copied, stage / MODELS_FOLDER / model.config.name, model)
        place = asked.bundle_at or BUNDLE_FOLDER
        written = Written(out, tuple(models), place)
        (stage / "README.md").write_text(readme(opened.manifest, models, asked), encoding="utf-8")
        about = {
            "written_by": f"cxr-engine {__version__}",
            "family": opened.manifest.family,
            "manifest_sha256": sha256_file(opened.path(MANIFEST_NAME)),
        }
        stated = {key: value for key, value in written.record().items() if key != "repository"}
        (stage / RECORD).write_text(json.dumps(about | stated, indent=2) + "\n", encoding="utf-8")
    return written


def _copied(bundle: Bundle, folder: Path) -> Bundle:
    """A copy of a bundle, every file of which is what the manifest says."""
    for name in (MANIFEST_NAME, *bundle.manifest.files):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle.path(name), folder / name)
    copied = open_bundle(folder)
    copied.verify(copied.manifest.files)
    return copied


def _write_model(bundle: Bundle, folder: Path, model: Model) -> None:
    version = folder / _VERSION
    version.mkdir(parents=True)
    (folder / "config.pbtxt").write_text(model.config.to_pbtxt(), encoding="utf-8")
    if model.config.backend == "python":
        (version / "model.py").write_text(_MODEL_PY.format(summary=model.config.summary), encoding="utf-8")
    _write_warm_ups(folder / "warmup", model.files)
    if model.graph is not None:
        for name, other in graph_files(model.graph.artifact).items():
            _link_or_copy(bundle.path(name), version / other)
            if sha256_file(version / other) != bundle.manifest.files[name].sha256:
                bundle.verify([name])  # says which and what to do
                raise BundleError(f"{bundle.path(name)} was changed while it was copied. Try again.")


def _write_warm_ups(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)


def _link_or_copy(source: Path, target: Path) -> None:
    """One file under two names where the file system can: graphs lie in the bundle's copy as well."""
    if source.parent.resolve().is_relative_to(target.parents[3].resolve()):
        try:
            os.link(source, target)
        except OSError:  # no hard links there
            pass
        else:
            return
    shutil.copyfile(source, target)
