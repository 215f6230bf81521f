"""The text part of a bundle: its graph in every precision asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from export.calibration import CalibrationData
from export.fidelity import embed_texts, text_figures, text_milliseconds
from export.graph import GraphSpec, export_graph
from export.half import convert_half, find_overflowing
from export.lower import Judge, Lowering, artifact, bf16_fidelity, engines, fidelity
from export.models import CXRBertModel
from export.parity import Progress, check_gates, text_parity
from export.progress import Steps
from export.rewrites import TextEmbeddingGraph
from export.sentences import TRIPLETS
from export.text_recipes import int8_artifacts
from runtime.batching import pad_batch, plan_batches
from runtime.manifest import Artifact, TextPart
from runtime.providers import PROVIDERS, Provider, default_threads
from runtime.session import Session, SessionOptions
from runtime.tokenization import Tokenizer

__all__ = ["export_text", "text_judge"]

_TOKEN_BUDGET = 512
_GPU = ("cuda", "tensorrt")
# Calibration texts with which fp16 looks for activations beyond its range.
_OVERFLOW_TEXTS = 64

TextData = CalibrationData[list[list[int]]]


def export_text(
    model: CXRBertModel,
    folder: Path,
    engine: Provider,
    lowering: Lowering,
    data: TextData | None,
    seed: int,
    steps: Steps,
) -> TextPart:
    """Export the text encoder to `folder`/onnx and check every artifact.

    Args:
        model: the reference, in evaluation mode.
        folder: the bundle's text folder, with its tokenizer.
        engine: compares fp32 with PyTorch.
        lowering: precisions asked for.
        data: token ids to calibrate with and to judge by; needed for every precision but fp32.
        seed: of the parity inputs.
        steps: where progress is shown.
    """
    config = model.config
    longest, size = config.max_position_embeddings, config.projection_size
    graph = GraphSpec(
        inputs={"input_ids": ("batch", "sequence"), "attention_mask": ("batch", "sequence")},
        outputs={"text_embeds": ("batch", size), "cls_projected_embedding": ("batch", size)},
        limits={"batch": None, "sequence": longest},
    )
    source = folder / "onnx" / "model.onnx"
    source.parent.mkdir()
    tokenizer = Tokenizer(folder, longest)
    with steps.step("text: exporting the graph"):
        ids = torch.randint(5, config.vocab_size, (2, 16))
        module = TextEmbeddingGraph(model).eval().requires_grad_(False)
        info = export_graph(module, (ids, torch.ones_like(ids)), graph, source)
    with steps.step("text: comparing with PyTorch") as advance:
        session = engine.open(source, SessionOptions(threads=default_threads(), precision="fp32"))
        parity = text_parity(session, engine.name, "fp32", model, tokenizer, seed, advance)
        check_gates("text fp32", [parity])
        del session
    fp32 = artifact("text/onnx/model.onnx", "fp32", info, tuple(PROVIDERS), parity=(parity,))
    artifacts = [fp32]
    if data is not None:
        with steps.step("text: embedding the held-out texts with PyTorch") as advance:
            judge = _judge_by_pytorch(model, tokenizer, data, advance)
        artifacts = _lower(model, source, graph, fp32, judge, data, tokenizer, lowering, seed, steps)
    if "fp32" not in lowering.precisions and "bf16" not in lowering.precisions:
        artifacts = [found for found in artifacts if found.precision != "fp32"]
        for name in fp32.files:
            (folder.parent / name).unlink()
    return TextPart(longest, size, tuple(artifacts))


def text_judge(
    expected: NDArray[np.float32],
    expected_triplets: NDArray[np.float32],
    rows: list[list[int]],
    tokenizer: Tokenizer,
    vocab_size: int,
    digest: str,
) -> Judge:
    """A judge by embeddings that are right.

    Args:
        expected: float32 (N, D) of the held-out `rows`.
        expected_triplets: float32 (3 · T, D) of the published triplets.
        rows: token ids.
        digest: sha256 of the held-out texts.
    """
    triplets = tokenizer.encode([text for triplet in TRIPLETS for text in triplet])

    def figures(session: Session) -> dict[str, float]:
        found = embed_texts(session, [*rows, *triplets], tokenizer.pad_token_id)
        return text_figures(found[: len(rows)], expected, (found[len(rows) :], expected_triplets))

    def milliseconds(session: Session) -> float:
        return text_milliseconds(session, vocab_size, tokenizer.max_length)

    return Judge(figures, milliseconds, len(rows), digest)


def _judge_by_pytorch(model: CXRBertModel, tokenizer: Tokenizer, data: TextData, advance: Progress) -> Judge:
    triplets = tokenizer.encode([text for triplet in TRIPLETS for text in triplet])
    rows = [*data.held_out, *triplets]
    expected = np.empty((len(rows), model.config.projection_size), np.float32)
    done = 0
    for batch in plan_batches([len(row) for row in rows], _TOKEN_BUDGET):
        ids, mask = (torch.from_numpy(each) for each in pad_batch([rows[index] for index in batch], 0))
        expected[batch] = torch.nn.functional.normalize(model.cls_projection(ids, mask), dim=-1).numpy()
        done += len(batch)
        advance(done / len(rows))
    held_out = len(data.held_out)
    return text_judge(
        expected[:held_out],
        expected[held_out:],
        list(data.held_out),
        tokenizer,
        model.config.vocab_size,
        data.record.held_out_sha256,
    )


def _lower(
    model: CXRBertModel,
    source: Path,
    graph: GraphSpec,
    fp32: Artifact,
    judge: Judge,
    data: TextData,
    tokenizer: Tokenizer,
    lowering: Lowering,
    seed: int,
    steps: Steps,
) -> list[Artifact]:
    """The fp32 artifact with its fidelity, and the artifacts of the other precisions."""
    wanted = lowering.precisions
    with steps.step("text: measuring fp32 on the held-out texts"):
        records = fidelity(judge, source, "fp32", fp32.providers, lowering.enforced, "text fp32")
        if "bf16" in wanted:
            records += bf16_fidelity(judge, source, lowering.enforced, "text", steps)
    artifacts = [replace(fp32, fidelity=records)]
    if "fp16" in wanted:
        with steps.step("text: converting to fp16") as advance:
            target = source.with_name("model_fp16.onnx")
            engine = engines(("cpu", "openvino"))[0]
            rows = list(data.calibration[:_OVERFLOW_TEXTS])
            feeds = (
                dict(
                    zip(graph.inputs, pad_batch([rows[index] for index in batch], tokenizer.pad_token_id), strict=True)
                )
                for batch in plan_batches([len(row) for row in rows], _TOKEN_BUDGET)
            )
            info = convert_half(source, target, graph, "fp16", keep=find_overflowing(source, feeds, engine))
            session = engine.open(target, SessionOptions(threads=default_threads(), precision="fp16"))
            parity = text_parity(session, engine.name, "fp16", model, tokenizer, seed, advance)
            check_gates("text fp16", [parity])
            records = fidelity(judge, target, "fp16", _GPU, lowering.enforced, "text fp16")
            artifacts.append(
                artifact("text/onnx/model_fp16.onnx", "fp16", info, _GPU, parity=(parity,), fidelity=records)
            )
    if "bf16" in wanted:
        with steps.step("text: converting to bf16 for GPUs"):
            target = source.with_name("model_bf16.onnx")
            info = convert_half(source, target, graph, "bf16")
            # ONNX Runtime has no bf16 kernels for processors; OpenVINO reads the graph and computes it in float32.
            records = fidelity(
                judge, target, "bf16", ("openvino",), lowering.enforced, "text bf16 graph", computed="fp16"
            )
            artifacts.append(artifact("text/onnx/model_bf16.onnx", "bf16", info, _GPU, fidelity=records))
    if "int8" in wanted or "int8-dynamic" in wanted:
        artifacts += int8_artifacts(source, graph, judge, data, tokenizer, lowering, steps)
    return artifacts
