"""From process start to the first text embedding, and the memory that it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from bench.errors import PeerError
from bench.measuring import Entry
from bench.peers.contract import PROCESSOR
from bench.processes import run_process
from bench.processes.measure import ProcessSample
from bench.record import FAILED, MEASURED, SKIPPED, WRONG, Case, Row
from bench.record.gates import judge
from bench.workloads.contestants import REFERENCE
from bench.workloads.model import Model

__all__ = ["cold_start_case", "measure_cold_starts"]

_TEXT = "There is no pneumothorax or pleural effusion"

# Whole processes; they end with report(vector), see bench.processes.measure.
# argv: bundle, checkpoint, text, provider, precision.
_ENGINE = """
import runtime
engine = runtime.load(sys.argv[1], provider=sys.argv[4], precision=sys.argv[5], parts=["text"])
report(engine.text.encode(sys.argv[3])[0])
"""
# As the model card does it, less the downloaded code: tokenizer and model by from_pretrained, then the projected [CLS]
# embedding. argv: …, device.
_TRANSFORMERS = """
import torch
from transformers import BertTokenizer
from transformers.utils import logging
from bench.peers.cxr_bert import load_cxr_bert
logging.set_verbosity_error()
logging.disable_progress_bar()
tokenizer = BertTokenizer.from_pretrained(sys.argv[2])
model = load_cxr_bert(sys.argv[2]).to(sys.argv[6])
inputs = tokenizer([sys.argv[3].rstrip("!?.")], return_tensors="pt").to(sys.argv[6])
with torch.inference_mode():
    projected = model.embed(inputs["input_ids"], inputs["attention_mask"])
report(torch.nn.functional.normalize(projected, dim=-1)[0].tolist())
"""
_ONNXRUNTIME = """
import numpy, onnxruntime
from tokenizers import Tokenizer
tokenizer = Tokenizer.from_file(sys.argv[1] + "/text/tokenizer.json")
session = onnxruntime.InferenceSession(sys.argv[1] + "/text/onnx/model.onnx", providers=["CPUExecutionProvider"])
ids = numpy.array([tokenizer.encode(sys.argv[3].rstrip("!?.")).ids])
report(session.run(["text_embeds"], {"input_ids": ids, "attention_mask": numpy.ones_like(ids)})[0][0])
"""
# As the model cards of CLIP-likes do it: model and tokenizer by the package whose layout it is, then the embedding.
_CLIP = """
import torch
from bench.peers.clip.loading import load
loaded = load(sys.argv[2])
loaded.model.to(sys.argv[6])
inputs = {name: value.to(sys.argv[6]) for name, value in loaded.inputs([sys.argv[3]]).items()}
with torch.inference_mode():
    embeds = loaded.embed_texts(**inputs)
report(torch.nn.functional.normalize(embeds, dim=-1)[0].tolist())
"""
_SCRIPTS: Mapping[str, str] = MappingProxyType(
    {"reference": _TRANSFORMERS, "clip-reference": _CLIP, "onnxruntime": _ONNXRUNTIME, "engine": _ENGINE}
)


def measure_cold_starts(
    case: Case, entries: Sequence[Entry], model: Model, rounds: int, seconds: float, progress: Callable[[str], None]
) -> None:
    """Start contestants in turn, after one uncounted start of each whose answers are compared.

    Args:
        case: gets its rows as they are measured.
        entries: contestants; those that start in no way of their own are left out.
        model: what they load.
        rounds: counted starts of each.
        seconds: from now, after which no more than one start of each is begun.
        progress: called with what is going on.
    """
    until = time.monotonic() + seconds
    expected = None
    for entry in entries:
        if entry.opener not in _SCRIPTS or "texts" not in entry.systems or entry.seldom:
            continue
        progress(f"cold-start: {entry.contestant.label} for the first time")
        row = Row(entry.name, MEASURED)
        case.rows.append(row)
        row.reason = entry.unavailable()
        if row.reason:
            row.status = SKIPPED
            continue
        try:
            answer = np.array([_start(entry, model).answer])
        except PeerError as error:
            row.status, row.reason = FAILED, str(error)
            continue
        if entry.name == case.baseline:
            expected = answer
        elif expected is None:
            row.status, row.reason = WRONG, f"'{case.baseline}' gave no answer to compare its own with"
        else:
            judgement = judge("texts", answer, expected, entry.contestant.precision)
            row.fidelity = judgement.fidelity
            if judgement.wrong:
                row.status, row.reason = WRONG, judgement.wrong
    known = {entry.name: entry for entry in entries}
    took = 0.0
    for number in range(rounds):
        began = time.monotonic()
        if number and began + took > until:
            break
        progress(f"cold-start: round {number + 1} of {rounds}")
        for row in case.rows:
            if row.status != MEASURED:
                continue
            try:
                sample = _start(known[row.contestant], model)
            except PeerError as error:
                row.status, row.reason, row.samples, row.peak_bytes = FAILED, str(error), [], []
                continue
            row.samples.append([sample.seconds])
            row.peak_bytes.append(sample.peak_bytes)
        took = time.monotonic() - began


def cold_start_case() -> Case:
    """Without rows."""
    title = "process start → first text embedding, warm disk"
    return Case("cold-start", "cold-start", title, "starts", 1, 0.0, REFERENCE.name)


def _start(entry: Entry, model: Model) -> ProcessSample:
    named = (entry.contestant.provider, entry.contestant.precision, entry.told.get("device", PROCESSOR))
    return run_process(_SCRIPTS[entry.opener], [str(model.bundle.root), str(model.checkpoint), _TEXT, *named])
