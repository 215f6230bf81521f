"""The contestants: from what a worker is told to a function that computes the workload once.

Each imports what it needs itself, so that one that is not installed does not stop the others. What they are told:
"threads"; "bundle", "provider", "precision" of this engine; "checkpoint", the folder with the same weights; "texts", a
list; "images", paths; "batch".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.mask_peers import MASK_PEERS
from bench.settled import settled

__all__ = ["ENGINE_TEXT", "PEERS", "RATE_OPERATIONS", "TRANSFORMERS_TEXT"]

Spec = Mapping[str, Any]
Run = Callable[[], NDArray[Any]]

_BATCH = 32
_WEIGHTS = "biovil_image_resnet50_proj_size_128.pt"
_STRIPPED = "!?."
_RATE_SIZE = 4096
# A processor is faster for the fraction of a second that one product takes than it can stay, so a pass takes many.
_RATE_PRODUCTS = 24
RATE_OPERATIONS = 2 * _RATE_SIZE**3 * _RATE_PRODUCTS

# Whole processes, timed from their start; they end with report(vector), see bench.measure.
# argv: bundle, provider, precision, text
ENGINE_TEXT = """
import runtime
engine = runtime.load(sys.argv[1], provider=sys.argv[2], precision=sys.argv[3], parts=["text"])
report(engine.text.encode(sys.argv[4])[0])
"""

# argv: checkpoint folder, text. As the model card does it, less the downloaded code: tokenizer and model by
# from_pretrained, then the projected [CLS] embedding.
TRANSFORMERS_TEXT = """
from pathlib import Path
import torch
from transformers import BertTokenizer
from transformers.utils import logging
from export.models import CXRBertModel, bert_config
logging.set_verbosity_error()
logging.disable_progress_bar()
folder = Path(sys.argv[1])
tokenizer = BertTokenizer.from_pretrained(str(folder))
config = bert_config(json.loads((folder / "config.json").read_text()))
model = CXRBertModel.from_pretrained(str(folder), config=config).eval()
inputs = tokenizer([sys.argv[2].rstrip("!?.")], return_tensors="pt")
with torch.inference_mode():
    projected = model.cls_projection(inputs["input_ids"], inputs["attention_mask"])
report(torch.nn.functional.normalize(projected, dim=-1)[0].tolist())
"""


def _engine_texts(spec: Spec) -> Run:
    """This engine: strings → embeddings."""
    import runtime

    engine = runtime.load(spec["bundle"], spec["provider"], spec["precision"], spec["threads"], parts=["text"])
    return settled(lambda: engine.text.encode(spec["texts"]))


def _engine_files(spec: Spec) -> Run:
    """This engine: image files → embeddings."""
    import runtime

    engine = runtime.load(
        spec["bundle"],
        spec["provider"],
        spec["precision"],
        spec["threads"],
        parts=["image"],
        fast_decode=spec.get("fast_decode", False),
    )
    return settled(lambda: engine.image.encode(spec["images"]))


def _engine_pixels(spec: Spec) -> Run:
    """This engine: prepared pixels → embeddings, one batch."""
    import runtime

    engine = runtime.load(spec["bundle"], spec["provider"], spec["precision"], spec["threads"], parts=["image"])
    side = engine.image.crop
    pixels = np.random.default_rng(0).integers(0, 256, (spec["batch"], side, side)).astype(np.uint8)
    return settled(lambda: engine.image.encode_pixels(pixels))


def _reference_texts(spec: Spec) -> Run:
    """The reference package's model as it runs: fp32, file order, the masked-language head computed and thrown away."""
    import torch
    from health_multimodal.text.model import CXRBertConfig, CXRBertModel

    torch.set_num_threads(spec["threads"])
    config = CXRBertConfig.from_pretrained(spec["checkpoint"])
    model = CXRBertModel.from_pretrained(spec["checkpoint"], config=config).eval()
    return _torch_texts(spec, spec["texts"], model.get_projected_text_embeddings)


def _torch_fp32_texts(spec: Spec) -> Run:
    """PyTorch eager fp32 without the masked-language head, file order."""
    return _torch_texts(spec, spec["texts"], _torch_projection(spec, "float32"))


def _torch_bf16_texts(spec: Spec) -> Run:
    """The best that PyTorch does: bfloat16, sorted by length, the embedding only."""
    encode = _torch_tokenizer(spec)
    lengths = [len(row) for row in encode(spec["texts"])["input_ids"]]
    order = np.argsort(lengths, kind="stable")
    run = _torch_texts(spec, [spec["texts"][index] for index in order], _torch_projection(spec, "bfloat16"))

    def unsorted() -> NDArray[Any]:
        found = run()
        answer = np.empty_like(found)
        answer[order] = found
        return answer

    return unsorted


