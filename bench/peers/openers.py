"""Open a bundle's text folder in another tool and let it compute: `python -m bench.peers.openers REQUEST.json`.

Runs in the environment of `make peers`, a process for each tool; `bench.manners` reads what it writes. Each tool is
asked as its own documentation asks it, and its answer is taken as it comes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["EMBEDDINGS", "MASKS", "OPENERS", "Opener", "fastembed_model", "openvino_options"]

EMBEDDINGS, MASKS = "embeddings", "masks"
_EVERY_TOKEN = "fill_mask_every_token.onnx"

# The text folder and texts → what the tool answers.
Answer = Callable[[Path, list[str]], NDArray[Any]]


@dataclass(frozen=True)
class Opener:
    """How a tool is asked.

    Attributes:
        tool: its name, with what of it.
        packages: distributions that it needs, its own first.
        asked: the call, for people.
        kind: `EMBEDDINGS`, float32 (texts, D), or `MASKS`, the logarithms of the probabilities of all words, float64
            (texts, vocabulary).
        answer: computes.
    """

    tool: str
    packages: tuple[str, ...]
    asked: str
    kind: str
    answer: Answer


def openvino_options(threads: int | None, precision: str, file: str = "onnx/model.onnx") -> dict[str, Any]:
    """What sentence-transformers' OpenVINO backend must be told to read a graph in ONNX, in fp32 or bf16."""
    config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": {"fp32": "f32"}.get(precision, precision)}
    if threads:
        config["INFERENCE_NUM_THREADS"] = threads
    return {"export": False, "from_onnx": True, "file_name": file, "ov_config": config}


def fastembed_model(folder: Path, threads: int | None = None, file: str = "onnx/model.onnx") -> Any:
    """The bundle's embedding graph as a custom model of fastembed."""
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    name = "cxr-bert"
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    TextEmbedding.add_custom_model(
        name,
        pooling=PoolingType.DISABLED,
        normalization=False,
        sources=ModelSource(url="file://"),  # it asks for one, and is then told where the files are
        dim=config.get("projection_size", config["hidden_size"]),
        model_file=file,
        output_name="text_embeds",
    )
    options = {"specific_model_path": str(folder), "local_files_only": True, "providers": ["CPUExecutionProvider"]}
    return TextEmbedding(name, threads=threads, **options)


def _optimum_embeddings(folder: Path, texts: list[str]) -> NDArray[Any]:
    from optimum.onnxruntime import ORTModelForFeatureExtraction
    from transformers import AutoTokenizer

    model = ORTModelForFeatureExtraction.from_pretrained(folder)
    inputs = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="np")
    return np.asarray(model(**inputs).last_hidden_state[:, 0])


def _optimum_openvino(folder: Path, texts: list[str]) -> NDArray[Any]:
    from optimum.intel import OVModelForFeatureExtraction
    from transformers import AutoTokenizer

    config = {"INFERENCE_PRECISION_HINT": "f32"}
    options = {"from_onnx": True, "subfolder": "onnx", "file_name": "model.onnx", "ov_config": config}
    model = OVModelForFeatureExtraction.from_pretrained(folder, **options)
    inputs = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    return np.asarray(model(**inputs).last_hidden_state[:, 0])


def _optimum_masks(folder: Path, texts: list[str]) -> NDArray[Any]:
    from optimum.onnxruntime import ORTModelForMaskedLM
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = ORTModelForMaskedLM.from_pretrained(folder, file_name=_EVERY_TOKEN)
    inputs = tokenizer(texts, padding=True, return_tensors="np")
    logits = model(**inputs).logits[inputs["input_ids"] == tokenizer.mask_token_id].astype(np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _sentence_transformers(backend: str, **model_kwargs: Any) -> Answer:
    def answer(folder: Path, texts: list[str]) -> NDArray[Any]:
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(folder), device="cpu", backend=backend, model_kwargs=dict(model_kwargs))
        return np.asarray(model.encode(texts))

    return answer


def _fastembed(folder: Path, texts: list[str]) -> NDArray[Any]:
    return np.stack(list(fastembed_model(folder).embed(texts)))


_LISTED: Sequence[Opener] = (
    Opener(
        "optimum ORTModelForFeatureExtraction",
        ("optimum-onnx", "transformers", "torch"),
        'from_pretrained("BUNDLE/text"); the embedding is last_hidden_state[:, 0]',
        EMBEDDINGS,
        _optimum_embeddings,
    ),
    Opener(
        "optimum OVModelForFeatureExtraction",
        ("optimum-intel", "openvino", "transformers", "torch"),
        'from_pretrained("BUNDLE/text", from_onnx=True, subfolder="onnx", file_name="model.onnx", '
        'ov_config={"INFERENCE_PRECISION_HINT": "f32"}); the embedding is last_hidden_state[:, 0]',
        EMBEDDINGS,
        _optimum_openvino,
    ),
    Opener(
        "optimum ORTModelForMaskedLM",
        ("optimum-onnx", "transformers", "torch"),
        f'from_pretrained("BUNDLE/text", file_name="{_EVERY_TOKEN}")',
        MASKS,
        _optimum_masks,
    ),
    Opener(
        "sentence-transformers ONNX backend",
        ("sentence-transformers", "optimum-onnx"),
        'SentenceTransformer("BUNDLE/text", backend="onnx")',
        EMBEDDINGS,
        _sentence_transformers("onnx", provider="CPUExecutionProvider"),
    ),
    Opener(
        "sentence-transformers OpenVINO backend",
        ("sentence-transformers", "optimum-intel", "openvino"),
        'SentenceTransformer("BUNDLE/text", backend="openvino", model_kwargs={"export": False, "from_onnx": True, '
        '"file_name": "onnx/model.onnx", "ov_config": {"INFERENCE_PRECISION_HINT": "f32"}})',
        EMBEDDINGS,
        _sentence_transformers("openvino", **openvino_options(None, "fp32")),
    ),
    Opener(
        "fastembed custom model",
        ("fastembed",),
        'add_custom_model(…, pooling=PoolingType.DISABLED, normalization=False, output_name="text_embeds"), then '
        'TextEmbedding(…, specific_model_path="BUNDLE/text")',
        EMBEDDINGS,
        _fastembed,
    ),
)
OPENERS: Mapping[str, Opener] = MappingProxyType({opener.tool: opener for opener in _LISTED})


def main(request: Mapping[str, Any]) -> None:
    """Ask one tool.

    Args:
        request: "tool", of `OPENERS`; "folder", the bundle's text folder; "texts"; "answer", the .npy file to write;
            "said", the .json file to write, with "version", "missing" (a package) or "error".
    """
    opener = OPENERS[request["tool"]]
    said: dict[str, str] = {}
    try:
        versions = [version(package) for package in opener.packages]
        said["version"] = versions[0]
        np.save(request["answer"], opener.answer(Path(request["folder"]), list(request["texts"])))
    except PackageNotFoundError as error:
        said["missing"] = str(error.name)
    except Exception as error:  # whatever the tool raises is the answer to whether it opens
        said["error"] = f"{type(error).__name__}: {error}"
    Path(request["said"]).write_text(json.dumps(said), encoding="utf-8")


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
