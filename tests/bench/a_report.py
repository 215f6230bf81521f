"""A made-up report with everything that a report may hold, for tests of what reads reports; nothing was measured."""

# ruff: noqa: E501  (tables read better with a line a row)
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.record import FAILED, MEASURED, SKIPPED, WRONG, Case, Fidelity, LoadGenRun, Manner, Rate, Report, Row
from bench.record.report import Contestant

__all__ = ["CONTESTANTS", "NASTY", "a_report"]

# What a reason or a label may hold: markup, a template's and a formula's marks, control characters, lines, much text.
NASTY = (
    "<script>alert('x')</script> & \"quoted\" | {{ 7 * 7 }} $x_1$ `code` *star*\n\x1b[31mred\x1b[0m\n"
    + "long/path/" * 60
)

# name, label, kind, how, provider, precision, seconds of a pass relative to the reference, 1 - mean cosine
_TEXT = (
    ("reference", "hi-ml-multimodal", "reference", "as run", "", "fp32", 1.0, None),
    ("torch-fp32", "PyTorch eager fp32", "peer", "as run", "", "fp32", 0.93, 2e-8),
    ("torch-compile", "torch.compile fp32", "peer", "tuned", "", "fp32", 0.78, 3e-8),
    ("torch-bf16", "PyTorch bf16, sorted by length", "peer", "tuned", "", "bf16", 0.2, 3e-5),
    ("optimum", "Optimum ONNX Runtime", "peer", "as run", "", "fp32", 0.5, 4e-8),
    ("ort-fp32", "ONNX Runtime, plain", "peer", "tuned", "", "fp32", 0.41, 4e-8),
    ("openvino-bf16", "OpenVINO native bf16", "peer", "tuned", "", "bf16", 0.19, 2.5e-5),
    ("engine-cpu-fp32", "this engine, ONNX Runtime, fp32", "engine", "", "cpu", "fp32", 0.33, 4e-8),
    ("engine-cpu-int8", "this engine, ONNX Runtime, int8", "engine", "", "cpu", "int8", 0.13, 1.9e-3),
    ("engine-openvino-fp32", "this engine, OpenVINO, fp32", "engine", "", "openvino", "fp32", 0.31, 4e-8),
    ("engine-openvino-bf16", "this engine, OpenVINO, bf16", "engine", "", "openvino", "bf16", 0.15, 2.2e-5),
    ("engine-openvino-int8", "this engine, OpenVINO, int8", "engine", "", "openvino", "int8", 0.085, 1.6e-3),
)
_UNTIMED = (
    (Contestant("engine-openvino-int8-fast-decode", "this engine, OpenVINO, int8, fast_decode", "option", "", "openvino", "int8", "its pixels are not the reference's"), SKIPPED, "for this test"),
    (Contestant("sbert-openvino", "sentence-transformers OpenVINO", "peer", "as run"), SKIPPED, "not installed: No module named 'sentence_transformers'. Install it with: make peers"),
    (Contestant("torch-int8", "PyTorch int8 dynamic", "peer", "tuned", precision="int8"), WRONG, "an embedding has mean cosine 0.91231 with the reference's, at least 0.99 is expected"),
    (Contestant("crash", NASTY, "peer", "tuned"), FAILED, NASTY),
)  # fmt: skip
CONTESTANTS: tuple[Contestant, ...] = (
    *(Contestant(name, label, kind, how, provider, precision, our_graph=name in ("ort-fp32", "openvino-bf16")) for name, label, kind, how, provider, precision, *_ in _TEXT),
    *(each[0] for each in _UNTIMED),
)  # fmt: skip
_PRECISION = {each.name: each.precision for each in CONTESTANTS}
_RATES = {"fp32": 414e9, "bf16": 750e9, "int8": 1560e9}


