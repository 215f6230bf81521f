"""Bundles put together by hand in a moment: small graphs of the real inputs and outputs, any artifacts and figures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from runtime.bundle import (
    EMBEDDING,
    MANIFEST_NAME,
    PAIR,
    Artifact,
    FidelityRecord,
    Manifest,
    ParityRecord,
    open_bundle,
)
from runtime.bundle.artifacts import Recipe, TensorSpec
from runtime.bundle.manifest import SCHEMA_VERSION, CalibrationSet, FileEntry, Source
from runtime.bundle.parts import PAIRS, Joint, Preprocessing
from runtime.choice import choose_precision
from runtime.engines import PROVIDERS, processor_name
from tests.runtime.parts import image_part, text_part, tokenization

ALL = ("cpu", "openvino", "cuda", "tensorrt")
SIZE = 16
CROP, GRID = 96, 3
WORDS = ("no", "small", "left", "right", "pleural", "effusion", "opacity", "edema", "clear", "lungs")
_SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
_VOCABULARY = (*_SPECIAL.values(), *WORDS)


def record(
    provider: str,
    mean_cosine: float,
    milliseconds: float,
    precision: str,
    processor: str | None = None,
    **figures: float,
) -> FidelityRecord:
    """What export would have measured on 300 held-out items; the processor is this one unless another is named."""
    return FidelityRecord(
        provider=provider,
        precision=precision,
        processor=processor or processor_name(),
        items=300,
        data="0" * 64,
        figures={"mean_cosine": mean_cosine, **figures},
        gates={},
        milliseconds=milliseconds,
    )


def artifact(
    precision: str = "fp32",
    providers: Sequence[str] = ALL,
    *fidelity: FidelityRecord,
    recipe: Recipe | None = None,
    name: str | None = None,
    role: str = EMBEDDING,
) -> Artifact:
    """An entry for a part's list; `write_bundle` writes its graph and fills in the rest."""
    return Artifact(
        role=role,
        precision=precision,
        file=f"onnx/{name or 'model_' + precision.replace('-', '_')}.onnx",
        external_data=(),
        opset=18,
        operators={},
        inputs=(),
        outputs=(),
        providers=tuple(providers),
        parity=(ParityRecord("cpu", "PyTorch fp32", "by hand", {"max_abs": 1e-6}, {"max_abs": 1e-5}),),
        fidelity=fidelity,
        recipe=recipe,
    )


def write_bundle(
    folder: Path,
    text: Sequence[Artifact] = (),
    image: Sequence[Artifact] = (),
    calibration: Mapping[str, CalibrationSet] | None = None,
    rule: Preprocessing | None = None,
    joint: Joint | None = None,
) -> Path:
    """Write a bundle. Each artifact's graph has weights of its own, drawn with its file name as the seed.

    With a graph of pairs among those of images it is a bundle that compares a current image with a previous one.
    """
    tower = image_part(128, CROP, GRID, embedding_size=SIZE)
    tower = replace(tower, preprocessing=rule) if rule else tower
    tower = replace(tower, images=2) if any(each.role == PAIR for each in image) else tower
    shape = tower.preprocessing.shape
    parts = {
        "text": tuple(_written(folder, "text", each, _text_model(each.file)) for each in text),
        "image": tuple(
            _written(folder, "image", each, _image_model(each.file, shape, each.role == PAIR)) for each in image
        ),
    }
    if text:
        _write_tokenizer(folder / "text")
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        family="biovil",
        created="2026-11-22T00:00:00+00:00",
        source=Source("folder", "handmade", None, None, None, {"pytorch_model.bin": "0" * 64}, None),
        versions={"torch": "none"},
        checks=(),
        calibration=dict(calibration or {}),
        text=text_part(tokenization=tokenization(max_length=64), embedding_size=SIZE, artifacts=parts["text"])
        if text
        else None,
        image=replace(tower, artifacts=parts["image"]) if image else None,
        joint=(joint or Joint(SIZE, 1.0, 0.0, PAIRS, ())) if text and image else None,
        files={name: _entry(folder / name) for name in names},
    )
    (folder / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
    return folder


# RGB squares of the handmade graphs' size.
RGB = Preprocessing("rgb", "shortest", CROP, "bicubic", CROP, "down", (0.48, 0.46, 0.41), (0.27, 0.26, 0.28))


def write_clip(folder: Path, *templates: str) -> Path:
    """A bundle as CLIP's are: colours, labels compared with each other, a scale."""
    return write_bundle(folder, [fp32()], [fp32()], rule=RGB, joint=Joint(SIZE, 100.0, 0.0, "softmax", templates))


def expected_text(file: str, input_ids: Sequence[int]) -> np.ndarray:
    """The embedding that the text graph of that name gives, by numpy."""
    table, projection = _text_weights(file)
    embedding = np.maximum(table[list(input_ids)] @ projection, 0).mean(axis=0)
    return embedding / np.linalg.norm(embedding)


def _written(folder: Path, part: str, entry: Artifact, model: onnx.ModelProto) -> Artifact:
    file = f"{part}/{entry.file}"
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / file)
    inputs, outputs = ([_spec(value) for value in values] for values in (model.graph.input, model.graph.output))
    return replace(entry, file=file, inputs=tuple(inputs), outputs=tuple(outputs))


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    return TensorSpec(value.name, dtype, tuple(axis.dim_param or axis.dim_value for axis in tensor.shape.dim))


