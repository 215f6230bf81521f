"""The server as its users run it: signals, several processes, a Unix socket."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import time
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import System
from tests.runtime.dicoms import write_dicom
from tests.runtime.serve.operation.fakes import read_answer
from tests.runtime.serve.operation.processes import TEXT, Clients, Served, serving

pytestmark = pytest.mark.slow  # each starts a server

_HALF = b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


def _half_a_request(served: Served) -> socket.socket:
    """A connection on which a request has begun."""
    opened = socket.create_connection(("127.0.0.1", served.port), timeout=10)
    opened.sendall(_HALF % len(TEXT) + TEXT[:5].encode())
    time.sleep(0.2)
    return opened


def test_nothing_is_lost_when_it_is_told_to_stop_under_load(tiny: System, tmp_path: Path) -> None:
    with serving(tmp_path, str(tiny.bundle)) as served, Clients(served, 8) as clients:
        clients.until(100)
        served.signal()
        assert served.status() == 0
    assert clients.broken == []
    assert set(clients.answers) == {200}
    assert "lost=False" in served.log()


def test_while_it_stops_it_is_not_ready_and_finishes_what_has_begun(tiny: System, tmp_path: Path) -> None:
    with serving(tmp_path, str(tiny.bundle)) as served:
        idle = served.connect()
        idle.request("GET", "/ready")
        assert idle.getresponse().read() == b'{"status":"ready"}'
        with _half_a_request(served) as opened:
            served.signal()
            time.sleep(0.3)
            idle.request("GET", "/ready")
            answer = idle.getresponse()
            assert answer.status == 503
            assert answer.getheader("Connection") == "close"
            assert b"stops" in answer.read()
            with pytest.raises(ConnectionRefusedError):
                served.get("/ready")
            opened.sendall(TEXT[5:].encode())
            answer = read_answer(opened)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b"connection: close" in answer.lower()
        assert served.status() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_to_all_processes_stop_it_as_well(
    tiny: System, tmp_path: Path, workers: str, number: signal.Signals
) -> None:
    """As terminals send Ctrl-C and systemd SIGTERM: images under way are still decoded, in processes of their own."""
    film = write_dicom(tmp_path / "film.dcm", np.arange(10_000, dtype=np.uint16).reshape(100, 100)).read_bytes()
    with serving(tmp_path, str(tiny.bundle), "--workers", workers) as served:
        with socket.create_connection(("127.0.0.1", served.port), timeout=20) as opened:
            head = "POST /embed/image HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/dicom\r\n"
            opened.sendall(f"{head}Content-Length: {len(film)}\r\n\r\n".encode() + film[:100])
            time.sleep(0.2)
            os.killpg(served.process.pid, number)
            time.sleep(0.5)
            assert served.process.poll() is None
            opened.sendall(film[100:])
            answer = read_answer(opened)
            assert answer.startswith(b"HTTP/1.1 200 "), answer
            assert b"embeddings" in answer
        assert served.status() == 0


def test_what_does_not_end_in_time_is_lost_and_said(tiny: System, tmp_path: Path) -> None:
    with serving(tmp_path, str(tiny.bundle), "--drain-seconds", "0.5") as served, _half_a_request(served):
        served.signal()
        assert served.status() == 1
        assert "lost=True" in served.log()


def test_a_second_signal_ends_it_at_once(tiny: System, tmp_path: Path) -> None:
    with serving(tmp_path, str(tiny.bundle)) as served, _half_a_request(served):
        served.signal(signal.SIGINT)
        time.sleep(0.3)
        assert served.process.poll() is None
        served.signal(signal.SIGINT)
        assert served.status(3) == 1


def test_a_hangup_reads_keys_and_bundles_again(tiny_copy: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("one\n")
    keys.chmod(0o600)
    arguments = ["--api-key-file", str(keys), "--log-json"]
    with serving(tmp_path, f"first={tiny_copy}", *arguments) as served:
        one, two = ({"Authorization": f"Bearer {key}"} for key in ("one", "two"))
        assert [served.embed(each) for each in ({}, one, two)] == [401, 200, 401]
        assert served.get("/health")[0] == served.get("/page/page.css")[0] == 200
        assert served.get("/metrics")[0] == 401
        keys.write_text("two\n")
        manifest = tiny_copy / "manifest.json"
        manifest.write_text(manifest.read_text() + "\n")  # another digest of the same bundle
        served.signal(signal.SIGHUP)
        end = time.monotonic() + 20
        while not any(each["event"] == "reload" for each in served.events()):
            assert time.monotonic() < end
            time.sleep(0.05)
        assert [served.embed(each) for each in ({}, one, two)] == [401, 401, 200]
        (reload,) = [each for each in served.events() if each["event"] == "reload"]
        assert (reload["model"], reload["result"]) == ("first", "reloaded")
        manifest.write_text("{}")
        status, body = served.get("/admin/reload", "POST", two)
        assert status == 500
        assert '"first":"failed"' in body
        assert str(tmp_path) not in body
        assert served.embed(two) == 200, "the bundle before stays"
        served.signal()
        assert served.status() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_nothing_is_lost_when_bundles_are_opened_anew_under_load(tiny_copy: Path, tmp_path: Path, workers: str) -> None:
    manifest = tiny_copy / "manifest.json"
    arguments = [str(tiny_copy), "--log-json", "--workers", workers]
    with serving(tmp_path, *arguments) as served, Clients(served, 6) as clients:
        for count in (1, 2):
            clients.until(len(clients.answers) + 50)
            manifest.write_text(manifest.read_text() + "\n")
            served.signal(signal.SIGHUP)
            end = time.monotonic() + 30
            while sum(each.get("result") == "reloaded" for each in served.events()) < count * int(workers):
                assert time.monotonic() < end
                time.sleep(0.05)
        clients.until(len(clients.answers) + 50)
        served.signal()
        assert served.status() == 0
    assert clients.broken == []
    assert set(clients.answers) == {200}


@pytest.mark.parametrize("as_json", [True, False])
def test_nothing_of_a_request_is_logged(tiny: System, tmp_path: Path, as_json: bool) -> None:
    """Texts, queries, names in paths, headers, elements of DICOM: whether they can be used or not."""
    mark = "Marker^Maria"
    film = write_dicom(tmp_path / "film.dcm", np.arange(3600, dtype=np.uint16).reshape(60, 60), PatientName=mark)
    whole = film.read_bytes()
    bodies = [
        ("application/json", json.dumps(body).encode())
        for body in (
            {"inputs": mark}, {"inputs": [mark, mark, ""]}, {"inputs": [f"{mark} [MASK]"]}, {"inputs": mark * 999},
            {"inputs": "a [MASK]", "parameters": {"targets": [mark], "top_k": mark}}, {mark: mark}, {"input": mark},
            {"inputs": f"[SEP] {mark}"}, {"texts": mark, "image": mark}, {"model": mark, "input": mark, "inputs": mark},
        )
    ]  # fmt: skip
    bodies += [("application/dicom", each) for each in (whole, whole[:-100], whole[:400], mark.encode())]
    bodies += [("application/json", mark.encode()), (mark, mark.encode()), ("image/png", b"\x89PNG" + mark.encode())]
    paths = ["/", "/embed", "/v1/embeddings", "/embed/image", "/classify", "/fill-mask", f"/v2/models/{mark}/infer"]
    headers = {"X-Patient": mark, "Authorization": f"Bearer {mark}", "Cookie": mark}
    with serving(tmp_path, str(tiny.bundle), *(["--log-json"] if as_json else [])) as served:
        asked = 0
        for path in [*paths, f"/{mark}"]:
            for media_type, body in bodies:
                for more in ({}, headers, {"X-Request-Timeout": mark}):
                    status, answer = served.get(
                        f"{path}?patient={mark}", "POST", {"Content-Type": media_type, **more}, body
                    )
                    assert status in (200, 400, 404, 405, 413, 415, 422), (path, status, answer)
                    asked += 1
        assert served.metric("te_request_count") > 50
        assert served.metric("cxr_decode_crashes") == 0
        assert "cxr_decode_crashes 0" in served.get("/metrics")[1], "and it is there"
        served.signal()
        assert served.status() == 0
        log = served.log()
    assert log.count("request_id") >= asked
    assert "Marker" not in log
    assert "Maria" not in log


def test_workers_answer_are_replaced_and_shown_together(tiny: System, tmp_path: Path) -> None:
    with serving(tmp_path, str(tiny.bundle), "--workers", "2", "--log-json") as served:
        assert "2 processes" in served.line
        with Clients(served, 6) as clients:
            clients.until(200)
            answering = {each.get("worker") for each in served.events() if each["event"] == "request"}
            assert answering == {0, 1}
            counted = served.metric("te_request_success")
            assert counted >= 200
            children = _children(served.process.pid)
            before = len(clients.answers)
            os.kill(children[0], signal.SIGKILL)
            clients.until(before + 200)
            end = time.monotonic() + 30
            while sum(each["event"] == "worker ready" for each in served.events()) < 3:
                assert time.monotonic() < end
                time.sleep(0.05)
            assert served.get("/ready")[0] == 200
            assert served.metric("te_request_success") >= counted, "what the ended one counted stays in"
        (ended,) = [each for each in served.events() if each["event"] == "worker ended"]
        assert ended["status"] == -signal.SIGKILL
        assert set(clients.answers) == {200}
        assert len(clients.broken) <= 6, "only what was on its way to the one that was killed"
        with Clients(served, 4) as clients:
            clients.until(50)
            served.signal()
            assert served.status() == 0
        assert clients.broken == []
        assert set(clients.answers) == {200}


def _children(parent: int) -> list[int]:
    """Workers of a server: its children but the one that tracks resources."""
    found = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(each) for each in found if b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes()]


def test_workers_that_cannot_open_a_bundle_end_the_server(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="There is no bundle at"), serving(tmp_path, "nowhere", "--workers", "2"):
        pass


def test_workers_end_with_their_parent(tiny: System, tmp_path: Path) -> None:
    with serving(tmp_path, str(tiny.bundle), "--workers", "2") as served:
        children = _children(served.process.pid)
        assert len(children) == 2
        served.process.kill()
        end = time.monotonic() + 15
        while any(Path(f"/proc/{each}").exists() and _running(each) for each in children):
            assert time.monotonic() < end
            time.sleep(0.05)


def _running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_unix_socket(tiny: System, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))  # of a server that was killed
    with serving(tmp_path, str(tiny.bundle), "--uds", str(path), port=False) as served:
        assert f"unix:{path}" in served.line
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        with socket.socket(socket.AF_UNIX) as opened:
            opened.connect(str(path))
            opened.sendall(_HALF % len(TEXT) + TEXT.encode())
            assert read_answer(opened).startswith(b"HTTP/1.1 200 ")
        served.signal()
        assert served.status() == 0
    assert not path.exists()
