"""The sheet of a search: whole in one file, the right way up, and nothing of an item can break out of its place."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.samples import chest_phantom
from runtime.__main__ import main
from runtime.retrieval.result_sheet import Answer, Hit, write_sheet
from tests.runtime.handmade import fp32, write_bundle

NASTY = "<script>alert('x')</script> & \"quoted\" </li>"


class Page(HTMLParser):
    """Elements with their attributes, and the text in each."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.elements[-1][1].get("class") or self.elements[-1][0], data))

    def of(self, name: str) -> list[str]:
        return [text for where, text in self.texts if where == name]

    @property
    def pictures(self) -> list[Image.Image]:
        sources = [attributes["src"] or "" for tag, attributes in self.elements if tag == "img"]
        assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
        return [Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) for source in sources]


def test_what_items_and_queries_hold_is_escaped_and_nothing_is_loaded(tmp_path: Path) -> None:
    hits = [Hit(NASTY, 0.5, NASTY, None), Hit("b", -0.25, "two\nlines", None)]
    write_sheet(tmp_path / "a.html", [Answer(NASTY, "text", hits)], "text", f"index {NASTY}", ["Note 1.", "Note 2."])
    page = Page(tmp_path / "a.html")
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "iframe", "img", "a", "object"}
    assert sum(tag == "li" for tag, _ in page.elements) == 2
    assert "http:" not in page.source
    assert "https:" not in page.source
    assert "url(" not in page.source
    policy = [attributes["content"] for tag, attributes in page.elements if "http-equiv" in attributes]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert page.of("h2") == [f"“{NASTY}”"]
    assert page.of("id") == [NASTY, "b"]
    assert page.of("text") == [NASTY, "two\nlines"]
    assert page.of("score") == ["+0.5000", "-0.2500"]
    assert page.of("rank") == ["1", "2"]
    assert page.of("note") == page.of("footer") == ["Note 1. Note 2."]
    assert [attributes["style"] for tag, attributes in page.elements if tag == "i"] == ["width:50.0%", "width:0.0%"]


def test_pictures_are_small_copies_the_right_way_up(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    from tests.runtime.dicoms import write_dicom

    film = chest_phantom(1500, 1000)
    Image.fromarray(film).save(tmp_path / "large.png")
    write_dicom(tmp_path / "inverted.dcm", 4095 - film.astype(np.uint16) * 16, "MONOCHROME1")
    Image.fromarray(film[:90, :70]).save(tmp_path / "small.png")
    names = ("large.png", "inverted.dcm", "small.png")
    hits = [Hit(name, 0.1, None, tmp_path / name) for name in names]
    query = str(tmp_path / "inverted.dcm")
    write_sheet(tmp_path / "a.html", [Answer(query, "image", hits)], "image", "about", ["note"])
    page = Page(tmp_path / "a.html")
    shown, *found = [np.asarray(picture, dtype=float) for picture in page.pictures]
    assert [picture.shape for picture in found] == [(360, 240), (360, 240), (90, 70)]
    expected = np.asarray(Image.fromarray(film).resize((240, 360), Image.Resampling.LANCZOS), dtype=float)
    for picture in (shown, found[0], found[1]):
        assert np.corrcoef(picture.ravel(), expected.ravel())[0, 1] > 0.99
        assert np.abs(picture - expected).mean() < 8
    assert page.of("span") == [query]
    assert (tmp_path / "a.html").stat().st_size < 200_000


def test_a_picture_that_cannot_be_shown_says_why(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n")
    hits = [
        Hit("a", 0.1, None, tmp_path / "gone.png"),
        Hit("b", 0, None, tmp_path / "broken.png"),
        Hit("c", 0, None, None),
    ]
    write_sheet(tmp_path / "a.html", [Answer("x", "text", hits)], "image", "about", ["note"])
    reasons = Page(tmp_path / "a.html").of("p")
    assert len(reasons) == 3
    assert "no such file" in reasons[0]
    assert "does not say where" in reasons[2]


def test_the_sheet_of_a_search(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    pytest.importorskip("faiss")
    bundle = write_bundle(tmp_path / "bundle", text=[fp32()], image=[fp32()])
    (tmp_path / "films").mkdir()
    for number in range(3):
        Image.fromarray(chest_phantom(120, 110, number)).save(tmp_path / "films" / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    options = ("--provider", "cpu")
    assert main(["index", str(bundle), "films", "--out", "films.index", *options]) == 0
    sheet = ("--html", "sheet.html", "--top-k", "2")
    assert main(["search", str(bundle), "films.index", "clear lungs", "films/1.png", *sheet, *options]) == 0
    assert "sheet → sheet.html" in capsys.readouterr().out
    page = Page(tmp_path / "sheet.html")
    assert len(page.pictures) == 5, "two hits of two queries, and the image that was looked for"
    assert page.of("about")[0].startswith("3 images of films.index · biovil, fp32 · every score computed")
    assert page.of("note") == ["For research only, not for clinical use."]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    arguments = ["search", str(bundle), "../films.index", "clear lungs", *sheet, *options]
    assert main(arguments) == 0
    assert Page(Path("sheet.html")).pictures == []
    assert main([*arguments, "--root", ".."]) == 0
    assert len(Page(Path("sheet.html")).pictures) == 2