def _entry(path: Path) -> FileEntry:
    content = path.read_bytes()
    return FileEntry(hashlib.sha256(content).hexdigest(), len(content))


def _random(file: str) -> np.random.Generator:
    return np.random.default_rng(list(file.encode()))


def _text_weights(file: str) -> tuple[np.ndarray, np.ndarray]:
    rng = _random(file)
    table = rng.standard_normal((len(_VOCABULARY), 64)).astype(np.float32)
    return table, rng.standard_normal((64, SIZE)).astype(np.float32)


def _text_model(file: str) -> onnx.ModelProto:
    """Mean over the tokens of relu(embedding · projection)."""
    table, projection = _text_weights(file)
    weights = {"table": table, "projection": projection, "tokens": np.array([1]), "last": np.array([2])}
    nodes = [
        ("Gather", ["table", "input_ids"], ["embedded"], {}),
        ("MatMul", ["embedded", "projection"], ["product"], {}),
        ("Relu", ["product"], ["hidden"], {}),
        ("Cast", ["attention_mask"], ["mask"], {"to": TensorProto.FLOAT}),
        ("Unsqueeze", ["mask", "last"], ["column"], {}),
        ("Mul", ["hidden", "column"], ["masked"], {}),
        ("ReduceSum", ["masked", "tokens"], ["sum"], {"keepdims": 0}),
        ("ReduceSum", ["mask", "tokens"], ["count"], {"keepdims": 1}),
        ("Div", ["sum", "count"], ["unnormalized_embeds"], {}),
        ("ReduceL2", ["unnormalized_embeds", "tokens"], ["norm"], {"keepdims": 1}),
        ("Div", ["unnormalized_embeds", "norm"], ["text_embeds"], {}),
    ]
    tokens = ("batch", "sequence")
    inputs = dict.fromkeys(("input_ids", "attention_mask"), (TensorProto.INT64, tokens))
    outputs = dict.fromkeys(("text_embeds", "unnormalized_embeds"), ("batch", SIZE))
    return _model(nodes, weights, inputs, outputs)


def _image_model(file: str, shape: tuple[int, ...], paired: bool) -> onnx.ModelProto:
    """One convolution per patch; of the previous image's pixels as well, subtracted."""
    side = shape[-1] // GRID
    grey = len(shape) == 2
    kernel = _random(file).standard_normal((SIZE, 1 if grey else 3, side, side)).astype(np.float32)
    weights = {"kernel": kernel, "channel": np.array([1]), "last": np.array([3]), "patches": np.array([1, 2])}
    nodes = [
        ("Cast", ["pixel_values"], ["float" if not paired else "current"], {"to": TensorProto.FLOAT}),
        ("Unsqueeze", ["float", "channel"], ["channels"], {}) if grey else ("Identity", ["float"], ["channels"], {}),
        ("Conv", ["channels", "kernel"], ["features"], {"strides": [side, side]}),
        ("Transpose", ["features"], ["raw"], {"perm": [0, 2, 3, 1]}),
        ("ReduceL2", ["raw", "last"], ["norms"], {"keepdims": 1}),
        ("Div", ["raw", "norms"], ["patch_embeds"], {}),
        ("ReduceMean", ["raw", "patches"], ["mean"], {"keepdims": 0}),
        ("ReduceL2", ["mean", "channel"], ["norm"], {"keepdims": 1}),
        ("Div", ["mean", "norm"], ["image_embeds"], {}),
    ]
    if paired:
        compared = [
            ("Cast", ["previous_pixel_values"], ["previous"], {"to": TensorProto.FLOAT}),
            ("Sub", ["current", "previous"], ["float"], {}),
        ]
        nodes[1:1] = compared
    outputs = {"image_embeds": ("batch", SIZE), "patch_embeds": ("batch", GRID, GRID, SIZE)}
    names = ("pixel_values", "previous_pixel_values") if paired else ("pixel_values",)
    return _model(nodes, weights, dict.fromkeys(names, (TensorProto.UINT8, ("batch", *shape))), outputs)


def _model(nodes, weights, inputs, outputs) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node(operator, reads, writes, **attributes) for operator, reads, writes, attributes in nodes],
        "handmade",
        [helper.make_tensor_value_info(name, dtype, axes) for name, (dtype, axes) in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, axes) for name, axes in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def _write_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(_VOCABULARY)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(list(_SPECIAL.values()))
    ends = [(name, _VOCABULARY.index(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "special_tokens_map.json").write_text(json.dumps(_SPECIAL), encoding="utf-8")


def fp32(*fidelity: FidelityRecord):
    return artifact("fp32", ALL, *fidelity)


def choose(bundle: Path, provider: str, precision: str = "auto", min_fidelity: float = 0.99):
    return choose_precision(open_bundle(bundle), "text", PROVIDERS[provider], precision, min_fidelity)
