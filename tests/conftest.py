"""Fixtures: the shared data, a tiny system for most tests, and the full-size system with its reference."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests import workers

pytest.register_assert_rewrite("tests.empty_home")

ROOT = Path(__file__).resolve().parent.parent
# Fixtures whose tests are slow, as they take long to build.
COSTLY = {"full", "full_checkpoint", "trained"}
# `export` and `bench` name a folder for what libraries keep when they are imported, which is before any fixture.
os.environ["CXR_ENGINE_CACHE"] = tempfile.mkdtemp(prefix="cxr-engine-tests-")
atexit.register(shutil.rmtree, os.environ["CXR_ENGINE_CACHE"], ignore_errors=True)
# Reference models, tokenizers and hub clients must never reach for the network.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Read when torch is first imported: its threads sleep where they would otherwise spin, which takes several times as
# long on processors that other work shares, ONNX Runtime's and OpenVINO's threads of the same process included.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    return workers.make_scheduler(config, log) if config.option.dist == "load" else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        given = item.callspec.params if hasattr(item, "callspec") else {}
        fixtures = set(getattr(item, "fixturenames", ())).difference(given)
        if fixtures & COSTLY and not item.get_closest_marker("slow"):
            raise pytest.UsageError(f"{item.nodeid} waits for what takes long to build: mark it with pytest.mark.slow")
    if hasattr(config, "workerinput"):
        workers.order(items)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, object, object]:
    return workers.sendable((yield))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real radiographs, notes and the real vocabulary, which are not part of the project."""
    folder = Path(os.environ.get("CXR_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the shared data is not at {folder} (or set CXR_TEST_DATA)")
    return folder


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests neither read nor write what the user tuned or compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXR_ENGINE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@dataclass(frozen=True)
class System:
    """A checkpoint in the hub's layout and the bundle exported from it."""

    checkpoint: Path
    bundle: Path


def tiny_family(name: str = "biovil"):
    """A system of one entry's shape with a small ResNet; its text model is as small as `TINY_CONFIG`."""
    from export.families import FAMILIES

    family = FAMILIES[name]
    if family.image is None:
        return family
    pixels = replace(family.image.preprocessing, size=128, crop=96)
    return replace(family, image=replace(family.image, blocks=(1, 1, 1, 1), preprocessing=pixels))


def tiny_config() -> dict[str, object]:
    from export.checkpoints.random_checkpoint import CXR_BERT_CONFIG

    return {
        **CXR_BERT_CONFIG,
        "hidden_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 96,
        "vocab_size": 1000,
    }


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from export.checkpoints.random_checkpoint import write_random_checkpoint

    return write_random_checkpoint(tmp_path_factory.mktemp("tiny") / "checkpoint", tiny_family(), 7, tiny_config())


@pytest.fixture(scope="session")
def tiny(tiny_checkpoint: Path) -> System:
    from export.build import export_bundle

    bundle = tiny_checkpoint.parent / "bundle"
    export_bundle(tiny_family(), str(tiny_checkpoint), bundle)
    return System(tiny_checkpoint, bundle)


@pytest.fixture
def tiny_copy(tiny: System, tmp_path: Path) -> Path:
    """A copy of the tiny bundle that a test may damage."""
    return Path(shutil.copytree(tiny.bundle, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def full_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """BERT-base and ResNet-50, with the real vocabulary if it is there."""
    from export.checkpoints.random_checkpoint import write_random_checkpoint
    from export.families import FAMILIES

    folder = tmp_path_factory.mktemp("full")
    checkpoint = write_random_checkpoint(folder / "checkpoint", FAMILIES["biovil"], 11)
    real = Path(os.environ.get("CXR_TEST_DATA", ROOT.parent / "shared" / "data")) / "tokenizer"
    if real.is_dir():
        for file in real.iterdir():
            shutil.copyfile(file, checkpoint / file.name)
    yield checkpoint
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def full(full_checkpoint: Path) -> System:
    """The same and its bundle, images of 480 × 480, exported by the command line."""
    bundle = full_checkpoint.parent / "bundle"
    run_module("export", "biovil", "--checkpoint", str(full_checkpoint), "--out", str(bundle))
    return System(full_checkpoint, bundle)


@pytest.fixture
def fresh_python() -> Callable[[str], str]:
    """Run code in a new interpreter and return what it prints."""

    def run(code: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True, timeout=300
        ).stdout

    return run


def run_module(module: str, *arguments: str, expect: int = 0, **options: object) -> subprocess.CompletedProcess[str]:
    """Run `python -m module …` as a user would and check its exit status."""
    process = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        **options,
    )
    assert process.returncode == expect, f"exit {process.returncode}\n{process.stdout}\n{process.stderr}"
    return process


def edit_json(path: Path, change: Callable[[dict], None]) -> None:
    """Change a JSON file in place."""
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")
