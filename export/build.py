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

from export.checkpoints import Checkpoint, check_tensors, open_checkpoint
from export.errors import CheckpointError
from export.families import Family, ImageModel, TextModel
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
    steps = steps or Steps(2 + 3 * len(parts))
    with staged(out, force, steps.note) as stage, torch.random.fork_rng():
        with steps.step(f"reading the checkpoint {source}"):
            checkpoint = open_checkpoint(source, family, stage / "work", seed=seed, revision=revision)
        checks: list[ParityRecord] = []
        text = _export_text(family.text, checkpoint, stage, engine, seed, steps, checks) if family.text else None
        image = _export_image(family.image, checkpoint, stage, engine, seed, steps, checks) if family.image else None
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


def _export_text(
    spec: TextModel,
    checkpoint: Checkpoint,
    stage: Path,
    engine: Provider,
    seed: int,
    steps: Steps,
    checks: list[ParityRecord],
) -> TextPart:
    folder = stage / "text"
    (folder / "onnx").mkdir(parents=True)
    config = checkpoint.config
    with steps.step("text: building the reference model and its tokenizer"):
        write_tokenizer(checkpoint.folder, config, folder)
        model = CXRBertModel(bert_config(config)).eval()
        tensors = check_tensors(
            "text", checkpoint.tensors["text"], model.state_dict(), harmless=spec.harmless, optional=spec.tied
        )
        model.load_state_dict(tensors, strict=False)
        _check_tied(checkpoint.tensors["text"], spec)
        model.tie_weights()
        # Other tools open the folder as a BERT; our sources' class and code are not theirs to run.
        plain = {
            key: value for key, value in config.items() if key not in ("auto_map", "_name_or_path", "architectures")
        }
        plain["model_type"] = "bert"
        (folder / "config.json").write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
        tokenizer = Tokenizer(folder, config["max_position_embeddings"])
        checks.append(token_parity(tokenizer, checkpoint.folder))
        check_gates("the tokenizer", checks[-1:])
    size = config["projection_size"]
    graph = GraphSpec(
        inputs={"input_ids": ("batch", "sequence"), "attention_mask": ("batch", "sequence")},
        outputs={"text_embeds": ("batch", size), "cls_projected_embedding": ("batch", size)},
        limits={"batch": None, "sequence": config["max_position_embeddings"]},
    )
    with steps.step("text: exporting the graph"):
        ids = torch.randint(5, config["vocab_size"], (2, 16))
        info = _export(TextEmbeddingGraph(model), (ids, torch.ones_like(ids)), graph, folder / _MODEL)
    with steps.step("text: comparing with PyTorch") as advance:
        session = _open(engine, folder / _MODEL)
        record = text_parity(session, engine.name, "fp32", model, tokenizer, seed, advance)
        check_gates("text fp32", [record])
    artifact = _artifact(f"text/{_MODEL}", graph, info, record)
    return TextPart(config["max_position_embeddings"], size, (artifact,))


def _export_image(
    spec: ImageModel,
    checkpoint: Checkpoint,
    stage: Path,
    engine: Provider,
    seed: int,
    steps: Steps,
    checks: list[ParityRecord],
) -> ImagePart:
    folder = stage / "image"
    (folder / "onnx").mkdir(parents=True)
    with steps.step("image: building the reference model"):
        model = BioViLImageModel(spec).eval()
        tensors = check_tensors("image", checkpoint.tensors["image"], model.state_dict(), harmless=spec.harmless)
        model.load_state_dict(tensors, strict=False)
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
        checks.append(pixel_parity(spec))
        check_gates("the pixels", checks[-1:])
    grid = spec.crop // _PATCH_PIXELS
    size = spec.embedding_size
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
    artifact = _artifact(f"image/{_MODEL}", graph, info, record)
    return ImagePart(spec.resize, spec.crop, grid, size, (artifact,))


def _export(module: nn.Module, example: tuple[torch.Tensor, ...], graph: GraphSpec, path: Path) -> GraphInfo:
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


def _check_tied(tensors: dict[str, torch.Tensor], spec: TextModel) -> None:
    """Tied tensors that a checkpoint does carry must be what they are tied to."""
    originals = ("bert.embeddings.word_embeddings.weight", "cls.predictions.bias")
    for tied, original in zip(spec.tied, originals, strict=True):
        if tied in tensors and not torch.equal(tensors[tied], tensors[original]):
            raise CheckpointError(f"The text weights do not fit the model: {tied} differs from {original}.")


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _VERSIONED:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
