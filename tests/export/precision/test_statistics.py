"""Statistics of inner tensors are those of all rows, however many are added at once; padding does not count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from export.precision import statistics
from export.precision.int8 import find_groups
from export.precision.recipes.text import token_feeds
from export.precision.statistics import collect_statistics
from runtime.bundle import Manifest
from runtime.engines import PROVIDERS, SessionOptions
from runtime.text import Tokenizer

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("tokens_at_once", [1, 700, 10**9])
def test_all_rows_count_once(
    exported: tuple[Path, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokens_at_once: int
) -> None:
    monkeypatch.setattr(statistics, "_TOKENS_AT_ONCE", tokens_at_once)
    bundle, manifest = exported
    source = bundle / "text/onnx/model.onnx"
    model = onnx.load(source)
    tensors = [group.tensor for group in find_groups(model)]
    rng = np.random.default_rng(0)
    rows = [[2, *rng.integers(5, 60, length).tolist(), 3] for length in rng.integers(3, 100, 40)]
    feeds = list(token_feeds(rows, Tokenizer(bundle / "text", manifest.text.tokenization)))
    assert len(feeds) > 3
    found = collect_statistics(source, tensors, feeds, PROVIDERS["cpu"])
    model.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in tensors)
    onnx.save(model, tmp_path / "watched.onnx")
    session = PROVIDERS["cpu"].open(tmp_path / "watched.onnx", SessionOptions(2, "fp32"))
    alone = [
        {name: np.array([row]) for name, row in (("input_ids", row), ("attention_mask", [1] * len(row)))}
        for row in rows
    ]
    values = [session.run(tensors, feed) for feed in alone]
    for name, each in zip(tensors, zip(*values, strict=True), strict=True):
        expected = np.concatenate([value.reshape(-1, value.shape[-1]) for value in each]).astype(np.float64)
        np.testing.assert_allclose(found[name].lowest, expected.min(axis=0), atol=1e-4)
        np.testing.assert_allclose(found[name].highest, expected.max(axis=0), atol=1e-4)
        assert found[name].rows == len(expected)
        np.testing.assert_allclose(found[name].means, expected.mean(axis=0), atol=1e-4)
        covariance = np.cov(expected, rowvar=False, bias=True)
        np.testing.assert_allclose(found[name].covariance, covariance, atol=1e-4 * np.abs(covariance).max())
        np.testing.assert_allclose(found[name].variances, np.diag(covariance), atol=1e-4 * np.abs(covariance).max())
