"""What goes wrong is said in words, where it belongs, and can be tried again."""

from __future__ import annotations

import re
import time
from email.utils import formatdate

import pytest
from starlette.responses import JSONResponse, PlainTextResponse

from tests.runtime.serve.page.steps import drop, film, find

pytestmark = pytest.mark.slow

_TEXTS = "#texts"
_KEPT = """[document.documentElement.outerHTML, JSON.stringify({...localStorage, ...sessionStorage}), document.cookie,
    location.href, document.querySelector("#api-key-value").value].join()"""


def _compare(page):
    page.fill("#texts-given", "One.\nTwo.")
    page.click("#texts [type=submit]")


def _said(page, tool=_TEXTS):
    alert = page.locator(f"{tool} [role=alert]")
    alert.wait_for()
    return alert.inner_text()


def _refuse(fake, status, content, **headers):
    fake.refuse["/embed/text"] = [
        JSONResponse(content, status, headers={k.replace("_", "-"): v for k, v in headers.items()})
    ]


def test_the_key_is_asked_for_once_and_kept_in_memory_alone(open_page, fake):
    fake.key = "s3cret-key"
    page = open_page(forgiven=2)
    assert page.locator("#api-key").is_visible()
    assert page.evaluate("document.activeElement.id") == "api-key-value"
    assert not page.locator("#desk").is_visible()
    page.keyboard.type("s3cret-key")
    page.keyboard.press("Enter")
    page.locator("#texts").wait_for()
    assert not page.locator("#api-key").is_visible()
    _compare(page)
    page.locator("#texts .result").wait_for()
    assert fake.authorizations == [None, "Bearer s3cret-key", "Bearer s3cret-key"]
    kept = page.evaluate(_KEPT)
    assert "s3cret" not in kept
    page.reload()
    page.locator("#api-key").wait_for()  # forgotten


def test_a_wrong_key_is_said_and_another_can_be_given(open_page, fake):
    fake.key = "right"
    page = open_page(forgiven=2)
    page.fill("#api-key-value", "wrong")
    page.keyboard.press("Enter")
    page.locator("#api-key-reason", has_text="did not accept").wait_for()
    assert page.get_attribute("#api-key-value", "aria-invalid") == "true"
    page.fill("#api-key-value", "no spaces\u00e9")
    page.keyboard.press("Enter")
    assert "without spaces" in page.inner_text("#api-key-reason")
    page.fill("#api-key-value", "right")
    page.click("#api-key [type=submit]")
    page.locator("#texts").wait_for()


def test_without_a_key_the_page_says_so_and_can_ask_again(open_page, fake):
    fake.key = "right"
    page = open_page(forgiven=2)
    page.click("#api-key [data-cancel]")
    assert "asks for an API key" in page.inner_text("#offer-error")
    page.click("#offer-error button")
    page.fill("#api-key-value", "right")
    page.keyboard.press("Enter")
    page.locator("#texts").wait_for()


def test_a_key_that_ends_while_working_is_asked_for_and_the_request_goes_on(open_page, fake):
    page = open_page(forgiven=1)
    fake.key = "new"
    _compare(page)
    page.locator("#api-key").wait_for()
    page.fill("#api-key-value", "new")
    page.keyboard.press("Enter")
    page.locator("#texts .result").wait_for()
    assert page.evaluate("document.activeElement.closest('section').id") == "texts"


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_busy_server_says_when_to_come_again(open_page, fake, form):
    page = open_page(forgiven=1)
    wait = "7" if form == "seconds" else formatdate(time.time() + 7.5, usegmt=True)
    _refuse(fake, 429, {"error": "The queue is full.", "error_type": "Overloaded"}, retry_after=wait)
    _compare(page)
    said = _said(page)
    assert said.startswith("The queue is full.")
    seconds = int(re.search(r"Try again in (\d+) seconds?, at \d\d:\d\d:\d\d\.", said)[1])
    assert 5 <= seconds <= 8
    assert page.inner_text("#texts [role=status]") == ""
    page.click("#texts [type=submit]")
    page.locator("#texts .result").wait_for()
    assert not page.locator("#texts [role=alert]").is_visible()