def a_report(
    seed: int = 0,
    partial: str = "",
    trained: bool = False,
    rounds: int = 5,
    cases: Sequence[str] | None = None,
    slower: float = 1.0,
) -> Report:
    """A report with every workload, peer and status.

    Args:
        seed: of the noise.
        partial: as the report's.
        trained: as in the report's `model`.
        rounds: of each case.
        cases: names of those to keep; None keeps all.
        slower: factor on the seconds of this project's engines.
    """
    maker = _Maker(np.random.default_rng(seed), rounds, slower)
    every = [
        maker.case("texts", "texts", "256 reports: strings → embeddings", "texts", 256, 19.0, 2.1e12, passes=1, untimed=True),
        maker.case("query", "query", "One query of 16 tokens: string → embedding", "texts", 1, 0.041, 2.7e9, passes=40, untimed=True),
        maker.case("batch", "batch", "32 reports at once: strings → embeddings", "texts", 32, 2.3, 2.6e11, passes=2),
        *(
            maker.case("shapes", f"shapes-{batch}x{tokens}", f"{batch} × {tokens} token ids → embeddings", "texts", batch, 0.0011 * batch * tokens + 0.02, 1.7e8 * batch * tokens, {"batch": batch, "tokens": tokens}, passes=3)
            for batch in (1, 8, 32)
            for tokens in (16, 64, 128, 512)
        ),
        maker.case("files", "files", "JPEG files of 2,500 × 2,048 → embeddings", "images", 24, 17.5, passes=1, untimed=True),
        *(
            maker.case("pixels", f"pixels-{batch}", f"{batch} prepared images → embeddings", "images", batch, 0.26 * batch + 0.1, 3.8e10 * batch, {"batch": batch}, passes=2)
            for batch in (1, 4, 16)
        ),
        maker.case("joint", "joint", "One image and 14 pairs of prompts → 14 probabilities", "images", 1, 1.7, passes=3),
        maker.case("joint", "labels", "One image and 14 labels → 14 probabilities", "images", 1, 1.6, passes=3),
        maker.case("fill-mask", "fill-mask", "Eight texts of 64 tokens with a mask → words", "texts", 8, 1.1, passes=3),
        maker.cold_start(),
        maker.memory(),
        *(
            maker.case("corpus", f"corpus-{texts}", f"{texts} reports: strings → embeddings", "texts", texts, 0.075 * texts + 0.4, parameters={"texts": texts})
            for texts in (16, 64, 256, 1024)
        ),
        *(
            maker.case("threads", f"threads-{threads}", f"256 reports with {threads} threads", "texts", 256, 19 * 2 / threads + 2, parameters={"threads": threads})
            for threads in (1, 2)
        ),
    ]  # fmt: skip
    return Report(
        created="2026-01-02T03:04:05+00:00",
        command="python -m bench --rounds 5 --out report",
        settings={"threads": 2, "rounds": rounds, "seed": seed, "full": False, "texts": "generated, seed 0"},
        machine={"processor": "a made-up processor", "cores": "2", "memory": "16 GB", "governor": "performance", "load": "0.10 before, 1.98 after"},
        versions={"python": "3.11.9", "numpy": "2.4.6", "torch": "2.14.0", "openvino": "2026.4", "onnxruntime": "1.31.0"},
        model={"family": "biovil", "source": "random, seed 0" if not trained else "a checkpoint", "digest": "0123456789abcdef" * 4, "trained": trained, "precisions": ["fp32", "int8"]},
        contestants=list(CONTESTANTS),
        cases=[case for case in every if cases is None or case.name in cases],
        loadgen=maker.loadgen(),
        manners=[
            Manner("optimum ORTModelForMaskedLM", "2.1.0", True, True, 0.0, "with file_name='onnx/fill_mask.onnx'"),
            Manner("fastembed custom model", "0.8.0", True, False, 0.31, "it normalizes what the graph has normalized <already>"),
            Manner("sentence-transformers ONNX backend", "5.1.0", False, None, None, "it expects last_hidden_state"),
            Manner("transformers.js", "", None, None, None, "not installed"),
        ],
        seconds=812.0,
        partial=partial,
    )  # fmt: skip


