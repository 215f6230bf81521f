"""The text part of a bundle: its graph in every precision asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from export.families import TextAxes
from export.graphs import export_graph
from export.graphs.other_tools import write_sentence_transformers
from export.graphs.packing import exported_spec, packed_spec, plain_graph, plain_spec
from export.graphs.text_rewrites import PackedTextGraph, text_graph
from export.parts.faces import Faces, in_order
from export.precision import Lowering
from export.precision.floats import float_artifacts
from export.precision.lower import artifact, fp32_stays
from export.precision.misses import Misses
from export.precision.recipes.text import int8_artifacts, token_feeds
from export.progress import Steps
from export.proof import check_gates, working_engines
from export.proof.fidelity import embed_texts
from export.proof.held_out import held_out_texts
from export.proof.judge import reference_noise, text_cases, text_judge
from export.proof.text_parity import text_parity
from export.proof.zero_shot import ZeroShot
from export.reference import AnyText
from export.samples import TextData
from runtime.bundle.parts import TextPart
from runtime.engines import PROVIDERS, Provider, SessionOptions
from runtime.engines.providers import default_threads
from runtime.text import Tokenizer

__all__ = ["export_text"]

# Calibration texts with which fp16 looks for activations beyond its range.
_OVERFLOW_TEXTS = 64


def export_text(
    reference: AnyText,
    axes: TextAxes,
    folder: Path,
    engine: Provider,
    lowering: Lowering,
    data: TextData | None,
    seed: int,
    misses: Misses,
    steps: Steps,
    zero_shot: ZeroShot | None = None,
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
        misses: leaves out lower precisions that miss a gate.
        steps: where progress is shown.
        zero_shot: measures the change of zero-shot classification as well; None where no labelled images were given.

    Raises:
        GraphError: the exported graph is not portable.
        GateError: fp32 misses a gate, or another precision and nothing may be left out.
    """
    longest, size, vocab_size = reference.longest, reference.size, reference.vocab_size
    source = folder / "onnx" / "model.onnx"
    graph, packed = plain_spec(size, longest), packed_spec(size, longest, f"{source.name}_data")
    source.parent.mkdir()
    tokenizer = Tokenizer(folder, axes.tokenization)
    with steps.step("text: exporting the graph"):
        module = PackedTextGraph(text_graph(reference)).eval().requires_grad_(False)
        exported = source.with_name(".packed.onnx")
        whole = exported_spec(size, longest, packed.external_data, reference.hidden_size, reference.pooling)
        export_graph(module, _example(vocab_size), whole, exported)
        info = plain_graph(exported, source, graph, reference.pooling)
        exported.unlink()
    with steps.step("text: comparing with PyTorch") as advance:
        session = engine.open(source, SessionOptions(threads=default_threads(), precision="fp32"))
        parity = text_parity(session, engine.name, "fp32", reference, tokenizer, seed, advance)
        check_gates("text fp32", [parity])
        del session
    fp32 = artifact("text/onnx/model.onnx", "fp32", info, tuple(PROVIDERS), parity=(parity,))
    artifacts, judge = [fp32], None
    if data is not None:
        with steps.step("text: embedding the held-out texts, some with PyTorch") as advance:
            cases = text_cases(data, tokenizer)
            session = engine.open(source, SessionOptions(threads=default_threads(), precision="fp32"))
            expected, compared = held_out_texts(
                session, engine.name, reference, cases.rows, tokenizer.pad_token_id, advance
            )
            del session
            fp32 = replace(fp32, parity=(parity, compared))
            engines = working_engines(source)
            noise = reference_noise(
                source,
                engines,
                engine.name,
                lambda session: embed_texts(session, cases.held_out, tokenizer.pad_token_id),
                expected[: len(cases.held_out)],
            )
            extra, digest = zero_shot.text_figures if zero_shot else None, data.record.held_out_sha256
            judge = text_judge(expected, cases, tokenizer, vocab_size, digest, engines, noise, engine.name, extra)
        artifacts = float_artifacts(
            "text",
            source,
            graph,
            fp32,
            judge,
            token_feeds(data.calibration[:_OVERFLOW_TEXTS], tokenizer),
            lambda session, name, precision: text_parity(session, name, precision, reference, tokenizer, seed),
            lowering,
            misses,
            steps,
            bf16_graph=True,
        )
        if "int8" in lowering.precisions or "int8-dynamic" in lowering.precisions:
            masked = reference.masked_head is not None
            artifacts += int8_artifacts(
                artifacts, folder.parent, graph, judge, data, tokenizer, lowering, misses, steps, masked=masked
            )
    engines = judge.engines if judge else (engine,)
    faces = Faces(reference, folder.parent, packed, engines, tokenizer, seed, misses, steps)
    others = artifacts[1:]
    stays = fp32_stays(others, misses.of("text"), lowering)
    kept = faces.of(artifacts if stays else others)
    if not stays and fp32_stays(kept, misses.of("text"), lowering):
        stays = True
        kept += faces.of(artifacts[:1])
    if not stays:
        for name in fp32.files:
            (folder.parent / name).unlink()
    causal = reference.architecture == "clip"
    if not causal:
        write_sentence_transformers(folder, size, axes.tokenization)
    return TextPart(
        architecture=reference.architecture,
        attention="causal" if causal else "bidirectional",
        tokenization=axes.tokenization,
        pooling=axes.pooling,
        projection=axes.projection,
        masked_words=reference.masked_head is not None,
        embedding_size=size,
        artifacts=in_order(kept),
    )


def _example(vocab_size: int) -> tuple[torch.Tensor, ...]:
    ids = torch.randint(5, vocab_size, (2, 16))
    return ids, torch.arange(16).repeat(2, 1), torch.ones_like(ids), torch.zeros(2, 3, dtype=torch.int64)
