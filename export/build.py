"""From a checkpoint to a bundle: export, compare, write; a bundle appears whole or not at all."""

from __future__ import annotations

import datetime
import json
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from export.checkpoints import Checkpoint, open_checkpoint
from export.checkpoints.bpe import write_bpe_tokenizer
from export.checkpoints.models import load_models
from export.checkpoints.tokenizer import write_tokenizer
from export.families import Family, ImageModel, JointModel, TextAxes
from export.parts import export_image, export_text
from export.precision import Lowering
from export.precision.misses import Misses
from export.progress import Steps
from export.proof import check_gates
from export.proof.input_parity import token_parity
from export.proof.parity import Progress
from export.proof.pixel_parity import pixel_parity, preprocessor_config
from export.proof.zero_shot import zero_shot_by_pytorch
from export.samples import ImageData, TextData, image_data, text_data
from export.samples.calibration import IMAGE_HELD_OUT, IMAGE_ITEMS, TEXT_HELD_OUT, TEXT_ITEMS
from export.samples.zero_shot import ZeroShotSources, joint_of, zero_shot_data
from export.staging import staged
from runtime.bundle import MANIFEST_NAME, Manifest, ParityRecord
from runtime.bundle.manifest import SCHEMA_VERSION, FileEntry
from runtime.bundle.parts import BYTE_PAIRS, FTFY, Joint, Preprocessing
from runtime.engines import PROVIDERS, Provider, choose_provider
from runtime.files import check_folder_destination, files_below, sha256_file
from runtime.text import Tokenizer

__all__ = ["CalibrationSources", "export_bundle"]

_VERSIONED = (
    "cxr-engine",
    "torch",
    "torchvision",
    "transformers",
    "hi-ml-multimodal",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "openvino",
    "nncf",
    "numpy",
)


@dataclass(frozen=True)
class CalibrationSources:
    """Where the data for lower precisions comes from; None takes what is built in.

    Attributes:
        text: .txt, .csv, .jsonl or .parquet; column is that of the texts, paired that of what each is to find; None
            takes the second half of each text for its first.
        images: a folder.
        texts: number of texts to calibrate with, texts_held_out to judge by; images_count and images_held_out alike.
        seed: of the split.
        zero_shot: labelled images and prompts, by which the change of zero-shot AUROC is measured, too; None measures
            none.
    """

    text: Path | None = None
    column: str = "text"
    paired: str | None = None
    images: Path | None = None
    texts: int = TEXT_ITEMS
    texts_held_out: int = TEXT_HELD_OUT
    images_count: int = IMAGE_ITEMS
    images_held_out: int = IMAGE_HELD_OUT
    seed: int = 0
    zero_shot: ZeroShotSources | None = None


