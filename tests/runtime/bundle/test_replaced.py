"""An engine keeps to the files that it was loaded from: what it opens later is the same, or raises."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import runtime
from runtime.bundle import open_bundle, verified
from runtime.bundle.verified import MappedFiles, Stamp
from runtime.engines import onnxruntime_session
from runtime.engines.quick_start import OPENING
from runtime.errors import BundleError, InputError
from tests.conftest import System
from tests.runtime.handmade import artifact, expected_text, fp32, write_bundle

MANY = [f"small left effusion {'no ' * (index % 40)}" for index in range(1500)]
FILM = (np.random.default_rng(0).random((150, 130)) * 255).astype(np.uint8)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two models of one family: all that differs are the weights."""
    folder = tmp_path_factory.mktemp("two")
    first = write_bundle(folder / "first", [fp32()], [fp32()])
    return first, write_bundle(folder / "second", [artifact(name="model_other")], [artifact(name="image_other")])


@pytest.fixture
def served(tiny: System, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny.bundle, tmp_path / "served"))


def other_model(bundle: Path) -> None:
    """What another export under the same name does to every file, its sizes kept."""
    for file in bundle.rglob("*"):
        if file.suffix in (".onnx", ".onnx_data"):
            content = bytearray(file.read_bytes())
            content[-200:] = bytes(byte ^ 1 for byte in content[-200:])
            file.unlink()  # another file, not the same one written to
            file.write_bytes(content)


def later(engine: runtime.Engine) -> dict[str, Callable[[], object]]:
    """The calls that open something when they are first made."""
    return {
        "texts": lambda: engine.text.encode(MANY)[0],
        "images": lambda: engine.image.encode([FILM] * 20)[0],
        "masks": lambda: engine.text.fill_mask("no [MASK]", top_k=1)[0]["score"],
    }


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
@pytest.mark.parametrize("call", ["texts", "images", "masks"])
def test_what_is_opened_after_the_bundle_was_replaced_raises(served: Path, provider: str, call: str) -> None:
    engine = runtime.load(served, provider, threads=2, text_cache=0)
    few = engine.text.encode(MANY[:1])
    other_model(served)
    with pytest.raises(
        BundleError, match=r"or replaced after the bundle was loaded: its sha256 is .*Load the bundle again"
    ):
        later(engine)[call]()
    assert np.array_equal(engine.text.encode(MANY[:1]), few), "what is open goes on"


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_a_bundle_that_was_removed_or_moved_away(served: Path, provider: str) -> None:
    engine = runtime.load(served, provider, threads=2, text_cache=0)
    few = engine.text.encode(MANY[:1])
    served.rename(served.with_name("away"))
    for call in later(engine).values():
        with pytest.raises(BundleError, match="It was removed or replaced after it was loaded: load it again"):
            call()
    assert np.array_equal(engine.text.encode(MANY[:1]), few)
    served.with_name("away").rename(served)
    for call in later(engine).values():
        call()


def test_a_copy_of_the_same_bundle_is_as_good(served: Path, tiny: System) -> None:
    engine = runtime.load(served, "cpu", threads=2, text_cache=0)
    expected = [call() for call in later(runtime.load(tiny.bundle, "cpu", threads=2, text_cache=0)).values()]
    shutil.rmtree(served)
    shutil.copytree(tiny.bundle, served)
    for call, right in zip(later(engine).values(), expected, strict=True):
        assert np.allclose(call(), right, atol=1e-5)


def test_what_is_open_already_goes_on_after_a_replacement(served: Path) -> None:
    engine = runtime.load(served, "cpu", threads=2, text_cache=0)
    calls = later(engine).values()
    before = [call() for call in calls]
    shutil.rmtree(served)
    for call, right in zip(calls, before, strict=True):
        assert np.allclose(call(), right, atol=1e-5)


