"""The table of other servers: how each is started, asked and read."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bench.errors import PeerError
from bench.serving.load.plan import Request
from bench.serving.peers.graph import MAX_BATCH, TOLD
from bench.serving.server_process import HOST, ServerProcess, free_port
from runtime.bundle import open_bundle

__all__ = ["PEERS", "Peer", "Served", "start_peer"]

_ROOT = Path(__file__).resolve().parents[3]
# No peer says anything to anybody, and none reaches for a hub.
_PRIVATE = {
    "DO_NOT_TRACK": "1",
    "BENTOML_DO_NOT_TRACK": "True",
    "INFINITY_ANONYMOUS_USAGE_STATS": "0",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
_START_SECONDS = 240.0


@dataclass(frozen=True)
class Served:
    """What a peer is to serve.

    Attributes:
        bundle: folder of the bundle.
        precision: of its text graph.
        provider: of the runtime, where a peer is a server around it.
        threads: that compute.
        work: a folder for what is made.
    """

    bundle: Path
    precision: str
    provider: str
    threads: int
    work: Path

    @property
    def graph(self) -> Path:
        """The graph with a text a row."""
        opened = open_bundle(self.bundle)
        return Path(opened.path(opened.artifact("text", self.precision).file)).resolve()

    @property
    def tokenizer(self) -> Path:
        """Its tokenizer.json."""
        return Path(open_bundle(self.bundle).path("text/tokenizer.json")).resolve()


@dataclass(frozen=True)
class Peer:
    """Another server.

    Attributes:
        label: for people, with how it batches.
        environment: folder below .venv-servers that it runs in.
        provider: whose answers it is compared with: the engine that computes there; "" for the one it is told.
        command: from the environment's folder of programs, what is served and a port to a command line.
        ready: path that answers 200 when it is ready.
        request: of a text.
        kind: how the answer is read, of `bench.serving.checks.KINDS`.
        engine: "onnxruntime" or "openvino" for what opens the graph by itself.
        folder: that it runs in.
    """

    label: str
    environment: str
    provider: str
    command: Callable[[Path, Served, int], Sequence[str]]
    ready: str
    request: Callable[[str], Request]
    kind: str = "text"
    engine: str = ""
    folder: Callable[[Served], Path] = lambda _: _ROOT


def start_peer(peer: Peer, served: Served) -> ServerProcess:
    """Start a peer on a free port.

    Raises:
        PeerError: its environment is not there, or it does not start.
    """
    programs = _environments() / peer.environment / "bin"
    if not (programs / "python").is_file():
        raise PeerError("it runs in an environment of its own; set it up with: make servers")
    port = free_port()
    told = {
        "graph": str(served.graph),
        "tokenizer": str(served.tokenizer),
        "engine": peer.engine,
        "threads": served.threads,
        "bundle": str(served.bundle.resolve()),
        "provider": served.provider,
        "precision": served.precision,
    }
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    environment = {
        **_PRIVATE,
        TOLD: json.dumps(told),
        "PYTHONPATH": path,
        "HF_HOME": str(served.work / "hub"),
        "BENTOML_HOME": str(served.work / "bentoml"),
        "OMP_NUM_THREADS": str(served.threads),
    }
    command = peer.command(programs, served, port)
    return ServerProcess(
        command, port, peer.ready, environment=environment, seconds=_START_SECONDS, folder=peer.folder(served)
    )


def _environments() -> Path:
    named = os.environ.get("CXR_SERVERS")
    return Path(named) if named else _ROOT / ".venv-servers"


def _script(name: str) -> Callable[[Path, Served, int], Sequence[str]]:
    return lambda programs, _, port: [str(programs / "python"), "-m", f"bench.serving.peers.{name}", str(port)]


def _bentoml(programs: Path, _: Served, port: int) -> Sequence[str]:
    service = "bench.serving.peers.bentoml_app:Embedder"
    return [str(programs / "bentoml"), "serve", service, "--host", HOST, "--port", str(port), "-q"]


def _infinity(programs: Path, _: Served, port: int) -> Sequence[str]:
    # By any other name than that of its own folder it finds the graph, but optimum does not.
    words = [str(programs / "infinity_emb"), "v2", "--engine", "optimum", "--device", "cpu", "--model-id", "."]
    words += ["--batch-size", str(MAX_BATCH), "--pooling-method", "cls", "--served-model-name", "text"]
    return [*words, "--host", HOST, "--port", str(port)]


def _hub_folder(served: Served) -> Path:
    """The text part in the layout of the hub, with the one graph: infinity takes whatever it finds."""
    folder = served.work / f"hub-{served.precision}"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        if (served.graph.parent.parent / name).is_file():
            shutil.copyfile(served.graph.parent.parent / name, folder / name)
    opened = open_bundle(served.bundle)
    artifact = opened.artifact("text", served.precision)
    # Optimum finds by infinity's path only what lies at the top; the graph names its weights' files, which keep theirs.
    for file in (artifact.file, *artifact.external_data):
        target = folder / Path(file).name
        if not target.exists():
            shutil.copyfile(opened.path(file), target)
    return folder


def _tei(text: str) -> Request:
    return Request("/embed", json.dumps({"inputs": text}).encode())


def _listed(text: str) -> Request:
    return Request("/embed", json.dumps({"inputs": [text]}).encode())


def _openai(text: str) -> Request:
    return Request("/embeddings", json.dumps({"model": "text", "input": text}).encode())


def _both(name: str, label: str, make: Callable[[str, str, str], Peer]) -> dict[str, Peer]:
    """With either engine."""
    return {
        f"{name}-onnxruntime": make(f"{label}, ONNX Runtime", "cpu", "onnxruntime"),
        f"{name}-openvino": make(f"{label}, OpenVINO", "openvino", "openvino"),
    }


def _litserve(label: str, provider: str, engine: str) -> Peer:
    return Peer(label, "litserve", provider, _script("litserve_app"), "/health", _tei, engine=engine)


def _bento(label: str, provider: str, engine: str) -> Peer:
    return Peer(label, "bentoml", provider, _bentoml, "/readyz", _listed, engine=engine)


_TABLE: dict[str, Any] = {
    "fastapi": Peer("FastAPI, a call of encode a request", "litserve", "", _script("fastapi_app"), "/health", _tei),
    **_both("litserve", f"LitServe, batches of {MAX_BATCH}", _litserve),
    **_both("bentoml", f"BentoML, batches of {MAX_BATCH}", _bento),
    "infinity": Peer(
        f"infinity, optimum, batches of {MAX_BATCH}",
        "infinity",
        "cpu",
        _infinity,
        "/health",
        _openai,
        "openai",
        folder=_hub_folder,
    ),
}
PEERS: Mapping[str, Peer] = MappingProxyType(_TABLE)
