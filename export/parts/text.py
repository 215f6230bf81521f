"""The text part of a bundle: its graph in every precision asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from export.families import TextAxes
from export.graphs import GraphSpec, export_graph
from export.graphs.fill_mask import export_head, fill_mask_artifact
from export.graphs.other_tools import every_token_graph, write_sentence_transformers
from export.graphs.packing import exported_spec, pack_artifact, packed_spec, plain_graph, plain_spec
from export.graphs.text_rewrites import PackedTextGraph, TextEmbeddingGraph
from export.precision import Lowering
from export.precision.floats import float_artifacts
from export.precision.lower import artifact, without_fp32
from export.precision.text_recipes import int8_artifacts, token_feeds
from export.progress import Steps
from export.proof import Judge, check_gates, working_engines
from export.proof.fill_mask_parity import MaskedCases, fill_mask_parity, masked_cases, pytorch_answers
from export.proof.judge import text_judge
from export.proof.parity import Progress
from export.proof.text_parity import packed_parity, text_parity
from export.reference import TextReference
from export.samples import TRIPLETS, TextData
from runtime.bundle import PACKED, Artifact
from runtime.bundle.parts import TextPart
from runtime.engines import PROVIDERS, Provider, SessionOptions
from runtime.engines.providers import default_threads
from runtime.text import Tokenizer, pad_batch, plan_batches

__all__ = ["export_text"]

_TOKEN_BUDGET = 512
# Calibration texts with which fp16 looks for activations beyond its range.
_OVERFLOW_TEXTS = 64


def export_text(
    reference: TextReference,
    axes: TextAxes,
    folder: Path,
    engine: Provider,
    lowering: Lowering,
    data: TextData | None,
    seed: int,
    steps: Steps,
) -> TextPart:
    """Export the text encoder to `folder`/onnx and check every artifact.

    Args:
        reference: upstream's model.
        axes: what else there is to say of it.
        folder: the bundle's text folder, with its tokenizer.
        engine: compares fp32 with PyTorch.
        lowering: precisions asked for.
        data: token ids to calibrate with and to judge by; needed for every precision but fp32.
        seed: of the parity inputs.
        steps: where progress is shown.

    Raises:
        GraphError: the exported graph is not portable.
        GateError: an artifact misses a gate.
    """
    longest, size, vocab_size = reference.longest, reference.size, reference.vocab_size
    source = folder / "onnx" / "model.onnx"
    graph, packed = plain_spec(size, longest), packed_spec(size, longest, f"{source.name}_data")
    source.parent.mkdir()
    tokenizer = Tokenizer(folder, axes.tokenization)
    with steps.step("text: exporting the graph"):
        module = PackedTextGraph(TextEmbeddingGraph(reference)).eval().requires_grad_(False)
        exported = source.with_name(".packed.onnx")
        whole = exported_spec(size, longest, packed.external_data, reference.hidden_size, reference.pooling)
        export_graph(module, _example(vocab_size), whole, exported)
        info = plain_graph(exported, source, graph)
        exported.unlink()
    with steps.step("text: comparing with PyTorch") as advance:
        session = engine.open(source, SessionOptions(threads=default_threads(), precision="fp32"))
        parity = text_parity(session, engine.name, "fp32", reference, tokenizer, seed, advance)
        check_gates("text fp32", [parity])
        del session
    fp32 = artifact("text/onnx/model.onnx", "fp32", info, tuple(PROVIDERS), parity=(parity,))
    artifacts, judge = [fp32], None
    if data is not None:
        with steps.step("text: embedding the held-out texts with PyTorch") as advance:
            judge = _judge_by_pytorch(reference, source, tokenizer, data, advance)
        artifacts = float_artifacts(
            "text",
            source,
            graph,
            fp32,
            judge,
            token_feeds(data.calibration[:_OVERFLOW_TEXTS], tokenizer),
            lambda session, name, precision: text_parity(session, name, precision, reference, tokenizer, seed),
            lowering,
            steps,
            bf16_graph=True,
        )
        if "int8" in lowering.precisions or "int8-dynamic" in lowering.precisions:
            artifacts += int8_artifacts(source, graph, judge, data, tokenizer, lowering, steps)
    kept = without_fp32(artifacts, lowering, folder.parent)
    with steps.step("text: packing several texts a row") as advance:
        engines = judge.engines if judge else (engine,)
        packable = [found for found in kept if any(PROVIDERS[name].packs for name in found.providers)]
        for index, found in enumerate(packable):
            kept += (_pack(found, folder.parent, packed, engines, tokenizer, vocab_size, seed),)
            advance((index + 1) / len(packable))
    if reference.masked_head is not None:
        with steps.step("text: filling masks, compared with PyTorch") as advance:
            packs = [found for found in kept if found.role == PACKED]
            # The decoder's table is in the fp32 graph's file. Others need it in one of its own, which fp32 then reads
            # too.
            shared = source if {found.precision for found in packs} == {"fp32"} else None
            head = export_head(reference, source.parent, shared)
            cases = masked_cases(pytorch_answers(reference), reference.name, tokenizer, vocab_size, seed)
            for index, found in enumerate(packs):
                filling = fill_mask_artifact(found, folder.parent, head, longest)
                kept += (_compare_masks(filling, folder.parent, engines, cases),)
                if found.precision == "fp32":
                    every_token_graph(folder.parent / filling.file, vocab_size, longest)
                advance((index + 1) / len(packs))
    write_sentence_transformers(folder, size, axes.tokenization)
    return TextPart(
        architecture="bert",
        attention="bidirectional",
        tokenization=axes.tokenization,
        pooling=axes.pooling,
        projection=axes.projection,
        masked_words=reference.masked_head is not None,
        embedding_size=size,
        artifacts=kept,
    )


def _example(vocab_size: int) -> tuple[torch.Tensor, ...]:
    ids = torch.randint(5, vocab_size, (2, 16))
    return ids, torch.arange(16).repeat(2, 1), torch.ones_like(ids), torch.zeros(2, 3, dtype=torch.int64)


def _pack(
    plain: Artifact,
    bundle: Path,
    spec: GraphSpec,
    engines: tuple[Provider, ...],
    tokenizer: Tokenizer,
    vocab_size: int,
    seed: int,
) -> Artifact:
    """The packed twin of an artifact, compared with it on every engine at hand."""
    packed = pack_artifact(plain, bundle, spec)
    options = SessionOptions(threads=default_threads(), precision=plain.precision)
    records = []
    for engine in engines:
        if engine.name in packed.providers:
            alone, side_by_side = (engine.open(bundle / found.file, options) for found in (plain, packed))
            records.append(
                packed_parity(alone, side_by_side, engine.name, plain.precision, tokenizer, vocab_size, seed)
            )
    check_gates(f"text {plain.precision}, packed", records)
    return replace(packed, parity=tuple(records))


def _compare_masks(filling: Artifact, bundle: Path, engines: tuple[Provider, ...], cases: MaskedCases) -> Artifact:
    """A graph that fills masks, compared with PyTorch on every engine at hand."""
    options = SessionOptions(threads=default_threads(), precision=filling.precision)
    records = [
        fill_mask_parity(engine.open(bundle / filling.file, options), engine.name, filling.precision, cases)
        for engine in engines
        if engine.name in filling.providers
    ]
    check_gates(f"text {filling.precision}, masks", records)
    return replace(filling, parity=tuple(records))


def _judge_by_pytorch(
    reference: TextReference, source: Path, tokenizer: Tokenizer, data: TextData, advance: Progress
) -> Judge:
    triplets = tokenizer.encode([text for triplet in TRIPLETS for text in triplet])
    rows = [*data.held_out, *triplets]
    expected = np.empty((len(rows), reference.size), np.float32)
    done = 0
    for batch in plan_batches([len(row) for row in rows], _TOKEN_BUDGET):
        padded = pad_batch([rows[index] for index in batch], tokenizer.pad_token_id)
        ids, mask = (torch.from_numpy(each) for each in padded)
        expected[batch] = torch.nn.functional.normalize(reference.embed(ids, mask), dim=-1).numpy()
        done += len(batch)
        advance(done / len(rows))
    held_out = len(data.held_out)
    return text_judge(
        expected[:held_out],
        expected[held_out:],
        list(data.held_out),
        tokenizer,
        reference.vocab_size,
        data.record.held_out_sha256,
        working_engines(source),
    )