def test_a_file_that_is_written_to_while_the_engine_reads_it(served: Path) -> None:
    """ONNX Runtime maps the weights into memory: the embeddings of two models would be mixed."""
    engine = runtime.load(served, "cpu", threads=2, text_cache=0)
    before = engine.text.encode(MANY)
    weights = served / "text/onnx/model.onnx_data"
    content = weights.read_bytes()
    os.utime(weights)
    assert np.allclose(engine.text.encode(MANY), before, atol=1e-5), "touched only"
    status = weights.stat()
    with weights.open("r+b") as stream:
        stream.write(bytes(len(content)))
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    for texts in (MANY[:1], MANY):
        with pytest.raises(BundleError, match=r"model\.onnx_data was written to while the bundle is in use.*renaming"):
            engine.text.encode(texts)
    with weights.open("r+b") as stream:
        stream.write(content)
    assert np.allclose(engine.text.encode(MANY), before, atol=1e-5), "as it was"


@pytest.mark.parametrize("moment", ["before", "while"])
def test_a_bundle_that_is_replaced_while_it_is_opened(two, tmp_path: Path, monkeypatch, moment: str) -> None:
    """Whatever the moment: all of one model, or BundleError."""
    served = Path(shutil.copytree(two[0], tmp_path / "served"))
    graph = served / "text/onnx/model_fp32.onnx"
    other = (two[1] / "text/onnx/model_other.onnx").read_bytes()
    create = onnxruntime_session.OnnxRuntimeSession

    def replaced(model: Path, *rest: object) -> object:
        if moment == "before" and model == graph:
            graph.write_bytes(other)
        opened = create(model, *rest)
        if moment == "while" and model == graph:
            graph.write_bytes(other)
        return opened

    monkeypatch.setattr(onnxruntime_session, "OnnxRuntimeSession", replaced)
    with pytest.raises(BundleError, match="its sha256 is"):
        runtime.load(served, "cpu", parts=["text"], text_cache=0)


def test_a_bundle_that_is_swapped_and_swapped_back_while_it_is_opened(two, tmp_path: Path, monkeypatch) -> None:
    """The file that was hashed is back when the engine has opened another one: it is opened again."""
    served = Path(shutil.copytree(two[0], tmp_path / "served"))
    graph = served / "text/onnx/model_fp32.onnx"
    other = Path(shutil.copy(two[1] / "text/onnx/model_other.onnx", tmp_path / "other.onnx"))
    create, swaps = onnxruntime_session.OnnxRuntimeSession, []

    def swapped(model: Path, *rest: object) -> object:
        if model != graph or swaps:
            return create(model, *rest)
        swaps.append(model)
        graph.rename(tmp_path / "kept")
        other.rename(graph)
        opened = create(model, *rest)
        graph.rename(other)
        (tmp_path / "kept").rename(graph)
        return opened

    monkeypatch.setattr(onnxruntime_session, "OnnxRuntimeSession", swapped)
    engine = runtime.load(served, "cpu", parts=["text"], text_cache=0)
    assert swaps
    expected = expected_text("onnx/model_fp32.onnx", [2, 7, 10, 3])
    assert np.allclose(engine.text.encode("left effusion")[0], expected, atol=1e-5)


def test_file_systems_without_lasting_inodes(two, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(10_000))
    real = Stamp.of
    monkeypatch.setattr(Stamp, "of", staticmethod(lambda status: real(status)._replace(inode=next(numbers))))
    engine = runtime.load(two[0], "cpu", text_cache=0)
    assert engine.text.encode(MANY).shape == (len(MANY), 16)


def test_the_quick_start_does_not_switch_to_another_model(tmp_path: Path, monkeypatch, caplog) -> None:
    bundle = write_bundle(tmp_path / "served", [fp32(), artifact("int8")])
    gate, create = threading.Event(), onnxruntime_session.OnnxRuntimeSession

    def slow(*arguments: object) -> object:
        if threading.current_thread().name == OPENING:
            assert gate.wait(30)
        return create(*arguments)

    monkeypatch.setattr(onnxruntime_session, "OnnxRuntimeSession", slow)
    engine = runtime.load(bundle, "cpu", "int8", threads=1, text_cache=0)
    expected = expected_text("onnx/model_int8.onnx", [2, 7, 10, 3])
    for _ in range(3):  # the other session is pending now
        assert np.allclose(engine.text.encode("left effusion")[0], expected, atol=1e-5)
    (bundle / "text/onnx/model_int8.onnx").write_bytes((bundle / "text/onnx/model_fp32.onnx").read_bytes())
    gate.set()
    for thread in threading.enumerate():
        if thread.name == OPENING:
            thread.join(30)
    assert "The faster session could not be opened, the first one goes on" in caplog.text
    assert np.allclose(engine.text.encode("left effusion")[0], expected, atol=1e-5)


