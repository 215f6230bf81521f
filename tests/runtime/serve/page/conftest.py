"""The page in the machine's own Chromium, asking a server without a model."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.runtime.serve.page.fake import Fake, build, running

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# What the content-security policy refuses is told as an error of the console, which no test forgives.
_WATCH = """document.addEventListener("securitypolicyviolation", (event) =>
    console.error(`violation: ${event.violatedDirective} ${event.blockedURI}`));"""


# Playwright keeps an event loop running in this thread, in which other tests could run none of their own.
@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    """The machine's own Chromium or Chrome; playwright's is not downloaded."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    executable = os.environ.get("CXR_TEST_BROWSER") or next(filter(None, map(shutil.which, _NAMES)), None)
    if executable is None:
        pytest.skip(f"there is no browser: none of {', '.join(_NAMES)} is installed, nor is CXR_TEST_BROWSER set")
    with warnings.catch_warnings(), playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def _served() -> Iterator[tuple[dict[str, Any], str]]:
    fake = Fake()
    with running(build(fake)) as address:
        yield fake, address


@pytest.fixture(scope="session")
def address(_served: tuple[Fake, str]) -> str:
    """Of the server."""
    return _served[1]


@pytest.fixture
def fake(_served: tuple[Fake, str]) -> Fake:
    """The server as new."""
    fake = _served[0]
    fake.__init__()
    return fake


@pytest.fixture
def open_page(browser: Any, fake: Fake, address: str) -> Iterator[Callable[..., Any]]:
    """Opens the page; afterwards asserts that it asked no other host, and that nothing was complained of.

    `forgiven` is how many requests may be refused, which browsers tell the console of as well.
    """
    with OpenedPages(browser, address) as opened:
        yield opened


# The tools are there, or the page asks or says why they are not.
_SETTLED = "main[aria-busy=false], #api-key:not([hidden]), #offer-error:not([hidden])"


class OpenedPages:
    """See `open_page`; for a server at any address."""

    def __init__(self, browser: Any, address: str) -> None:
        self.browser, self.address = browser, address
        self.contexts: list[Any] = []
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.forgiven = 0

    def __enter__(self) -> OpenedPages:
        return self

    def __call__(self, width: int = 1280, height: int = 900, *, forgiven: int = 0, **options: Any) -> Any:
        self.forgiven += forgiven
        self.contexts.append(self.browser.new_context(viewport={"width": width, "height": height}, **options))
        page = self.contexts[-1].new_page()
        page.set_default_timeout(15_000)
        page.add_init_script(_WATCH)
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(self.address)
        page.locator(_SETTLED).first.wait_for()
        return page

    def __exit__(self, kind: object, *_: object) -> None:
        for context in self.contexts:
            context.close()
        if kind is not None:
            return
        foreign = [
            url for url in self.requests if not url.startswith((f"{self.address}/", f"blob:{self.address}/", "data:"))
        ]
        assert foreign == []
        refused = [each for each in self.complaints if "Failed to load resource" in each]
        assert len(refused) == self.forgiven, refused
        assert [each for each in self.complaints if each not in refused] == []
