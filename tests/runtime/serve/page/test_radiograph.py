"""Radiographs that are dropped, chosen or pasted: shown as the model sees them, or refused in words."""

from __future__ import annotations

import base64

import pytest
from PIL import Image

from tests.runtime.serve.page.steps import choose, drop, film, find, transfer

pytestmark = pytest.mark.slow


def test_a_dicom_file_is_shown_by_the_servers_picture(open_page, fake):
    page = open_page()
    drop(page, b"\0" * 128 + b"DICM" + b"\0" * 100, "IM0001", "")
    asked = fake.last("/picture")
    assert (asked["type"], asked["filename"]) == ("application/dicom", "image")
    assert page.locator("#picture").evaluate("image => [image.naturalWidth, image.naturalHeight]") == [320, 400]
    find(page, "Effusion")
    assert fake.last("/ground")["type"] == "application/dicom"


def test_a_deep_png_is_shown_as_the_model_sees_it(open_page, fake):
    page = open_page()
    drop(page, film(mode="I;16"))
    assert [path for path, _ in fake.asked] == ["/picture"]
    assert page.locator("#picture").evaluate("image => image.naturalWidth") == 320
    page.click("#remove")
    drop(page, film())  # one of 8 bit is not asked about
    assert [path for path, _ in fake.asked] == ["/picture"]


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_picture_is_not_turned_as_the_model_does_not_turn_it(open_page, fake, kind):
    turned = Image.Exif()
    turned[0x0112] = 6
    page = open_page()
    content = film(240, 300, kind=kind, exif=turned)
    drop(page, content, "x", f"image/{kind.lower()}")
    page.locator("#stage[style]").wait_for()
    box = page.locator("#picture").bounding_box()
    assert box["height"] > box["width"]
    find(page, "Effusion")
    assert fake.last("/ground")["image"] == content
    page.fill("#opacity", "0")
    with page.expect_download() as download:
        page.click("#save-picture")
    saved = Image.open(download.value.path()).convert("L")
    assert saved.getpixel((20, 20)) > 150 > saved.getpixel((saved.width - 20, 20))


def test_a_picture_can_be_pasted_and_text_still_goes_where_the_cursor_is(open_page, fake):
    page = open_page()
    carried = transfer(page, film(), "image.png", "image/png")
    page.evaluate(
        "carried => document.querySelector('#phrases-given').dispatchEvent("
        "new ClipboardEvent('paste', {clipboardData: carried, bubbles: true, cancelable: true}))",
        carried,
    )
    page.locator("#picture").wait_for()
    find(page, "Effusion")
    prevented = page.evaluate(
        """() => {
            const carried = new DataTransfer();
            carried.setData("text/plain", "Opacity");
            const event = new ClipboardEvent("paste", {clipboardData: carried, bubbles: true, cancelable: true});
            document.querySelector("#phrases-given").dispatchEvent(event);
            return event.defaultPrevented;
        }"""
    )
    assert not prevented
    assert page.locator("#phrases .result").is_visible()


def test_another_film_takes_away_the_results_of_the_first(open_page):
    page = open_page()
    choose(page, film())
    find(page, "Effusion")
    choose(page, film(300, 300), "second.png")
    page.locator("#file-name", has_text="second.png").wait_for()
    for gone in ("#phrases .result", "#map", "#legend", "#readout"):
        assert not page.locator(gone).is_visible(), gone
    find(page, "Effusion")
    page.click("#remove")
    assert not page.locator("#figure").is_visible()
    assert not page.locator("#phrases .result").is_visible()
    assert page.evaluate("document.activeElement.id") == "file"


def test_of_several_files_the_first_is_opened_and_that_is_said(open_page):
    page = open_page()
    page.evaluate(
        """encoded => {
            const bytes = Uint8Array.from(atob(encoded), letter => letter.charCodeAt(0));
            const dataTransfer = new DataTransfer();
            for (const name of ["1.png", "2.png"]) dataTransfer.items.add(new File([bytes], name, {type: "image/png"}));
            document.body.dispatchEvent(new DragEvent("drop", {dataTransfer, bubbles: true, cancelable: true}));
        }""",
        base64.b64encode(film()).decode(),
    )
    page.locator("#radiograph-status", has_text="Opened the first of 2 files.").wait_for()
    assert page.inner_text("#file-name") == "1.png"


def test_what_cannot_be_a_radiograph_is_refused_before_it_is_sent(open_page, fake):
    fake.info["limits"] = {"image_bytes": 1_024_000}
    page = open_page()
    choose(page, b"", "empty.png")
    page.locator("#radiograph-error", has_text="empty").wait_for()
    page.evaluate("() => { Blob.prototype.read = Blob.prototype.arrayBuffer }")
    page.evaluate(
        """() => {
            Blob.prototype.arrayBuffer = () => Promise.reject(new DOMException("a folder", "NotReadableError"));
        }"""
    )
    choose(page, film())
    page.locator("#radiograph-error", has_text="cannot be read").wait_for()
    page.evaluate("() => { Blob.prototype.arrayBuffer = Blob.prototype.read }")
    choose(page, b"%PDF-1.7 ...", "report.pdf", "application/pdf")
    page.locator("#radiograph-error", has_text="another kind").wait_for()
    choose(page, b"\x89PNG\r\n\x1a\n" + b"\0" * (1 << 20), "large.png")
    page.locator("#radiograph-error", has_text="This file has 1 MB; the server reads 0.98 MB at most.").wait_for()
    assert fake.asked == []
    page.fill("#phrases-given", "Effusion")
    page.click("#phrases [type=submit]")
    assert page.inner_text("#phrases [role=alert]") == "Open a radiograph first."
    assert page.evaluate("document.activeElement.id") == "file"