class _Maker:
    """Draws samples: noise of each pass, and slow rounds that hit everybody."""

    def __init__(self, rng: np.random.Generator, rounds: int, slower: float) -> None:
        self._rng = rng
        self._rounds = rounds
        self._slower = slower

    def _samples(self, seconds: float, slow: np.ndarray, passes: int) -> list[list[float]]:
        noise = 1 + np.abs(self._rng.normal(0, 0.03, (self._rounds, passes)))
        return [[float(each) for each in row] for row in seconds * noise * slow[:, None]]

    def _slow(self) -> np.ndarray:
        return 1 + 0.1 * self._rng.random(self._rounds)

    def case(
        self,
        workload: str,
        name: str,
        title: str,
        unit: str,
        items: int,
        seconds: float,
        operations: float = 0.0,
        parameters: dict[str, int] | None = None,
        passes: int = 2,
        untimed: bool = False,
    ) -> Case:
        slow = self._slow()
        rows = []
        for contestant, _, kind, _, _, _, share, off in _TEXT:
            factor = share * (self._slower if kind == "engine" else 1.0)
            samples = self._samples(seconds * factor, slow, passes)
            fidelity = None if off is None else Fidelity(1 - off, 1 - 4 * off, 20 * off)
            rows.append(Row(contestant, MEASURED, "", samples, fidelity, [int(1.4e9 * (0.3 + share))]))
        if untimed:
            wrong = Fidelity(0.91231, 0.42, 0.3)
            rows += [
                Row(each.name, status, reason, fidelity=wrong if status == WRONG else None)
                for each, status, reason in _UNTIMED
            ]
        rates = {each: Rate(1e11, self._samples(1e11 / rate, slow, 1)) for each, rate in _RATES.items() if operations}
        return Case(workload, name, title, unit, items, operations, "reference", parameters or {}, rows, rates)

    def cold_start(self) -> Case:
        slow = self._slow()
        figures = {"reference": (4.9, 1.25e9), "torch-fp32": (4.6, 1.2e9), "engine-cpu-int8": (0.5, 1.76e8)}
        rows = [
            Row(name, MEASURED, "", self._samples(seconds, slow, 1), None, [int(peak)] * self._rounds)
            for name, (seconds, peak) in figures.items()
        ]
        title = "Process start → first text embedding"
        return Case("cold-start", "cold-start", title, "starts", 1, 0.0, "reference", {}, rows)

    def memory(self) -> Case:
        grown = {"engine-cpu-int8": 2.1e8, "engine-openvino-int8": 3.9e8}
        rows = [
            Row(name, MEASURED, resident_bytes=[int(least * (1.1 - 0.1 / (point + 1))) for point in range(8)])
            for name, least in grown.items()
        ]
        title = "10,000 texts of mixed lengths and 2,000 images, one request after the other"
        return Case("memory", "memory", title, "texts", 10_000, 0.0, "engine-cpu-int8", {}, rows)

    def loadgen(self) -> list[LoadGenRun]:
        runs = []
        for system, seconds in (("text", 0.004), ("image", 0.03)):
            for scenario, metric, queries in (
                ("SingleStream", "p90 latency", 300),
                ("MultiStream", "p99 latency of 8 samples", 120),
                ("Server", "queries a second", 300),
                ("Offline", "samples a second", 1),
            ):
                latencies = [float(each) for each in seconds * (1 + self._rng.gamma(1.5, 0.2, queries))]
                in_seconds = metric.startswith("p")
                value = float(np.quantile(latencies, 0.9)) if in_seconds else 0.8 / seconds
                valid = scenario != "MultiStream"
                reason = "" if valid else "Min queries not satisfied, see the detailed log."
                runs.append(
                    LoadGenRun(
                        system,
                        scenario,
                        "performance",
                        "engine-openvino-int8",
                        metric,
                        value,
                        "s" if in_seconds else "1/s",
                        valid,
                        reason,
                        False,
                        {"min_seconds": 5.0, "target_qps": 40.0},
                        latencies,
                    )
                )
            runs.append(
                LoadGenRun(
                    system,
                    "Offline",
                    "accuracy",
                    "engine-openvino-int8",
                    "mean cosine",
                    0.9984,
                    "",
                    fidelity=Fidelity(0.9984, 0.9931, 0.02),
                    gate="mean cosine ≥ 0.99",
                    passed=True,
                )
            )
        return runs