@pytest.mark.parametrize(
    ("status", "content", "expected"),
    [
        (413, {"error": "The body is too large.", "error_type": "TooLarge"}, ["The body is too large."]),
        (422, {"error": "Some texts cannot be used.", "faults": [{"index": 1, "reason": "too long"}]},
         ["Some texts cannot be used.", "Item 2: too long"]),
        (422, {"error": {"message": "OpenAI's shape."}}, ["OpenAI's shape."]),
        (429, {}, ["The server is busy.", "Try again in a moment."]),
        (500, {"error": "internal error", "request_id": "r-17"},
         ["The server could not answer: internal error", "Request id: r-17"]),
        (503, {"error": "The server stops."}, ["The server could not answer: The server stops.", "Request id: r-17"]),
        (418, ["odd"], ["The server refused this with status 418."]),
        (422, {"error": "<b>bold</b><script>x</script>"}, ["<b>bold</b><script>x</script>"]),
    ],
)  # fmt: skip
def test_errors_of_the_server_are_shown_beside_the_form(open_page, fake, status, content, expected):
    page = open_page(forgiven=1)
    _refuse(fake, status, content, x_request_id="r-17")
    _compare(page)
    assert _said(page).split("\n\n") == expected or _said(page).split("\n") == expected
    assert page.locator("#texts [role=alert] p *").count() == 0
    assert not page.locator("#masked-words [role=alert]").is_visible()


def test_an_answer_that_is_no_json_is_said(open_page, fake):
    page = open_page()
    fake.refuse["/embed/text"] = [PlainTextResponse("<html>")]
    _compare(page)
    assert "could not be read" in _said(page)


def test_a_server_that_is_gone_is_said(open_page, fake):
    page = open_page(forgiven=1)
    page.context.set_offline(True)
    _compare(page)
    assert "cannot be reached" in _said(page)
    page.context.set_offline(False)
    page.click("#texts [type=submit]")
    page.locator("#texts .result").wait_for()


def test_a_film_that_cannot_be_decoded_is_said_at_the_film(open_page, fake):
    page = open_page(forgiven=1)
    refusal = {"error": "The picture cannot be read.", "faults": [{"index": 0, "reason": "not a DICOM file"}]}
    fake.refuse["/picture"] = [JSONResponse(refusal, 422)]
    page.set_input_files("#file", {"name": "x", "mimeType": "", "buffer": b"nothing known"})
    assert "The picture cannot be read." in _said(page, "#radiograph")
    drop(page, film())
    assert not page.locator("#radiograph-error").is_visible()


def test_a_film_that_the_server_cannot_show_can_still_be_asked_about(open_page, fake):
    page = open_page(forgiven=1)
    fake.refuse["/picture"] = [JSONResponse({"error": "There is nothing here."}, 404)]
    page.set_input_files("#file", {"name": "x.dcm", "mimeType": "application/dicom", "buffer": b"\0" * 128 + b"DICM"})
    _said(page, "#radiograph")
    find(page, "Effusion")
    box = page.locator("#map").bounding_box()
    assert abs(box["height"] / box["width"] - 400 / 320) < 0.01  # a map without a picture has its proportions
    with page.expect_download():
        page.click("#save-picture")


def test_a_request_can_be_cancelled_and_the_page_says_that_it_works(open_page, fake):
    page = open_page()
    fake.seconds = 30
    _compare(page)
    assert page.get_attribute("#texts", "aria-busy") == "true"
    assert "Waiting" in page.inner_text("#texts [role=status]")
    page.click("#texts [data-cancel]")
    assert page.inner_text("#texts [role=status]") == "Cancelled."
    assert page.get_attribute("#texts", "aria-busy") == "false"
    assert not page.locator("#texts [data-cancel]").is_visible()
    assert page.evaluate("document.activeElement.closest('section')?.id") == "texts"
    assert not page.locator("#texts [role=alert]").is_visible()
    fake.seconds = 0
    page.click("#texts [type=submit]")
    page.locator("#texts .result").wait_for()


def test_the_last_request_counts_when_answers_overtake_each_other(open_page, fake):
    page = open_page()
    fake.seconds = 1
    _compare(page)
    fake.seconds = 0
    page.fill("#texts-given", "Third.\nFourth.\nFifth.")
    page.click("#texts [type=submit]")
    page.locator("#texts .result").wait_for()
    page.wait_for_timeout(1300)
    assert page.locator("#texts tbody tr").count() == 3


def test_an_answer_in_another_shape_is_said_and_told_to_the_console(open_page, fake, browser, address):
    context = browser.new_context()
    page = context.new_page()
    page.goto(address)
    fake.refuse["/embed/text"] = [JSONResponse({"embeddings": None})]
    told = []
    page.on("console", lambda message: told.append(message.type))
    page.locator("#texts").wait_for()
    _compare(page)
    assert _said(page) == "The page failed to show this answer."
    assert told == ["error"]
    context.close()


def test_an_info_that_fails_is_said_and_can_be_asked_again(open_page, fake):
    info, fake.info = fake.info, None
    fake.refuse["/info"] = [JSONResponse({"error": "The server stops."}, 503)]
    page = open_page(forgiven=1)
    assert "The server stops." in page.inner_text("#offer-error")
    assert not page.locator("#texts").is_visible()
    fake.info = info
    page.click("#offer-error button")
    page.locator("#texts").wait_for()
    assert not page.locator("#offer-error").is_visible()
