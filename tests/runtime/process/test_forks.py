"""An engine in a forked child works, or raises at once; it never waits for threads that stayed in the parent."""

from __future__ import annotations

import importlib.util
import os
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest

from runtime.engines import SessionOptions
from runtime.engines.onnxruntime_session import OnnxRuntimeSession
from runtime.errors import ProviderError
from runtime.process import forks
from runtime.process.silence import Silence
from tests.conftest import System
from tests.runtime.handmade import expected_text, fp32, write_bundle
from tests.runtime.scripts import run_script

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")

# Parameters: bundle. Everything that starts threads was used in the parent.
USED = """
bundle = sys.argv[1]
texts = [f"small left effusion {'no ' * (i % 40)}" for i in range(1500)]
film = (np.random.default_rng(0).random((150, 130)) * 255).astype(np.uint8)

def load(provider="cpu"):
    return runtime.load(bundle, provider=provider, threads=2)

def use(engine):
    return engine.text.encode("left effusion"), engine.text.encode(texts)[:3], engine.image.encode([film] * 20)[:3]

def same(found, expected):
    return all(np.allclose(a, b, atol=1e-5) for a, b in zip(found, expected, strict=True))
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundle") / "b", [fp32()], [fp32()])


@pytest.mark.parametrize("leave", ["os._exit", "sys.exit"])
def test_a_child_computes_what_its_parent_does_and_ends(bundle: Path, tmp_path: Path, leave: str) -> None:
    code = f"""
    engine = load()
    expected = use(engine)
    for _ in range(3):
        assert same(forked(lambda: use(engine), leave={leave}), expected)
        # Its parent's sessions are destroyed in there.
        assert forked(lambda: globals().pop("engine") and 1, leave={leave}) == 1
    assert same(use(engine), expected)
    print(engine.text.encode("left effusion")[0].tolist())
    """
    out = run_script(tmp_path, USED + code.replace("\n    ", "\n"), bundle)
    expected = expected_text("onnx/model_fp32.onnx", [2, 7, 10, 3])
    assert np.allclose(eval(out.strip().splitlines()[-1]), expected, atol=1e-5)


def test_a_child_of_a_child(bundle: Path, tmp_path: Path) -> None:
    code = """
engine = load()
expected = use(engine)
def child():
    mine = use(engine)
    return mine, forked(lambda: use(engine)), forked(lambda: forked(lambda: use(engine)))
for found in forked(child):
    assert same(found, expected)
"""
    run_script(tmp_path, USED + code, bundle)


def test_every_part_of_a_real_bundle_in_a_child(tiny: System, tmp_path: Path) -> None:
    """Masks, patches and classifiers as well, whether the parent used them or not."""
    code = """
engine = load()
film = np.repeat(film, 3, axis=0)
prompts = {"effusion": (["left effusion"], ["no effusion"])}
def everything():
    filled = engine.text.fill_mask(["no [MASK]"] * 300, top_k=1)[0][0]["score"]
    label = engine.classify(film, prompts)["effusion"]
    return *use(engine), engine.image.encode_patches(film), np.array([filled, label])
unused = forked(everything)
expected = everything()
assert same(unused, expected) and same(forked(everything), expected)
"""
    run_script(tmp_path, USED + code, tiny.bundle)


def test_forks_while_other_threads_load_and_compute(bundle: Path, tmp_path: Path) -> None:
    code = """
engine = load()
expected = use(engine)
def busy(call):
    while True:
        call()
calls = (lambda: use(engine), lambda: engine.text.encode("clear"), lambda: load().text.encode("clear"))
for call in calls:
    threading.Thread(target=busy, args=[call], daemon=True).start()
for _ in range(8):
    assert same(forked(lambda: use(engine)), expected)
os._exit(0)  # the threads go on
"""
    run_script(tmp_path, USED + code, bundle)


def test_a_child_forked_by_foreign_code(bundle: Path, tmp_path: Path) -> None:
    """Servers written in C fork without Python's hooks."""
    code = """
import ctypes
engine = load()
expected = use(engine)
assert same(forked(lambda: use(engine), fork=ctypes.PyDLL(None).fork), expected)
"""
    run_script(tmp_path, USED + code, bundle)


