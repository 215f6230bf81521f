"""What is measured: exported where it is not given, in processes whose faults are told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.errors import PeerError
from bench.workloads import model as model_module
from bench.workloads.model import prepare
from tests.conftest import System, tiny_config

FAMILY = "cxr-bert-specialized"
# As `bench.workloads.model` does it, in the size of the tests.
MAKE = f"""
import json, sys
from pathlib import Path
from export.families import FAMILIES
from export.checkpoints.random_checkpoint import write_random_checkpoint
config = json.loads({json.dumps(tiny_config())!r})
write_random_checkpoint(Path(sys.argv[1]), FAMILIES[sys.argv[2]], int(sys.argv[3]), config)
"""


@pytest.mark.slow
def test_random_weights_are_exported_once_with_less_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_module, "_MAKE", MAKE)
    said: list[str] = []
    model = prepare(None, None, FAMILY, "fp32,int8", 3, tmp_path, said.append)
    assert not model.trained
    calibration = model.bundle.manifest.calibration["text"]
    assert (calibration.items, calibration.held_out) == (64, 16)
    assert any("text: exporting the graph …" in line for line in said), "what the export is doing is told"
    said.clear()
    again = prepare(None, None, FAMILY, "fp32,int8", 3, tmp_path, said.append)
    assert (again.digest, said) == (model.digest, [])


@pytest.mark.slow
def test_an_export_that_fails_says_why(tiny: System, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(PeerError, match=r"the checkpoint could not be exported: CheckpointError: "):
        prepare(tmp_path / "empty", None, FAMILY, "fp32", 0, tmp_path / "work", lambda line: None)
    with pytest.raises(PeerError, match="There is no family 'vgg'; there are: "):
        prepare(None, None, "vgg", "fp32", 0, tmp_path / "work", lambda line: None)
    with pytest.raises(PeerError, match="a bundle needs its checkpoint"):
        prepare(None, tiny.bundle, FAMILY, "fp32", 0, tmp_path / "work", lambda line: None)
