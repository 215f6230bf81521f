"""ONNX Runtime and OpenVINO as their documentation starts: a graph of the bundle, a text a row, no runtime of ours.

Their graphs have this project's rewrites in them, as they come with the bundle: what is compared is the running.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from bench.errors import PeerError
from bench.peers.contract import BATCH, STRIPPED, Case, Open, Prepare, Run, Spec, sorted_batches
from bench.peers.torch_images import in_files_or_pixels
from runtime.engines.gpu import load_libraries
from runtime.text import pad_batch

__all__ = ["PLAIN", "Engine", "onnxruntime_engine", "open_plain_text", "openvino_engine"]

Compute = Callable[[dict[str, NDArray[Any]], str], NDArray[Any]]
_CUDA, _FATAL = "CUDAExecutionProvider", 4

# From the path of a graph and the number of threads to a function of its inputs and the output that is wanted.
Engine = Callable[[str, int], Compute]


def onnxruntime_engine(path: str, threads: int) -> Compute:
    """ONNX Runtime on the processor."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda inputs, output: session.run([output], inputs)[0]


def _cuda(path: str, threads: int) -> Compute:
    import onnxruntime

    load_libraries(_CUDA)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _FATAL
    # With TF32, which is the default, fp32 would be 1e-3 off.
    session = onnxruntime.InferenceSession(path, options, providers=[(_CUDA, {"use_tf32": "0"})], enable_fallback=0)
    if session.get_providers()[0] != _CUDA:
        raise PeerError("ONNX Runtime cannot load CUDA")
    return lambda inputs, output: session.run([output], inputs)[0]


def openvino_engine(hint: str | None = None) -> Engine:
    """OpenVINO on the processor.

    Args:
        hint: INFERENCE_PRECISION_HINT; None computes in what OpenVINO chooses.
    """

    def start(path: str, threads: int) -> Compute:
        import openvino

        options: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads}
        if hint:
            options["INFERENCE_PRECISION_HINT"] = hint
        compiled = openvino.Core().compile_model(path, "CPU", options)
        # An output's memory is used again by the next run.
        return lambda inputs, output: compiled(inputs)[output].copy()

    return start


def _texts(engine: Engine, precision: str, provider: str) -> Open:
    def start(spec: Spec) -> Prepare:
        return open_plain_text(spec, _graph(spec, "text", precision, provider), engine)

    return start


def open_plain_text(spec: Spec, graph: str, engine: Engine) -> Prepare:
    """Texts through a graph with the inputs input_ids and attention_mask, sorted, in batches."""
    from tokenizers import Tokenizer

    from runtime.bundle import open_bundle

    tokenizer = Tokenizer.from_file(str(open_bundle(spec["bundle"]).path("text/tokenizer.json")))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    compute = engine(graph, spec["threads"])

    def prepare(case: Case) -> Run:
        texts = case["texts"]

        def run() -> NDArray[Any]:
            rows = [each.ids for each in tokenizer.encode_batch([text.rstrip(STRIPPED) for text in texts])]

            def embed(places: list[int]) -> NDArray[Any]:
                input_ids, attention_mask = pad_batch([rows[place] for place in places], 0)
                return compute({"input_ids": input_ids, "attention_mask": attention_mask}, "text_embeds")

            return sorted_batches([len(row) for row in rows], embed, spec.get("texts", BATCH))

        return run

    return prepare


def _images(engine: Engine, precision: str, provider: str) -> Open:
    def start(spec: Spec) -> Prepare:
        compute = engine(_graph(spec, "image", precision, provider), spec["threads"])
        return in_files_or_pixels(lambda pixels: compute({"pixel_values": pixels}, "image_embeds"), spec)

    return start


def _graph(spec: Spec, part: str, precision: str, provider: str) -> str:
    from runtime.bundle import open_bundle

    bundle = open_bundle(spec["bundle"])
    return str(bundle.path(bundle.artifact(part, precision, provider=provider).file))


def _both(engine: Engine, precision: str, provider: str) -> Mapping[str, Open]:
    return {"texts": _texts(engine, precision, provider), "images": _images(engine, precision, provider)}


PLAIN: Mapping[str, Mapping[str, Open]] = {
    "onnxruntime": _both(onnxruntime_engine, "fp32", "cpu"),
    "onnxruntime-int8": _both(onnxruntime_engine, "int8", "cpu"),
    "onnxruntime-gpu": _both(_cuda, "fp32", "cuda"),
    "onnxruntime-fp16-gpu": _both(_cuda, "fp16", "cuda"),
    "openvino": _both(openvino_engine(), "fp32", "openvino"),
    "openvino-fp32": _both(openvino_engine("f32"), "fp32", "openvino"),
    "openvino-int8": _both(openvino_engine(), "int8", "openvino"),
}
