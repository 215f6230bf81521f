"""int8 of the image graph: the files, what is printed, and what is refused."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from export.errors import GraphError
from export.precision.int8_image import ImageQuantizer
from runtime.errors import MissingExtraError
from tests.export.conftest import CALIBRATION, SPEC, Quantized
from tests.export.precision.test_int8_image import image_layers_of

pytestmark = pytest.mark.slow


def test_the_same_images_give_the_same_file(
    source: Path, quantized: dict[str, Quantized], calibration: NDArray[np.uint8], tmp_path: Path
) -> None:
    again = tmp_path / quantized["cpu"].path.name
    quantizer = ImageQuantizer(source, SPEC, calibration)
    for _ in range(2):  # the second time over the first one's files
        quantizer.write(again)
        for path in (again, again.with_suffix(".onnx_data")):
            assert path.read_bytes() == (quantized["cpu"].path.parent / path.name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [again.name, f"{again.stem}.onnx_data"]


def test_the_weights_take_a_quarter(source: Path, quantized: dict[str, Quantized]) -> None:
    weights = (source.parent / SPEC.external_data).stat().st_size
    for made in quantized.values():
        assert 0.24 < made.path.with_suffix(".onnx_data").stat().st_size / weights < 0.28


def test_nothing_of_this_machine_is_in_the_file(quantized: dict[str, Quantized]) -> None:
    model = quantized["cpu"].model
    assert not model.metadata_props
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)
    assert str(Path.cwd()).encode() not in quantized["cpu"].path.read_bytes()


def test_progress_runs_to_the_end_and_nothing_is_printed(
    source: Path, quantized: dict[str, Quantized], calibration: NDArray[np.uint8], tmp_path: Path, capfd
) -> None:
    shares = quantized["cpu"].progress
    assert shares == sorted(shares)
    assert len(shares) == CALIBRATION
    assert 0 < shares[0] < shares[-1] == 1
    before = sorted(source.parent.iterdir())
    ImageQuantizer(source, SPEC, calibration[:2]).write(tmp_path / "again.onnx")
    assert sorted(source.parent.iterdir()) == before
    assert capfd.readouterr() == ("", "")


def test_telemetry_is_never_imported(fresh_python: Callable[[str], str]) -> None:
    """In a new interpreter: NNCF leaves its telemetry out by itself where it finds pytest."""
    code = (
        "import sys; from export.precision.int8_image import _import_nncf; nncf = _import_nncf(); "
        "print(type(nncf.telemetry.telemetry).__name__, "
        "any(name.startswith('openvino_telemetry') and module for name, module in sys.modules.items()))"
    )
    assert fresh_python(code).split() == ["MagicMock", "False"]


def test_without_nncf_the_error_says_how_to_install_it(
    source: Path, calibration: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(MissingExtraError, match=r"Quantizing images needs the package 'nncf'.*cxr-engine\[export\]"):
        ImageQuantizer(source, SPEC, calibration)


def test_what_cannot_be_quantized_is_refused(source: Path, calibration: NDArray[np.uint8], tmp_path: Path) -> None:
    quantizer = ImageQuantizer(source, SPEC, calibration[:1])
    with pytest.raises(GraphError, match="name another file"):
        quantizer.write(source)
    last = image_layers_of(onnx.load(source))[-1]
    with pytest.raises(GraphError, match=rf"no layers {last}, nothing to keep"):
        quantizer.write(tmp_path / "model.onnx", keep=[last, "nothing"])
