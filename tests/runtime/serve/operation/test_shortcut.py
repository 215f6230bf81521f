from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from runtime.serve.operation.shortcut import Shortcut


def route(path: str, said: str, *methods: str) -> Route:
    async def handler(request: Request) -> Response:
        assert request.app.state.known
        return PlainTextResponse(said)

    return Route(path, handler, methods=list(methods))


def test_it_answers_as_the_routes_do() -> None:
    routes = [
        route("/a", "first", "POST"),
        route("/a", "second", "GET", "POST"),
        route("/models/{name}", "named", "GET"),
        route("/models/own", "behind it", "GET"),
    ]
    plain, short = Starlette(routes=routes), Starlette(routes=routes, middleware=[Middleware(Shortcut, routes=routes)])
    asked = [("POST", "/a"), ("GET", "/a"), ("HEAD", "/a"), ("PUT", "/a"), ("GET", "/models/x"), ("GET", "/no")]
    clients = []
    for app in (plain, short):
        app.state.known = True
        clients.append(TestClient(app))
    for method, path in asked:
        expected, got = (client.request(method, path) for client in clients)
        assert (got.status_code, got.text) == (expected.status_code, expected.text), (method, path)
    assert clients[1].post("/a").text == "first"


def test_a_path_that_an_earlier_pattern_matches_is_left_to_it() -> None:
    routes = [route("/models/{name}", "named", "GET"), route("/models/own", "behind it", "GET")]
    app = Starlette(routes=routes, middleware=[Middleware(Shortcut, routes=routes)])
    app.state.known = True
    assert TestClient(app).get("/models/own").text == "named"