def export_bundle(
    family: Family,
    source: str,
    out: Path,
    *,
    seed: int = 0,
    revision: str | None = None,
    provider: str = "auto",
    force: bool = False,
    lowering: Lowering | None = None,
    calibration: CalibrationSources | None = None,
    steps: Steps | None = None,
) -> Manifest:
    """Export a checkpoint to a bundle.

    Args:
        family: the system.
        source: see `export.checkpoints.open_checkpoint`.
        out: folder to write; it must not exist, unless `force` and it is a bundle.
        seed: of random weights and of the parity inputs.
        revision: hub revision instead of the pinned one.
        provider: engine that runs the graphs for the comparison with PyTorch; "auto" prefers ONNX Runtime's CPU.
        force: replace an existing bundle.
        lowering: precisions, what int8 must hold, and what becomes of what misses; None gives fp32 alone. With random
            weights figures are reported, not enforced.
        calibration: data that lower precisions are calibrated with and judged by; None takes what is built in.
        steps: where to show progress.

    Returns:
        The manifest of the bundle written; its `left_out` says which precisions below fp32 missed a gate and are not
        there.

    Raises:
        CheckpointError: the checkpoint is not there or does not fit.
        GraphError: an exported graph is not portable.
        GateError: fp32, tokens or pixels differ from PyTorch's, or another precision misses a gate and `lowering` says
            "fail"; no bundle is written.
        CalibrationError: the calibration data cannot be used, or labelled images came for a system that does not
            classify them.
        DestinationError: `out` cannot be written or replaced.
        InputError: `out` holds the checkpoint or calibration data; prompts or labels that cannot be used.
        ProviderError: no engine to compare with; or one fails, and `lowering` says "fail" or it was to run fp32.
    """
    engine = _comparing_engine(provider)
    lowering, calibration = lowering or Lowering(), calibration or CalibrationSources()
    lowered = set(lowering.precisions) != {"fp32"}
    steps = steps or Steps()
    if calibration.zero_shot:
        joint_of(f"'{family.name}'", _joint(family.image, family.joint))
    check_folder_destination(out, _files_read(source, calibration))
    with staged(out, force, steps.note) as stage, torch.random.fork_rng():
        with steps.step(f"reading the checkpoint {source}"):
            checkpoint = open_checkpoint(source, family, stage / "work", seed=seed, revision=revision, note=steps.note)
        with steps.step("building the reference models, their tokenizer and their pixels"):
            models = load_models(family, checkpoint, steps.note)
            rule, joint = (
                checkpoint.image and checkpoint.image.preprocessing,
                _joint(checkpoint.image, checkpoint.joint),
            )
            checks = []
            if family.text:
                checks.append(_write_tokenizer(checkpoint, stage / "text"))
            if rule:
                checks.append(_write_preprocessing(rule, stage / "image"))
            check_gates("preprocessing", checks)
        lowering = replace(lowering, enforced=lowering.enforced and checkpoint.source.kind != "random")
        if lowered and not lowering.enforced:
            steps.note("The weights are random: figures of lower precisions are reported, not enforced.")
        texts: TextData | None = None
        images: ImageData | None = None
        if lowered:
            with steps.step("reading the calibration data") as advance:
                texts, images = _calibration_data(family, checkpoint, stage, calibration, steps, advance)
        zero_shot = None
        if lowered and calibration.zero_shot and rule and joint:
            with steps.step("reading the labelled images, embedding them and their prompts with PyTorch") as advance:
                tokenizer = Tokenizer(stage / "text", _axes(checkpoint).tokenization)
                labelled = zero_shot_data(calibration.zero_shot, tokenizer, rule, joint, note=steps.note)
                zero_shot = zero_shot_by_pytorch(labelled, models["text"], models["image"], advance)
            steps.note(zero_shot.in_words())
        misses = Misses(stage, lowering, steps)
        text = image = None
        if family.text:
            text = export_text(
                models["text"],
                _axes(checkpoint),
                stage / "text",
                engine,
                lowering,
                texts,
                seed,
                misses,
                steps,
                zero_shot,
            )
        if family.image:
            image = export_image(
                models["image"], stage / "image", engine, lowering, images, seed, misses, steps, zero_shot
            )
        shutil.rmtree(stage / "work", ignore_errors=True)
        with steps.step("writing the manifest"):
            manifest = Manifest(
                schema_version=SCHEMA_VERSION,
                family=family.name,
                created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
                source=checkpoint.source,
                versions=_versions(),
                checks=tuple(checks),
                calibration={
                    **({"text": texts.record} if texts else {}),
                    **({"image": images.record} if images else {}),
                },
                text=text,
                image=image,
                joint=joint,
                files={
                    path.relative_to(stage).as_posix(): FileEntry(sha256_file(path), path.stat().st_size)
                    for path in sorted(stage.rglob("*"))
                    if path.is_file()
                },
                left_out=tuple(misses.left_out),
            )
            (stage / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def _joint(image: ImageModel | None, joint: JointModel | None) -> Joint | None:
    if joint is None or image is None:
        return None
    return Joint(image.embedding_size, **vars(joint))


def _files_read(source: str, calibration: CalibrationSources) -> Iterator[Path]:
    """Files and folders of the checkpoint, the calibration data and the labelled images; a hub id is none."""
    labelled = calibration.zero_shot.places() if calibration.zero_shot else ()
    for place in (Path(source), calibration.text, calibration.images, *labelled):
        if place is not None:
            yield from (place, *files_below(place))


def _calibration_data(
    family: Family,
    checkpoint: Checkpoint,
    stage: Path,
    sources: CalibrationSources,
    steps: Steps,
    advance: Progress,
) -> tuple[TextData | None, ImageData | None]:
    texts: TextData | None = None
    images: ImageData | None = None
    if family.text:
        texts = text_data(
            sources.text,
            Tokenizer(stage / "text", _axes(checkpoint).tokenization),
            column=sources.column,
            paired=sources.paired,
            count=sources.texts,
            held_out=sources.texts_held_out,
            seed=sources.seed,
            note=steps.note,
        )
    if checkpoint.image:
        images = image_data(
            sources.images,
            checkpoint.image.preprocessing,
            count=sources.images_count,
            held_out=sources.images_held_out,
            seed=sources.seed,
            note=steps.note,
            progress=advance,
        )
    return texts, images


def _comparing_engine(name: str) -> Provider:
    if name == "auto" and PROVIDERS["cpu"].missing() is None:
        name = "cpu"
    return choose_provider(name)[0]


def _axes(checkpoint: Checkpoint) -> TextAxes:
    assert checkpoint.text is not None, "asked for systems with a text part"
    return checkpoint.text


def _write_tokenizer(checkpoint: Checkpoint, folder: Path) -> ParityRecord:
    folder.mkdir()
    axes = _axes(checkpoint)
    longest = axes.tokenization.max_length
    if axes.tokenization.tokenizer == BYTE_PAIRS:
        write_bpe_tokenizer(
            checkpoint.folder,
            folder,
            longest=longest,
            source="open_clip" if axes.tokenization.cleaning == FTFY else "transformers",
            text_config=checkpoint.text_config,
        )
    else:
        write_tokenizer(
            checkpoint.folder,
            dict(checkpoint.text_config),
            folder,
            longest=longest,
            lowercase=axes.lowercase,
            lowercase_before=axes.lowercase_before,
        )
    # Other tools open the folder as a text model of its kind; not with the checkpoint's code.
    dropped, kind = ("auto_map", "_name_or_path", "architectures"), checkpoint.text_config.get("model_type")
    plain = {key: value for key, value in checkpoint.text_config.items() if key not in dropped}
    plain["model_type"] = kind if kind == "clip_text_model" else "bert"
    (folder / "config.json").write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
    return token_parity(Tokenizer(folder, axes.tokenization), checkpoint.folder, axes)


def _write_preprocessing(rule: Preprocessing, folder: Path) -> ParityRecord:
    folder.mkdir()
    written = json.dumps(preprocessor_config(rule), indent=2) + "\n"
    (folder / "preprocessor_config.json").write_text(written, encoding="utf-8")
    return pixel_parity(rule)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _VERSIONED:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
