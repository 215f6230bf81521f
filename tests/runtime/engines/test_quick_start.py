"""The session that answers soon gives the same bits as the one that takes over."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from runtime.engines import SessionOptions
from runtime.engines.onnxruntime_session import OnnxRuntimeSession, open_onnxruntime
from runtime.engines.quick_start import OPENING, QuickStart
from runtime.errors import ProviderError

CPU = "CPUExecutionProvider"


class Numbered:
    def __init__(self, number: int) -> None:
        self.number = number

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray]) -> list[NDArray[np.float32]]:
        return [np.full(1, self.number, np.float32)]


def answer(session: QuickStart) -> int:
    return int(session.run(["y"], {})[0][0])


def join() -> None:
    for thread in threading.enumerate():
        if thread.name == OPENING:
            thread.join()


def test_one_call_opens_nothing_more_and_the_second_does_once() -> None:
    opened: list[int] = []

    def fast() -> Numbered:
        opened.append(len(opened))
        return Numbered(2)

    session = QuickStart(Numbered(1), fast)
    assert answer(session) == 1
    join()
    assert opened == []
    threads = [threading.Thread(target=answer, args=[session]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    join()
    assert opened == [0]
    assert answer(session) == 2


def test_calls_are_answered_while_the_other_opens() -> None:
    gate = threading.Event()

    def fast() -> Numbered:
        assert gate.wait(10)
        return Numbered(2)

    session = QuickStart(Numbered(1), fast)
    assert [answer(session) for _ in range(5)] == [1] * 5
    gate.set()
    join()
    assert answer(session) == 2


def test_where_the_other_cannot_be_opened_the_first_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    def fast() -> Numbered:
        raise ProviderError("no memory")

    session = QuickStart(Numbered(1), fast)
    with caplog.at_level(logging.WARNING, logger="runtime"):
        assert [answer(session) for _ in range(3)] == [1, 1, 1]
        join()
        assert answer(session) == 1
    assert [record.message for record in caplog.records] == [
        "The faster session could not be opened, the first one goes on: no memory"
    ]


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layer of BERT-base's size as the export writes it: uint8 activations, int8 weights with a scale per channel."""
    generator = np.random.default_rng(0)
    tensors = {
        "scale": np.float32(0.02),
        "zero": np.uint8(128),
        "weights": generator.integers(-127, 128, (768, 3072), dtype=np.int8),
        "scales": generator.uniform(0.001, 0.01, 3072).astype(np.float32),
        "zeros": np.zeros(3072, np.int8),
        "bias": generator.normal(size=3072).astype(np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["quantized"]),
        helper.make_node("DequantizeLinear", ["quantized", "scale", "zero"], ["rounded"]),
        helper.make_node("DequantizeLinear", ["weights", "scales", "zeros"], ["weights32"], axis=1),
        helper.make_node("MatMul", ["rounded", "weights32"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["tokens", 768])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["tokens", 3072])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()],
    )
    path = tmp_path_factory.mktemp("product") / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), str(path))
    return path


def test_int8_products_are_the_same_bits_however_the_weights_lie(product: Path) -> None:
    generator = np.random.default_rng(1)
    for threads in (1, 2):
        session = open_onnxruntime(product, CPU, SessionOptions(threads, "int8", soon=True))
        assert isinstance(session, QuickStart)
        for tokens in (1, 2, 7, 16, 64, 200):
            x = generator.normal(size=(tokens, 768)).astype(np.float32)
            soon = session._session.run(["y"], {"x": x})[0]
            assert np.array_equal(session._open_fast().run(["y"], {"x": x})[0], soon)


def test_only_what_gives_the_same_bits_is_opened_so(product: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str | None] = []
    create = onnxruntime.InferenceSession

    def watched(model: str, settings: onnxruntime.SessionOptions, **rest: object) -> onnxruntime.InferenceSession:
        try:
            told.append(settings.get_session_config_entry("session.disable_prepacking"))
        except RuntimeError:
            told.append(None)
        return create(model, settings, **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", watched)
    session = open_onnxruntime(product, CPU, SessionOptions(1, "int8", soon=True))
    assert isinstance(session, QuickStart)
    session._open_fast()
    assert told == ["1", None]
    for options in (SessionOptions(1, "int8"), SessionOptions(1, "fp32", soon=True)):
        assert isinstance(open_onnxruntime(product, CPU, options), OnnxRuntimeSession)
    assert told == ["1", None, None, None]