def _torch_projection(spec: Spec, dtype: str) -> Callable[..., Any]:
    import torch

    from export.models import CXRBertModel, bert_config

    torch.set_num_threads(spec["threads"])
    folder = Path(spec["checkpoint"])
    config = bert_config(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    model = CXRBertModel.from_pretrained(str(folder), config=config).eval().to(getattr(torch, dtype))
    return lambda ids, mask: torch.nn.functional.normalize(model.cls_projection(ids, mask).float(), dim=-1)


def _torch_texts(spec: Spec, texts: list[str], embed: Callable[..., Any]) -> Run:
    import torch

    encode = _torch_tokenizer(spec)

    def run() -> NDArray[Any]:
        found = []
        with torch.inference_mode():
            for start in range(0, len(texts), _BATCH):
                batch = encode(texts[start : start + _BATCH], padding=True, return_tensors="pt")
                found.append(embed(batch["input_ids"], batch["attention_mask"]).numpy())
        return np.concatenate(found)

    return run


def _torch_tokenizer(spec: Spec) -> Callable[..., Any]:
    from transformers import BertTokenizer

    tokenizer = BertTokenizer.from_pretrained(spec["checkpoint"])
    return lambda texts, **options: tokenizer([text.rstrip(_STRIPPED) for text in texts], **options)


def _openvino_texts(spec: Spec) -> Run:
    """OpenVINO as its documentation starts: the bundle's plain graph, texts sorted, batches of 32.

    It makes bf16 of fp32, on processors that have it even unasked; both are asked for by name.
    """
    import openvino
    from tokenizers import Tokenizer

    from runtime.batching import pad_batch
    from runtime.bundle import open_bundle

    bundle = open_bundle(spec["bundle"])
    tokenizer = Tokenizer.from_file(str(bundle.path("text/tokenizer.json")))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    hints = {"fp32": "f32", "bf16": "bf16"}
    options: dict[str, Any] = {"INFERENCE_NUM_THREADS": spec["threads"]}
    if spec["precision"] in hints:
        options["INFERENCE_PRECISION_HINT"] = hints[spec["precision"]]
    precision = "fp32" if spec["precision"] in hints else spec["precision"]
    graph = bundle.path(bundle.artifact("text", precision, provider="openvino").file)
    compiled = openvino.Core().compile_model(str(graph), "CPU", options)

    def run() -> NDArray[Any]:
        encoded = tokenizer.encode_batch([text.rstrip(_STRIPPED) for text in spec["texts"]])
        rows = [each.ids for each in encoded]
        order = np.argsort([len(row) for row in rows], kind="stable")
        answer = None
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            input_ids, attention_mask = pad_batch([rows[index] for index in batch], 0)
            found = compiled({"input_ids": input_ids, "attention_mask": attention_mask})["text_embeds"]
            answer = np.empty((len(rows), found.shape[1]), np.float32) if answer is None else answer
            answer[batch] = found
        return answer

    return run


def _reference_files(spec: Spec) -> Run:
    """The reference package, one image after the other as it does."""
    import torch
    from health_multimodal.image import ImageInferenceEngine, ImageModel
    from health_multimodal.image.data.transforms import create_chest_xray_transform_for_inference

    torch.set_num_threads(spec["threads"])
    weights = Path(spec["checkpoint"]) / _WEIGHTS
    model = ImageModel("resnet50", joint_feature_size=128, pretrained_model_path=weights)
    engine = ImageInferenceEngine(model, create_chest_xray_transform_for_inference(512, 480))
    paths = [Path(name) for name in spec["images"]]
    return lambda: np.stack([engine.get_projected_global_embedding(path).numpy() for path in paths])


def _int8_rate(spec: Spec) -> Run:
    """Products of two 4096 × 4096 matrices in int8, with which speeds are compared; by OpenVINO."""
    import openvino
    import openvino.opset13 as op

    generator = np.random.default_rng(0)
    left = op.parameter([_RATE_SIZE, _RATE_SIZE], np.uint8)
    right = op.constant(generator.integers(-127, 128, (_RATE_SIZE, _RATE_SIZE)).astype(np.int8))
    scales = op.constant(np.full((1, _RATE_SIZE), 0.01, np.float32))
    product = op.matmul(
        op.multiply(op.convert(left, "f32"), np.float32(0.01)),
        op.multiply(op.convert(right, "f32"), scales),
        False,
        False,
    )
    # Rounded to uint8 again and reduced, so that results cost no time.
    low, high = np.float32(0), np.float32(1000)
    largest = op.reduce_max(op.fake_quantize(product, low, high, low, high, 256), np.array([1]), False)
    compiled = openvino.Core().compile_model(
        openvino.Model([largest], [left]), "CPU", {"INFERENCE_NUM_THREADS": spec["threads"]}
    )
    request = compiled.create_infer_request()
    values = generator.integers(0, 256, (_RATE_SIZE, _RATE_SIZE)).astype(np.uint8)
    return lambda: np.stack([request.infer([values])[0].copy() for _ in range(_RATE_PRODUCTS)])


PEERS: Mapping[str, Callable[[Spec], Run]] = MappingProxyType(
    {
        "engine texts": _engine_texts,
        "engine files": _engine_files,
        "engine pixels": _engine_pixels,
        "reference texts": _reference_texts,
        "reference files": _reference_files,
        "torch fp32 texts": _torch_fp32_texts,
        "torch bf16 texts": _torch_bf16_texts,
        "openvino texts": _openvino_texts,
        "int8 rate": _int8_rate,
        **MASK_PEERS,
    }
)
