"""Pictures that crash, hang or lie are refused, and nothing else is."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.errors import InputError
from runtime.image.bounds import Bounds
from runtime.image.dicom_options import DicomOptions
from runtime.image.images import load_pixels
from runtime.serve.caller import Caller
from runtime.serve.decoding.answers import BEGUN, PIXELS
from runtime.serve.decoding.children import CRASHED
from runtime.serve.decoding.decoder import Decoder
from runtime.serve.decoding.fork_server_handle import ForkServer
from runtime.serve.decoding.orders import DECODE, REQUEST, Orders
from runtime.serve.limits import Limits
from tests.conftest import ROOT
from tests.runtime.serve.decoding.conftest import RULE, encoded
from tests.runtime.serve.decoding.misbehaving import Misbehaving, deed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def decode(decoder: Decoder, images: list[bytes], caller: Caller | None = None):
    """The pixels, or the reasons."""
    try:
        return asyncio.run(decoder.decode(images, caller or Caller()))
    except InputError as error:
        return {fault.index: fault.reason for fault in error.faults}


def children(process: int | None) -> list[int]:
    """Those that run; a list that /proc makes while others end may lack some."""
    try:
        found = [int(each) for each in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
        return [each for each in found if Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()[0] != "Z"]
    except OSError:
        return []


def zombies(process: int | None) -> bool:
    stats = (path.read_text().rpartition(")")[2].split() for path in Path("/proc").glob("[0-9]*/stat") if path.exists())
    return any(state == "Z" and int(parent) == process for state, parent, *_ in stats)


def test_a_picture_that_crashes_its_process_is_refused_alone(open_decoder, film: bytes) -> None:
    decoder = open_decoder()
    for count, name in enumerate(("segfault", "kill", "raise", "lie"), 1):
        assert decode(decoder, [film, deed(name), film]) == {1: CRASHED}
        assert decoder.crashes == count
        assert decoder.alive()
    (found,) = decode(decoder, [film])
    assert np.array_equal(found.pixels, load_pixels([film], RULE)[0][0].pixels)


def test_a_picture_that_hangs_is_refused_in_time(open_decoder, film: bytes) -> None:
    decoder = open_decoder(processes=5, seconds=2)
    begun = time.monotonic()
    hanging = ["sleep", "spin", "sleep on", "stop"]
    reasons = decode(decoder, [film, *map(deed, hanging), film])
    assert reasons == dict.fromkeys(range(1, 5), "cannot be decoded: it took longer than 2 seconds")
    assert time.monotonic() - begun < 12
    assert len(decode(decoder, [film])) == 1
    until(lambda: len(children(decoder.fork_server)) == 5)  # which wait for a picture


def descriptors(process: object) -> int:
    return len(list(Path(f"/proc/{process}/fd").iterdir()))


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "in vain"
        time.sleep(0.02)


def test_a_child_ends_itself_where_nobody_else_does() -> None:
    work = Misbehaving(RULE, DicomOptions(), Bounds(1000))
    server = ForkServer(Orders(work, seconds=0.2, memory=1 << 30))
    try:
        for name in ("sleep", "spin"):
            ours, theirs = socket.socketpair()
            with ours, theirs:
                assert server.order(DECODE, 1, theirs)
                ours.sendall(REQUEST.pack(PIXELS, 16) + deed(name))
                assert ours.recv(1) == BEGUN
            assert children(server.process)
            until(lambda: not children(server.process))
    finally:
        server.end()


@pytest.mark.slow
def test_fifty_crashes_under_load_hurt_nobody_else(open_decoder, film: bytes) -> None:
    decoder = open_decoder()
    expected = load_pixels([film], RULE)[0][0].pixels
    served = []

    async def good(stop: asyncio.Event) -> None:
        while not stop.is_set():
            (found,) = await decoder.decode([film], Caller())
            assert np.array_equal(found.pixels, expected)
            assert decoder.alive()
            served.append(1)

    async def bad(name: str) -> None:
        with pytest.raises(InputError) as caught:
            await decoder.decode([film, deed(name), film], Caller())
        assert [(fault.index, fault.reason) for fault in caught.value.faults] == [(1, CRASHED)]

    async def load() -> None:
        stop = asyncio.Event()
        others = [asyncio.ensure_future(good(stop)) for _ in range(2)]
        for turn in range(25):
            await asyncio.gather(bad("segfault"), bad("kill"))
            assert turn < 3 or served
        stop.set()
        await asyncio.gather(*others)

    asyncio.run(load())
    assert decoder.crashes == 50
    assert len(served) >= 25


def test_a_child_killed_from_outside_fails_its_own_picture(open_decoder, film: bytes) -> None:
    decoder = open_decoder()

    async def one() -> None:
        sleeping = asyncio.ensure_future(decoder.decode([deed("sleep")], Caller()))
        await asyncio.sleep(0.1)
        assert len(await decoder.decode([film], Caller())) == 1
        for child in children(decoder.fork_server):  # those that wait for a picture as well, which fails nobody's
            os.kill(child, signal.SIGKILL)
        with pytest.raises(InputError, match=CRASHED):
            await sleeping
        assert len(await decoder.decode([film], Caller())) == 1

    for _ in range(3):
        asyncio.run(one())
    assert decoder.crashes == 3


def test_children_that_wait_may_be_stopped(open_decoder, film: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.serve.decoding.children._BEGIN_SECONDS", 0.5)
    decoder = open_decoder()
    until(lambda: len(children(decoder.fork_server)) == 2)
    server = decoder.fork_server
    for child in children(server):
        os.kill(child, signal.SIGSTOP)
    assert len(decode(decoder, [film, film])) == 2
    assert decoder.fork_server == server


def test_a_killed_fork_server_is_replaced_and_fails_nothing(open_decoder, film: bytes) -> None:
    decoder = open_decoder()
    expected = load_pixels([film], RULE)[0][0].pixels

    async def good(stop: asyncio.Event) -> int:
        count = 0
        while not stop.is_set():
            (found,) = await decoder.decode([film], Caller())
            assert np.array_equal(found.pixels, expected)
            count += 1
        return count

    async def load() -> None:
        stop = asyncio.Event()
        others = [asyncio.ensure_future(good(stop)) for _ in range(3)]
        for _ in range(3):
            await asyncio.sleep(0.1)
            killed = decoder.fork_server
            os.kill(killed, signal.SIGKILL)
            begun = time.monotonic()
            while decoder.fork_server in (killed, None):
                await asyncio.sleep(0.01)
            assert time.monotonic() - begun < 10, "a third of a second on an idle machine"
        stop.set()
        assert min(await asyncio.gather(*others)) > 3

    asyncio.run(load())
    assert decoder.crashes == 0
    assert decoder.alive()


def test_a_stopped_fork_server_is_replaced(open_decoder, film: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.serve.decoding.children._BEGIN_SECONDS", 0.5)
    decoder = open_decoder()
    first = decoder.fork_server
    os.kill(first, signal.SIGSTOP)
    assert len(decode(decoder, [film] * 4)) == 4, "two of them in children that were there before"
    assert decoder.fork_server != first


def test_a_child_has_nothing_that_it_needs_not(open_decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXR_SECRET_KEY", "ZQX")
    decoder = open_decoder(limits=Limits(pixels=10_000, image_bytes=0))
    assert decode(decoder, [deed("open")]) == {0: "opened nothing"}
    (environment,) = decode(decoder, [deed("environment")]).values()
    assert "PATH" in environment
    assert "CXR_SECRET_KEY" not in environment
    (blocks,) = decode(decoder, [deed("memory")]).values()
    assert 4 < int(blocks) < 32, "16 MB each, of 256"
    assert Path(f"/proc/{decoder.fork_server}/oom_score_adj").read_text() == "1000\n"
    status = Path(f"/proc/{decoder.fork_server}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    assert "Threads:\t1" in status


def test_what_needs_too_much_memory_is_refused(open_decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    large = encoded(Image.linear_gradient("L").resize((4000, 3000)), compress_level=1)
    plenty = open_decoder()
    assert len(decode(plenty, [large])) == 1
    monkeypatch.setattr("runtime.serve.decoding.decoder._BYTES", 16 << 20)
    monkeypatch.setattr("runtime.serve.decoding.decoder._BYTES_OF_A_PIXEL", 0)
    tight = open_decoder(limits=Limits(image_bytes=0))
    assert decode(tight, [large]) == {0: "needs more memory than an image may take"}


def test_nothing_is_left_behind(open_decoder, film: bytes) -> None:
    decoder = open_decoder(seconds=0.5)
    decode(decoder, [film, deed("kill"), deed("sleep")])
    until(lambda: not zombies(decoder.fork_server))
    open_files = descriptors("self")
    process = decoder.fork_server
    of_server = descriptors(process)
    for _ in range(10):
        decode(decoder, [film, deed("kill")] * 2)
    until(lambda: descriptors("self") <= open_files + 3)  # those of a new event loop
    until(lambda: descriptors(process) == of_server)
    until(lambda: not zombies(process))
    decoder.close()
    assert not Path(f"/proc/{process}").exists()
    assert not decoder.alive()


def test_the_fork_server_ends_with_the_server() -> None:
    code = """
