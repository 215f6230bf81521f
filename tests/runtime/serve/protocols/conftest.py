"""A tiny engine, the protocols around it, and films to send."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from PIL import Image
from starlette.testclient import TestClient

import runtime
from export.samples import chest_phantom
from runtime.engine import Engine
from runtime.serve.app import build_app
from runtime.serve.limits import Limits
from runtime.serve.models.opening import Opening
from runtime.serve.models.registry import open_models
from runtime.serve.server_state import Server
from runtime.serve.settings import EngineOptions
from tests.conftest import System
from tests.runtime.serve.protocols.direct import DirectModel, DirectModels, served


@pytest.fixture(scope="session")
def engine(tiny: System) -> Engine:
    return runtime.load(tiny.bundle, provider="cpu", threads=1)


@pytest.fixture
def model(engine: Engine) -> DirectModel:
    return DirectModel("tiny", engine)


@pytest.fixture
def server(model: DirectModel) -> Server:
    return Server(DirectModels({"tiny": model, "other": DirectModel("other", model.engine)}))


@pytest.fixture
def client(server: Server) -> TestClient:
    return TestClient(build_app(server), headers={"X-Request-Id": "r-1"})


@pytest.fixture(scope="session")
def scheduled(tiny: System) -> Iterator[Server]:
    """With a bundle as the server opens it: its requests are scheduled."""
    limits = Limits()
    models = open_models(
        {"tiny": tiny.bundle},
        Opening(EngineOptions(provider="cpu", threads=1, text_cache=0), decode_processes=1),
        limits,
    )
    yield Server(models, limits)
    models.close()


@pytest.fixture(scope="session")
def address(scheduled: Server) -> Iterator[str]:
    """Of a real server, for clients that cannot do without."""
    with served(build_app(scheduled)) as found:
        yield found


@pytest.fixture(scope="session")
def film() -> bytes:
    """A PNG file."""
    return png(0)


@pytest.fixture(scope="session")
def films() -> list[bytes]:
    return [png(seed) for seed in range(3)]


def png(seed: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(chest_phantom(150 + 10 * seed, 130)).save(stream, "PNG")
    return stream.getvalue()