@pytest.mark.slow
def test_another_working_folder_home_and_cache(served: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CXR_ENGINE_CACHE", "cache")
    expected = [call() for call in later(runtime.load(served, "openvino", threads=2, text_cache=0)).values()]
    engines = [runtime.load("served", provider, threads=2, text_cache=0) for provider in ("cpu", "openvino")]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "CXR_ENGINE_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "nowhere"))
    for engine in engines:
        for call, right in zip(later(engine).values(), expected, strict=True):
            assert np.allclose(call(), right, atol=1e-4)
    assert not (tmp_path / "nowhere").exists()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_link_to_a_bundle_is_followed_once(two, tmp_path: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to(two[0])
    engine = runtime.load(link, "cpu", threads=2, text_cache=0)
    few = engine.text.encode(MANY[:1])
    link.unlink()
    link.symlink_to(two[1])
    assert np.allclose(engine.text.encode(MANY)[:1], few, atol=1e-5)
    assert not np.allclose(runtime.load(link, "cpu").text.encode(MANY[:1]), few, atol=1e-2)


def test_a_working_folder_that_was_removed(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(BundleError, match="There is no bundle at bundle"):
        runtime.load("bundle")
    with pytest.raises(InputError, match="There is no index at index"):
        runtime.open_index("index")


def test_files_are_hashed_once_where_nothing_changed(served: Path, monkeypatch) -> None:
    hashed: list[int] = []
    digest = verified._digest
    monkeypatch.setattr(verified, "_RECENT_NS", 0)
    monkeypatch.setattr(verified, "_digest", lambda descriptor: hashed.append(descriptor) or digest(descriptor))
    bundle = open_bundle(served)
    for _ in range(3):
        bundle.files.open(["text/onnx/model.onnx"], ["text/onnx/model.onnx_data"], lambda: None)
    assert len(hashed) == 2
    monkeypatch.setattr(verified, "_RECENT_NS", 10**15)  # it could be written again without another time of change
    bundle.files.open(["text/tokenizer.json"], (), lambda: None)
    bundle.files.open(["text/tokenizer.json"], (), lambda: None)
    assert len(hashed) == 4


def test_no_file_is_left_open(served: Path) -> None:
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("this system does not list open files")
    bundle = open_bundle(served)
    before = len(list(descriptors.iterdir()))
    bundle.files.open(["text/onnx/model.onnx"], ["text/onnx/model.onnx_data"], lambda: None)
    with pytest.raises(BundleError, match="not listed"):
        bundle.files.open(["text/onnx/model.onnx", "absent"], (), lambda: None)
    bundle.verify(bundle.manifest.files)
    assert len(list(descriptors.iterdir())) == before


def test_files_that_other_code_closed(tmp_path: Path) -> None:
    """As turning a process into a daemon does: what has the number by then is not closed."""
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    with file.open() as stream:
        pin = stream.fileno()  # the lowest that is free: the next one to be opened has it
    mapped = MappedFiles({file: ("none", Stamp.of(file.stat()))})
    assert os.fstat(pin).st_ino == file.stat().st_ino
    os.close(pin)
    with (tmp_path / "another").open("wb") as another:
        assert another.fileno() == pin
        mapped.check()
        del mapped
        another.write(b"open")


def test_a_mapped_file_in_whose_place_there_is_another_one(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    mapped = MappedFiles({file: ("none", Stamp.of(file.stat()))})
    mapped.check()
    (tmp_path / "other").write_bytes(b"two")
    (tmp_path / "other").replace(file)
    mapped.check()
    file.unlink()
    mapped.check()