import os
from runtime.image.dicom_options import DicomOptions
from runtime.serve.decoding.decoder import Decoder
from runtime.serve.limits import Limits
from tests.runtime.parts import grey_rule
decoder = Decoder(grey_rule(64, 48), DicomOptions(), Limits(), processes=1)
decoder.start()
print(decoder.fork_server, flush=True)
os.kill(os.getpid(), 9)
"""
    killed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    until(lambda: not Path(f"/proc/{int(killed.stdout)}").exists())


def test_the_fork_server_imports_no_engine(fresh_python) -> None:
    code = """
import sys
from runtime.serve.decoding import forkserver, work
heavy = ["onnxruntime", "openvino", "torch", "starlette", "uvicorn", "asyncio"]
print([name for name in heavy if name in sys.modules])
"""
    assert fresh_python(code).strip() == "[]"


def test_threads_decode_where_nothing_can_be_forked(fresh_python) -> None:
    """As on Windows, which lacks these."""
    code = """
import asyncio, os, sys
sys.modules["resource"] = sys.modules["fcntl"] = None
del os.fork
from runtime.errors import InputError
from runtime.image.dicom_options import DicomOptions
from runtime.serve.caller import Caller
from runtime.serve.decoding.decoder import Decoder, default_processes
from runtime.serve.limits import Limits
from tests.runtime.parts import grey_rule
from tests.runtime.serve.decoding.conftest import encoded, picture
assert default_processes() == 0
try:
    Decoder(grey_rule(64, 48), DicomOptions(), Limits(), processes=1)
except InputError as error:
    print(error)
decoder = Decoder(grey_rule(64, 48), DicomOptions(), Limits(), processes=0)
decoder.start()
(found,) = asyncio.run(decoder.decode([encoded(picture(90, 80), "JPEG", progressive=True)], Caller()))
print(found.pixels.shape)
decoder.close()
"""
    refused, shape = fresh_python(code).splitlines()
    assert refused == "1 processes for decoding were asked for, but this system forks none. Give 0."
    assert shape == "(48, 48)"
