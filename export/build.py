"""From a checkpoint to a bundle: export, compare, write; a bundle appears whole or not at all."""

from __future__ import annotations

import datetime
import json
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath

import torch
from torch import nn

from export.checkpoints import Checkpoint, ExpectedTensors, fit_tensors, open_checkpoint
from export.families import Family, ImageModel
from export.graph import GraphInfo, GraphSpec, export_graph
from export.models import BioViLImageModel, CXRBertModel, bert_config
from export.parity import check_gates, image_parity, pixel_parity, text_parity, token_parity
from export.progress import Steps
from export.rewrites import ImageEmbeddingGraph, TextEmbeddingGraph
from export.staging import staged
from export.tokenizer import write_tokenizer
from runtime.bundle import sha256_file
from runtime.manifest import (
    MANIFEST_NAME,
    SCHEMA_VERSION,
    Artifact,
    FileEntry,
    ImagePart,
    Manifest,
    ParityRecord,
    TextPart,
)
from runtime.providers import PROVIDERS, Provider, choose_provider, default_threads
from runtime.session import Session, SessionOptions
from runtime.tokenization import Tokenizer

__all__ = ["export_bundle"]

_VERSIONED = (
    "cxr-engine",
    "torch",
    "torchvision",
    "transformers",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "openvino",
    "numpy",
)
_MODEL = "onnx/model.onnx"
_PATCH_PIXELS = 32


def export_bundle(
    family: Family,
    source: str,
    out: Path,
    *,
    seed: int = 0,
    revision: str | None = None,
    provider: str = "auto",
    force: bool = False,
    steps: Steps | None = None,
) -> Manifest:
    """Export a checkpoint to a bundle in fp32.

    Args:
        family: the system.
        source: see `export.checkpoints.open_checkpoint`.
        out: folder to write; it must not exist, unless `force` and it is a bundle.
        seed: of random weights and of the parity inputs.
        revision: hub revision instead of the pinned one.
        provider: engine that runs the graphs for the comparison with PyTorch; "auto" prefers ONNX Runtime's CPU.
        force: replace an existing bundle.
        steps: where to show progress.

    Returns:
        The manifest of the bundle written.

    Raises:
        CheckpointError: the checkpoint is not there or does not fit.
        GraphError: an exported graph is not portable.
        GateError: an artifact misses a gate; no bundle is written.
        DestinationError: `out` cannot be written or replaced.
        ProviderError: no engine to compare with.
    """
    engine = _comparing_engine(provider)
    parts = [part for part in (family.text, family.image) if part is not None]
    steps = steps or Steps(3 + 2 * len(parts))
    with staged(out, force, steps.note) as stage, torch.random.fork_rng():
        with steps.step(f"reading the checkpoint {source}"):
            checkpoint = open_checkpoint(source, family, stage / "work", seed=seed, revision=revision)
        with steps.step("building the reference models, their tokenizer and their pixels"):
            models = _reference_models(family, checkpoint)
            checks = []
            if family.text:
                checks.append(_write_tokenizer(checkpoint, stage / "text"))
            if family.image:
                checks.append(_write_preprocessing(family.image, stage / "image"))
            check_gates("preprocessing", checks)
        text = image = None
        if family.text:
            text = _export_text(models["text"], stage / "text", engine, seed, steps)
        if family.image:
            image = _export_image(models["image"], family.image, stage / "image", engine, seed, steps)
        shutil.rmtree(stage / "work", ignore_errors=True)
        with steps.step("writing the manifest"):
            manifest = Manifest(
                schema_version=SCHEMA_VERSION,
                family=family.name,
                created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
                source=checkpoint.source,
                versions=_versions(),
                checks=tuple(checks),
                text=text,
                image=image,
                files={
                    path.relative_to(stage).as_posix(): FileEntry(sha256_file(path), path.stat().st_size)
                    for path in sorted(stage.rglob("*"))
                    if path.is_file()
                },
            )
            (stage / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def _comparing_engine(name: str) -> Provider:
    if name == "auto" and PROVIDERS["cpu"].missing() is None:
        name = "cpu"
    return choose_provider(name)[0]


def _reference_models(family: Family, checkpoint: Checkpoint) -> dict[str, nn.Module]:
    """The models of all parts with the checkpoint's weights; the faults of all parts are raised together."""
    models: dict[str, nn.Module] = {}
    expected: dict[str, ExpectedTensors] = {}
    if family.text:
        models["text"] = CXRBertModel(bert_config(checkpoint.config))
        expected["text"] = ExpectedTensors(models["text"].state_dict(), family.text.harmless, dict(family.text.tied))
    if family.image:
        models["image"] = BioViLImageModel(family.image)
        expected["image"] = ExpectedTensors(models["image"].state_dict(), family.image.harmless)
    for part, tensors in fit_tensors(checkpoint.tensors, expected).items():
        models[part].load_state_dict(tensors, strict=False)
        models[part].eval()
    return models


def _write_tokenizer(checkpoint: Checkpoint, folder: Path) -> ParityRecord:
    folder.mkdir()
    write_tokenizer(checkpoint.folder, checkpoint.config, folder)
    # Other tools open the folder as a BERT; the checkpoint's class and its code are not theirs to run.
    dropped = ("auto_map", "_name_or_path", "architectures")
    plain = {key: value for key, value in checkpoint.config.items() if key not in dropped} | {"model_type": "bert"}
    (folder / "config.json").write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
    return token_parity(Tokenizer(folder, checkpoint.config["max_position_embeddings"]), checkpoint.folder)


def _write_preprocessing(spec: ImageModel, folder: Path) -> ParityRecord:
    folder.mkdir()
    preprocessing = {
        "do_convert_grayscale": True,
        "do_rescale_to_uint8": "min-max",
        "do_resize": True,
        "size": {"shortest_edge": spec.resize},
        "resample": 2,
        "do_center_crop": True,
        "crop_size": {"height": spec.crop, "width": spec.crop},
        "do_rescale": False,
        "do_normalize": False,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing, indent=2) + "\n", encoding="utf-8")
    return pixel_parity(spec)


