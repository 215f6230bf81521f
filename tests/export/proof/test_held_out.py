"""What held-out data is judged by is PyTorch's embedding; a graph that differs there is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from export.build import CalibrationSources, export_bundle
from export.checkpoints import open_checkpoint
from export.checkpoints.models import load_models
from export.errors import GateError
from export.families import Family
from export.precision import Lowering
from export.proof import Judge
from export.proof.held_out import held_out_images, held_out_texts
from export.reference import ImageReference, TextReference
from runtime.engines import PROVIDERS, Session, SessionOptions
from tests.conftest import System, tiny_family

ROWS = [[2, *range(5, 5 + length), 3] for length in (1, 4, 9, 30, 2, 17, 25, 3, 8, 40, 12, 6, 7, 5, 20, 11, 13, 14)]


class Shifted:
    """A session whose answers for one item are off; items are told by their first input's size or sum."""

    def __init__(self, session: Session, name: str, off: int) -> None:
        self._session, self._name, self._off = session, name, off

    def run(self, names: list[str], feed: dict[str, NDArray]) -> list[NDArray]:
        found = self._session.run(names, feed)
        for row, item in enumerate(feed[self._name]):
            if item.astype(np.int64).sum() == self._off:
                found[0] = found[0].copy()
                found[0][row, 0] += 1e-3
        return found


@pytest.fixture(scope="module")
def models(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.nn.Module]:
    family: Family = tiny_family()
    folder = tmp_path_factory.mktemp("models")
    return load_models(family, open_checkpoint(str(tiny_checkpoint), family, folder, note=print), print)


def _open(tiny: System, part: str) -> Session:
    return PROVIDERS["cpu"].open(tiny.bundle / part / "onnx/model.onnx", SessionOptions(2, "fp32"))


def test_texts_are_pytorchs_in_the_order_given(tiny: System, models: dict[str, TextReference]) -> None:
    found, record = held_out_texts(_open(tiny, "text"), "cpu", models["text"], ROWS, 0)
    for row, embeds in zip(ROWS, found, strict=True):
        ids = torch.tensor([row])
        expected = torch.nn.functional.normalize(models["text"].embed(ids, torch.ones_like(ids)), dim=-1)[0]
        assert np.abs(embeds - expected.numpy()).max() <= 1e-5
    assert record.cases == "16 of the 18 held-out texts, 3 to 42 tokens"
    assert record.gates == {"max_abs": 1e-5}


@pytest.mark.parametrize("row", [0, 9], ids=["shortest", "longest"])
def test_a_text_that_differs_is_refused(tiny: System, models: dict[str, TextReference], row: int) -> None:
    broken = Shifted(_open(tiny, "text"), "input_ids", sum(ROWS[row]))
    with pytest.raises(GateError, match=r"held-out data on cpu: max_abs is 0\.00"):
        held_out_texts(broken, "cpu", models["text"], ROWS, 0)


def test_images_are_pytorchs(tiny: System, models: dict[str, ImageReference]) -> None:
    rule = tiny_family().image.preprocessing
    pixels = np.random.default_rng(0).integers(0, 256, (6, *rule.shape), dtype=np.uint8)
    session = _open(tiny, "image")
    found, record = held_out_images(session, "cpu", models["image"], pixels)
    for one, other in zip(found, models["image"].embed(pixels), strict=True):
        assert np.abs(one - other).max() <= 1e-5
    assert set(record.gates) == {"max_abs", "max_abs_patch"}
    broken = Shifted(session, "pixel_values", int(pixels[3].astype(np.int64).sum()))
    with pytest.raises(GateError, match="4 of the 6 held-out images"):
        held_out_images(broken, "cpu", models["image"], pixels)


@pytest.mark.slow
def test_the_manifest_says_what_was_compared(tiny_checkpoint: Path, tmp_path: Path) -> None:
    small = CalibrationSources(texts=32, texts_held_out=16, images_count=16, images_held_out=8)
    lowering = Lowering(("fp32", "bf16"))
    manifest = export_bundle(
        tiny_family(), str(tiny_checkpoint), tmp_path / "bundle", lowering=lowering, calibration=small
    )
    for part, cases in ((manifest.text, "held-out texts"), (manifest.image, "4 of the 8 held-out images")):
        fixed, held_out = part.artifacts[0].parity
        assert cases in held_out.cases
        assert held_out.figures["max_abs"] <= held_out.gates["max_abs"] == fixed.gates["max_abs"]
        by_itself, *others = (record for record in part.artifacts[0].fidelity if record.precision == "fp32")
        assert by_itself.provider == held_out.provider
        for record in (by_itself, *others):
            assert record.figures.keys() == by_itself.figures.keys()
            assert record.figures["min_cosine"] == pytest.approx(1, abs=1e-6)
            assert record.milliseconds > 0


def test_only_the_fp32_graph_on_the_engine_that_embedded_is_known(tiny: System) -> None:
    session_figures, known = {"mean_cosine": 0.5}, {"mean_cosine": 1.0}
    source = tiny.bundle / "text/onnx/model.onnx"
    engines = (PROVIDERS["cpu"], PROVIDERS["openvino"])
    judge = Judge(lambda session: session_figures, lambda session: 1.0, 1, "digest", engines, {"cpu": known})
    assert judge.record(engines[0], source, "fp32", {}).figures == known
    for engine, precision, computed in ((0, "int8", None), (1, "fp32", None), (0, "bf16", "fp32")):
        record = judge.record(engines[engine], source, precision, {}, computed)
        assert record.figures == session_figures, (engine, precision, computed)
