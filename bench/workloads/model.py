"""The checkpoint and the bundle that are measured; made from random weights where none are given."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.errors import PeerError
from runtime import __version__
from runtime.bundle import MANIFEST_NAME, Bundle, open_bundle
from runtime.files import sha256_file

__all__ = ["Model", "prepare"]

# Speed does not depend on what int8 was calibrated with, but with less than this its answers can be far off: with 32
# texts the cosine of a single sentence was 0.976, with 300 it is 0.999. To calibrate with, and to judge by.
_TEXTS, _IMAGES = (64, 16), (16, 8)
_SAID = 2000

_MAKE = """
import sys
from pathlib import Path
from export.families import FAMILIES
from export.checkpoints.random_checkpoint import write_random_checkpoint
write_random_checkpoint(Path(sys.argv[1]), FAMILIES[sys.argv[2]], int(sys.argv[3]))
"""


@dataclass(frozen=True)
class Model:
    """The same weights twice: for the peers and for this engine."""

    checkpoint: Path
    bundle: Bundle

    @property
    def trained(self) -> bool:
        """Whether its embeddings mean anything."""
        return self.bundle.manifest.source.kind != "random"

    @property
    def digest(self) -> str:
        """sha256 of the bundle's manifest, which has those of all files."""
        return sha256_file(self.bundle.path(MANIFEST_NAME))


def prepare(
    checkpoint: Path | None,
    bundle: Path | None,
    family: str,
    precisions: str,
    seed: int,
    folder: Path,
    progress: Callable[[str], None],
) -> Model:
    """Open what is given and make what is not, in processes of their own, so that nothing of torch stays in this one.

    Args:
        checkpoint: folder in the hub's layout; None takes random weights.
        bundle: None exports the checkpoint.
        family: of `export.families.FAMILIES`.
        precisions: of the export, separated by commas.
        seed: of random weights.
        folder: where to put what is made; what an earlier run with the same family, precisions, seed and version left
            there is taken again.
        progress: called with what is going on.

    Raises:
        PeerError: the checkpoint cannot be exported, or a bundle came without its checkpoint or with another one.
        BundleError: the bundle cannot be opened.
    """
    if bundle is not None:
        if checkpoint is None:
            raise PeerError("a bundle needs its checkpoint: without the same weights nothing can be compared")
        opened = open_bundle(bundle)
        _check(opened, checkpoint)
        return Model(checkpoint, opened)
    _check_family(family)
    if checkpoint is not None:
        progress(f"exporting {checkpoint}")
        _export(family, checkpoint, folder / "bundle", precisions, [], progress)
        return Model(checkpoint, open_bundle(folder / "bundle"))
    made = folder / f"{family}-{precisions.replace(',', '-')}-seed{seed}-{__version__}"
    if not (made / "bundle").is_dir():  # it appears when it is complete
        progress("writing random weights of the real size")
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        _run(["-c", _MAKE, str(made / "checkpoint"), family, str(seed)], "random weights", progress)
        progress(f"exporting them in {precisions.replace(',', ', ')} (minutes)")
        _export(family, made / "checkpoint", made / "bundle", precisions, _less_data(), progress)
    return Model(made / "checkpoint", open_bundle(made / "bundle"))


def _check_family(family: str) -> None:
    from export.families import FAMILIES

    if family not in FAMILIES:
        raise PeerError(f"There is no family '{family}'; there are: {', '.join(FAMILIES)}.")


def _less_data() -> list[str]:
    """Options of an export that takes less time than one for use."""
    named = {
        "--calibration-texts": _TEXTS[0],
        "--held-out-texts": _TEXTS[1],
        "--calibration-image-count": _IMAGES[0],
        "--held-out-image-count": _IMAGES[1],
    }
    return [word for option, count in named.items() for word in (option, str(count))]


def _check(bundle: Bundle, checkpoint: Path) -> None:
    """Digests of the weights: of another checkpoint every answer would be wrong, and say so of the engine."""
    weights = bundle.manifest.source.weights
    for name, digest in weights.items():
        file = checkpoint / name
        if not file.is_file():
            raise PeerError(f"{checkpoint} has no {name}, which the bundle {bundle.root} was made of")
        if sha256_file(file) != digest:
            raise PeerError(f"{file} is not what the bundle {bundle.root} was made of: its sha256 is another one")


def _export(
    family: str, checkpoint: Path, out: Path, precisions: str, more: list[str], progress: Callable[[str], None]
) -> None:
    wanted = ",".join(dict.fromkeys(["fp32", *precisions.split(",")]))
    command = ["-m", "export", family, "--checkpoint", str(checkpoint), "--out", str(out), "--precision", wanted]
    # A report without a precision that was asked for would not say why.
    _run([*command, "--on-miss", "fail", *more], "the checkpoint could not be exported", progress)


def _run(arguments: list[str], what: str, progress: Callable[[str], None]) -> None:
    """Run Python to its end; what it begins ("[3] … …") goes to `progress`."""
    said = ""
    with subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        try:
            for line in process.stdout or ():
                if not line.startswith("["):
                    said = (said + line)[-_SAID:]
                elif line.endswith(("…\n", "...\n")):  # where the encoding lacks it
                    progress(f"  {line.strip()}")
        except BaseException:
            process.terminate()  # an export that is told to stop removes what it began
            raise
    if process.returncode:
        raise PeerError(f"{what}: {said.strip()}")