def _export_text(model: CXRBertModel, folder: Path, engine: Provider, seed: int, steps: Steps) -> TextPart:
    config = model.config
    longest, size = config.max_position_embeddings, config.projection_size
    graph = GraphSpec(
        inputs={"input_ids": ("batch", "sequence"), "attention_mask": ("batch", "sequence")},
        outputs={"text_embeds": ("batch", size), "cls_projected_embedding": ("batch", size)},
        limits={"batch": None, "sequence": longest},
    )
    with steps.step("text: exporting the graph"):
        ids = torch.randint(5, config.vocab_size, (2, 16))
        info = _export(TextEmbeddingGraph(model), (ids, torch.ones_like(ids)), graph, folder / _MODEL)
    with steps.step("text: comparing with PyTorch") as advance:
        session = _open(engine, folder / _MODEL)
        record = text_parity(session, engine.name, "fp32", model, Tokenizer(folder, longest), seed, advance)
        check_gates("text fp32", [record])
    return TextPart(longest, size, (_artifact(f"text/{_MODEL}", graph, info, record),))


def _export_image(
    model: BioViLImageModel, spec: ImageModel, folder: Path, engine: Provider, seed: int, steps: Steps
) -> ImagePart:
    grid, size = spec.crop // _PATCH_PIXELS, spec.embedding_size
    graph = GraphSpec(
        inputs={"pixel_values": ("batch", spec.crop, spec.crop)},
        outputs={"image_embeds": ("batch", size), "patch_embeds": ("batch", grid, grid, size)},
        limits={"batch": None},
    )
    with steps.step("image: exporting the graph"):
        pixels = torch.randint(0, 256, (2, spec.crop, spec.crop), dtype=torch.uint8)
        info = _export(ImageEmbeddingGraph(model), (pixels,), graph, folder / _MODEL)
    with steps.step("image: comparing with PyTorch") as advance:
        session = _open(engine, folder / _MODEL)
        record = image_parity(session, engine.name, "fp32", model, spec.crop, seed, advance)
        check_gates("image fp32", [record])
    return ImagePart(spec.resize, spec.crop, grid, size, (_artifact(f"image/{_MODEL}", graph, info, record),))


def _export(module: nn.Module, example: tuple[torch.Tensor, ...], graph: GraphSpec, path: Path) -> GraphInfo:
    path.parent.mkdir()
    return export_graph(module.eval().requires_grad_(False), example, graph, path)


def _open(engine: Provider, model: Path) -> Session:
    return engine.open(model, SessionOptions(threads=default_threads(), precision="fp32"))


def _artifact(file: str, graph: GraphSpec, info: GraphInfo, record: ParityRecord) -> Artifact:
    return Artifact(
        role="embedding",
        precision="fp32",
        file=file,
        external_data=((PurePosixPath(file).parent / graph.external_data).as_posix(),),
        opset=info.opset,
        operators=info.operators,
        inputs=info.inputs,
        outputs=info.outputs,
        parity=(record,),
    )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _VERSIONED:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