def test_openvino_raises_at_once_in_a_child(bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    code = """
engine = load("openvino")
expected = use(engine)
kind, message = forked(lambda: engine.text.encode("clear"))
assert kind == "ProviderError" and "OpenVINO was started before this process was forked" in message, message
assert "spawn or forkserver" in message
for call in (lambda: use(engine), lambda: load("openvino"), lambda: forked(lambda: load("openvino"))):
    kind, message = forked(call, leave=sys.exit)
    assert kind == "ProviderError" and "OpenVINO was started" in message, message
assert forked(lambda: load("auto").provider) == "cpu"
assert forked(lambda: globals().pop("engine") and 1, leave=sys.exit) == 1
assert same(use(engine), expected)
"""
    run_script(tmp_path, USED + code, bundle)


def test_openvino_started_in_the_child_works(bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    run_script(tmp_path, USED + "assert forked(lambda: load('openvino').provider) == 'openvino'", bundle)


def test_cuda_started_in_the_parent_is_refused_in_a_child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(forks, "_lost", {"CUDA"})
    for execution_provider in ("CUDAExecutionProvider", "TensorrtExecutionProvider"):
        with pytest.raises(ProviderError, match=r"CUDA was started before .* Load such an engine in children only"):
            OnnxRuntimeSession(tmp_path / "any.onnx", execution_provider, {}, SessionOptions(1, "fp32"))


def test_an_iteration_begun_in_the_parent_raises_in_a_child(bundle: Path, tmp_path: Path) -> None:
    code = """
engine = load()
many = engine.text.encode_iter(texts * 4)
films = engine.image.encode_iter([film] * 200)
few = engine.image.encode_iter([film] * 10)
for iteration in (many, films, few):
    next(iteration)
for iteration in (many, films, few):
    kind, message = forked(lambda: sum(1 for _ in iteration), leave=sys.exit)
    assert kind == "ProviderError" and "begun before this process was forked" in message, message
assert [sum(1 for _ in iteration) for iteration in (many, films, few)] == [5999, 199, 9]
"""
    run_script(tmp_path, USED + code, bundle)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(bundle: Path, tmp_path: Path, method: str) -> None:
    """With spawn and forkserver the engine travels as an argument, and is opened there by its path."""
    code = """
def work(engine, results):
    results.put(use(engine))

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[2])
    engine = load()
    expected = use(engine)
    results = context.Queue()
    process = context.Process(target=work, args=(engine, results))
    process.start()
    assert same(results.get(timeout=50), expected)
    process.join(20)
    assert process.exitcode == 0
"""
    run_script(tmp_path, USED + code, bundle, method)


def test_gunicorn_with_preload(bundle: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("gunicorn") is None:
        pytest.skip("gunicorn is not installed")
    (tmp_path / "served.py").write_text(
        f"""
import json, os
import runtime
engine = runtime.load({str(bundle)!r}, provider="cpu", threads=2)
loaded_in = os.getpid()
engine.text.encode(["clear lungs"] * 3 + ["no effusion " * n for n in range(30)] * 30)

def application(environ, respond):
    row = engine.text.encode("left effusion")[0].tolist()
    respond("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({{"row": row, "worker": os.getpid(), "loaded_in": loaded_in}}).encode()]
"""
    )
    code = """
import json, signal, socket, subprocess, urllib.request
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "--bind", f"127.0.0.1:{port}"]
server = subprocess.Popen([*command, "--graceful-timeout", "10", "--chdir", sys.argv[1], "served:application"])
try:
    workers, rows = set(), []
    end = time.time() + 50
    while len(rows) < 12 or len(workers) < 2:
        assert time.time() < end and server.poll() is None
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
                found = json.load(answer)
        except OSError:
            time.sleep(0.2)
            continue
        assert found["worker"] != found["loaded_in"]
        workers.add(found["worker"])
        rows.append(found["row"])
    server.send_signal(signal.SIGTERM)
    assert server.wait(20) == 0
finally:
    server.kill()
print(json.dumps(rows))
"""
    out = run_script(tmp_path, code, tmp_path)
    expected = expected_text("onnx/model_fp32.onnx", [2, 7, 10, 3])
    for row in eval(out.strip().splitlines()[-1]):
        assert np.allclose(row, expected, atol=1e-5)


def test_searching_an_index_in_a_child(tmp_path: Path) -> None:
    """faiss computes with OpenMP, whose threads are not there; 20,000 vectors make it start some."""
    pytest.importorskip("faiss")
    code = """
from runtime.retrieval.nearest import build_graph, search_exact, search_graph
vectors = np.random.default_rng(0).standard_normal((20000, 16)).astype(np.float32)
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
graph = build_graph(vectors[:500])
def search():
    exact, near = search_exact(vectors, vectors[:64], 5), search_graph(graph, vectors[:500], vectors[:64], 5)
    return exact[1], near[1]
expected = search()
def on_threads():
    found = []
    threads = [threading.Thread(target=lambda: found.append(search())) for _ in range(3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return found
for found in (forked(search), *forked(on_threads), search()):
    assert all(map(np.array_equal, found, expected))
"""
    run_script(tmp_path, code)


def test_tokenizers_told_to_use_threads(bundle: Path, tmp_path: Path) -> None:
    code = """
engine = load()
expected = engine.text.tokenizer.encode(texts)
assert forked(lambda: engine.text.tokenizer.encode(texts)) == expected
"""
    run_script(tmp_path, USED + code, bundle, TOKENIZERS_PARALLELISM="true")


def test_a_lock_held_by_another_thread_is_free_in_a_child(tmp_path: Path) -> None:
    code = """
from runtime.process.forks import ForkSafeLock
lock, held, end = ForkSafeLock(), threading.Event(), threading.Event()
def hold():
    with lock:
        held.set()
        end.wait()
threading.Thread(target=hold).start()
held.wait()
def take():
    with lock:
        return True
assert forked(take)
end.set()
"""
    run_script(tmp_path, code)


def test_a_fork_waits_until_a_session_is_opened(tmp_path: Path) -> None:
    code = """
from runtime.process.forks import opening
inside, begun = [], threading.Event()
def open_slowly():
    with opening():
        begun.set()
        inside.append(1)
        time.sleep(1)
        inside.clear()
threading.Thread(target=open_slowly).start()
begun.wait()
assert forked(lambda: len(inside)) == 0
with opening():  # a thread does not wait for itself
    assert forked(lambda: 1) == 1
"""
    run_script(tmp_path, code)


def test_a_fork_does_not_wait_for_ever(tmp_path: Path) -> None:
    code = """
from runtime.process import forks
forks._PATIENCE = 0.5
def stuck():
    with forks.opening():
        time.sleep(600)
threading.Thread(target=stuck, daemon=True).start()
time.sleep(0.2)
assert forked(lambda: 1) == 1
os._exit(0)
"""
    run_script(tmp_path, code)


def test_silence_ends_in_a_child() -> None:
    silence = Silence()
    before = list(warnings.filters)
    inside = threading.Thread(target=silence.__enter__)
    inside.start()
    inside.join()
    assert warnings.filters != before
    silence.end()  # what is called in a child
    assert warnings.filters == before
    with silence:
        assert warnings.filters != before
    assert warnings.filters == before
