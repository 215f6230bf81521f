"""What ONNX Runtime is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtime.engines import SessionOptions
from runtime.engines.onnxruntime_session import OnnxRuntimeSession
from runtime.errors import ProviderError
from tests.runtime.handmade import fp32, write_bundle

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """The settings that the last session was opened with."""
    found: dict[str, object] = {}

    class Watched(onnxruntime.SessionOptions):
        def add_session_config_entry(self, key: str, value: str) -> None:
            found[key] = value
            super().add_session_config_entry(key, value)

    class Session(onnxruntime.InferenceSession):
        def __init__(self, path: str, settings: onnxruntime.SessionOptions, **options: object) -> None:
            found["threads"] = settings.intra_op_num_threads
            super().__init__(path, settings, **options)

    monkeypatch.setattr(onnxruntime, "SessionOptions", Watched)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    return found


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("b") / "b", [fp32()]) / "text/onnx/model_fp32.onnx"


def test_threads_do_not_spin_where_others_need_the_processors(told: dict[str, object], model: Path) -> None:
    OnnxRuntimeSession(model, "CPUExecutionProvider", {}, SessionOptions(2, "fp32", share=True))
    assert told["session.intra_op.allow_spinning"] == "0"
    assert told["session.inter_op.allow_spinning"] == "0"


def test_threads_spin_where_nobody_else_computes(told: dict[str, object], model: Path) -> None:
    """Spinning answers sooner on idle processors, so it is ONNX Runtime's default, and left alone."""
    OnnxRuntimeSession(model, "CPUExecutionProvider", {}, SessionOptions(2, "fp32"))
    assert told == {"threads": 2}


@pytest.mark.parametrize(("threads", "streams", "pool"), [(4, 1, 4), (4, 4, 1), (4, 2, 3), (1, 4, 1)])
def test_callers_and_the_pool_make_up_the_threads(
    told: dict[str, object], model: Path, threads: int, streams: int, pool: int
) -> None:
    """ONNX Runtime's number counts the caller's own thread: n means n - 1 in the pool, whoever calls."""
    OnnxRuntimeSession(model, "CPUExecutionProvider", {}, SessionOptions(threads, "fp32", streams=streams))
    assert told["threads"] == pool


def test_what_cannot_be_computed_is_this_projects_error(model: Path) -> None:
    """ONNX Runtime's exceptions are of its own types, those for lack of memory on a GPU as well."""
    session = OnnxRuntimeSession(model, "CPUExecutionProvider", {}, SessionOptions(2, "fp32"))
    ids = np.zeros((2, 3), np.int64)
    with pytest.raises(ProviderError, match=r"CPUExecutionProvider cannot compute input_ids 2×3, attention_mask 6: "):
        session.run(["text_embeds"], {"input_ids": ids, "attention_mask": ids.ravel()})


def test_a_bias_and_gelu_stay_apart_and_give_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx = pytest.importorskip("onnx")
    rng = np.random.default_rng(3)
    weights = {"w": rng.standard_normal((16, 32)), "b": rng.standard_normal(32), "root": 2**0.5, "one": 1, "half": 0.5}
    nodes = [
        ("MatMul", ["x", "w"], "p"),
        ("Add", ["p", "b"], "z"),
        ("Div", ["z", "root"], "d"),
        ("Erf", ["d"], "e"),
        ("Add", ["e", "one"], "s"),
        ("Mul", ["z", "s"], "m"),
        ("Mul", ["m", "half"], "y"),
    ]
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(kind, reads, [writes]) for kind, reads, writes in nodes],
        "gelu",
        [value("x", onnx.TensorProto.FLOAT, ["n", 16])],
        [value("y", onnx.TensorProto.FLOAT, ["n", 32])],
        [onnx.numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in weights.items()],
    )
    model, optimized = tmp_path / "gelu.onnx", tmp_path / "optimized.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9), model)
    feed = {"x": rng.standard_normal((7, 16)).astype(np.float32)}
    fused = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"]).run(["y"], feed)[0]
    create = onnxruntime.InferenceSession

    def dumping(path: str, settings: onnxruntime.SessionOptions, **options: object) -> onnxruntime.InferenceSession:
        settings.optimized_model_filepath = str(optimized)
        return create(path, settings, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", dumping)
    session = OnnxRuntimeSession(model, "CPUExecutionProvider", {}, SessionOptions(1, "fp32"))
    assert np.array_equal(session.run(["y"], feed)[0], fused)
    kinds = [node.op_type for node in onnx.load(optimized).graph.node]
    assert "Gelu" in kinds
    assert "BiasGelu" not in kinds
