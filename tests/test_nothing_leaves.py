"""Nothing is written outside the cache folder and the files that were asked for, and no name is looked up.

Each process runs in an empty home. What it writes is also told by the home's content, where strace is not there.
"""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pytest

from tests.conftest import System
from tests.empty_home import RUN_COMMANDS, Machine, commands
from tests.tracing import why_not

pytestmark = pytest.mark.slow

PROVIDERS = ("cpu", "openvino")
_LIBRARY = """
import sys, runtime
bundle, film, provider = sys.argv[1:]
engine = runtime.load(bundle, provider=provider)
engine.text.encode(["Clear lungs", "Left pleural effusion"])
engine.text.fill_mask("Moderate [MASK] effusion")
engine.image.encode_patches(film)
engine.similarity_map(film, "opacity")
"""
# Texts by transformers, images by torchvision and NNCF. Of untrained weights int8 may miss its gates: verify says 1.
_EXPORT = """
import sys
from pathlib import Path
from export.build import CalibrationSources, export_bundle
from export.precision import Lowering
from export.proof.verify import main
from tests.conftest import tiny_family
checkpoint, out = sys.argv[1], Path(sys.argv[2])
export_bundle(tiny_family("cxr-bert-specialized"), checkpoint, out / "text")
few = CalibrationSources(images_count=16, images_held_out=8)
lowering = Lowering(("fp32", "int8"), enforced=False)
export_bundle(tiny_family("biovil-image"), checkpoint, out / "image", lowering=lowering, calibration=few)
assert main([str(out / "image")]) in (0, 1)
"""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine.make(tmp_path)


def needs(provider: str) -> None:
    pytest.importorskip({"cpu": "onnxruntime"}.get(provider, provider))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_program_with_an_engine(machine: Machine, tiny: System, provider: str) -> None:
    needs(provider)
    machine.check(machine.run("-c", _LIBRARY, str(tiny.bundle), str(machine.film), provider))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_command(machine: Machine, tiny: System, provider: str) -> None:
    needs(provider)
    machine.check(machine.run("-c", RUN_COMMANDS, json.dumps(commands(tiny.bundle, machine.film, provider))))
    assert (machine.out / "ground.png").is_file()


def test_an_export_and_its_verification(machine: Machine, tiny_checkpoint: Path) -> None:
    machine.check(machine.run("-c", _EXPORT, str(tiny_checkpoint), str(machine.out)))


@pytest.mark.parametrize(
    ("provider", "variables"),
    [
        ("cpu", {"CXR_ENGINE_TELEMETRY": "1"}),
        ("cpu", {"ORT_DISABLE_TELEMETRY": "0"}),
        ("openvino", {"CXR_ENGINE_TELEMETRY": "1"}),
    ],
)
def test_telemetry_that_was_asked_for_is_seen(
    machine: Machine, tiny: System, provider: str, variables: dict[str, str]
) -> None:
    """What the other tests look for is found where it is; who wants it has it."""
    needs(provider)
    if provider == "cpu" and tuple(map(int, importlib.metadata.version("onnxruntime").split(".")[:2])) < (1, 29):
        pytest.skip("this ONNX Runtime has no telemetry")
    code = f"import runtime; runtime.load({str(tiny.bundle)!r}, provider={provider!r}, parts=['text'])"
    seen = machine.run("-c", code, **variables)
    assert seen.process.returncode == 0, seen.process.stderr
    assert any(path.is_relative_to(machine.home) for path in seen.writes)
    assert machine.left()
    if provider == "openvino" and not why_not():
        # At once; ONNX Runtime's follows after nine seconds.
        assert seen.contacts
