"""Servers that do not start, that end by themselves, that have children."""

from __future__ import annotations

import sys

import pytest

from bench.errors import PeerError
from bench.serving.peers.entries import PEERS, Served, start_peer
from bench.serving.server_process import ServerProcess, free_port

_PARENT = """
import http.server, subprocess, sys
code = "x = b'x' * 100_000_000; print(flush=True); input()"
child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "2"); self.end_headers(); self.wfile.write(b"ok")
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Ready).serve_forever()
"""


def test_one_that_ends_says_why() -> None:
    with pytest.raises(PeerError, match="no model here"):
        ServerProcess([sys.executable, "-c", "raise SystemExit('no model here')"], free_port(), "/ready")


def test_one_that_is_never_ready_is_ended() -> None:
    command = [sys.executable, "-c", "import time; print('still loading', flush=True); time.sleep(60)"]
    with pytest.raises(PeerError, match=r"not ready in time.*still loading"):
        ServerProcess(command, free_port(), "/ready", seconds=1.0)


def test_one_that_is_no_program() -> None:
    with pytest.raises(PeerError, match="does not start"):
        ServerProcess(["/no/such/program"], free_port(), "/ready")


def test_memory_is_that_of_its_children_too() -> None:
    port = free_port()
    with ServerProcess([sys.executable, "-c", _PARENT, str(port)], port, "/") as server:
        assert server.get("/") == (200, b"ok")
        assert server.memory() > 100_000_000
        assert not server.ended
    assert server.ended


def test_a_peer_without_its_environment_says_how_to_make_it(tiny, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CXR_SERVERS", str(tmp_path))
    with pytest.raises(PeerError, match="make servers"):
        start_peer(PEERS["litserve-onnxruntime"], Served(tiny.bundle, "fp32", "cpu", 1, tmp_path))
