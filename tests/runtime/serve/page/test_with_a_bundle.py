"""The page in front of the real server with a tiny bundle: what it shows is what the engine says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

import runtime
from export.samples import chest_phantom
from runtime.retrieval.build import build_index
from runtime.retrieval.index import open_index
from runtime.serve.app import build_app
from runtime.serve.limits import Limits
from runtime.serve.models.opening import Opening
from runtime.serve.models.registry import open_models
from runtime.serve.operation.keys import Keys
from runtime.serve.page.page import CONTENT_SECURITY_POLICY
from runtime.serve.server_state import ServedIndex, Server
from runtime.serve.settings import EngineOptions
from tests.runtime.dicoms import write_dicom
from tests.runtime.serve.page.conftest import OpenedPages
from tests.runtime.serve.page.fake import running
from tests.runtime.serve.page.steps import choose, drop, find

pytestmark = pytest.mark.slow

PHRASES = ("Right pleural effusion", "The heart is enlarged")


@pytest.fixture(scope="module")
def engine(tiny):
    return runtime.load(tiny.bundle, provider="cpu", threads=1)


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Path:
    """A folder with three films, one of them DICOM."""
    folder = tmp_path_factory.mktemp("films")
    for seed in range(2):
        Image.fromarray(chest_phantom(150 + 10 * seed, 130)).save(folder / f"film-{seed}.png")
    write_dicom(folder / "film.dcm", chest_phantom(160, 140).astype(np.uint16) * 16, bits=12)
    return folder


@pytest.fixture(scope="module")
def server(tiny, engine, films, tmp_path_factory):
    folder = tmp_path_factory.mktemp("index") / "films"
    build_index(engine, films, folder)
    models = open_models({"tiny": tiny.bundle}, Opening(EngineOptions("cpu", threads=1), decode_processes=1), Limits())
    yield Server(models, Limits(), indexes={"films": ServedIndex("films", open_index(folder), films)})
    models.close()


@pytest.fixture(scope="module")
def real_address(server):
    with running(build_app(server)) as found:
        yield found


@pytest.fixture
def open_real(browser, real_address):
    with OpenedPages(browser, real_address) as opened:
        yield opened


def _numbers(texts):
    return [float(re.search(r"-?\d+\.\d+", text.replace("−", "-"))[0]) for text in texts]


def test_random_weights_are_said_to_mean_nothing(open_real):
    page = open_real()
    assert "Its results mean nothing." in page.inner_text("#notice")
    assert page.inner_text("#offer").startswith("tiny · biovil · on cpu")
    assert page.locator(".tool:visible").count() == 5


@pytest.mark.parametrize("name", ["film-0.png", "film.dcm"])
def test_phrases_are_found_where_the_engine_finds_them(open_real, engine, films, name):
    page = open_real()
    drop(page, (films / name).read_bytes(), name, "")
    find(page, "\n".join(PHRASES))
    expected = engine.ground_phrases(films / name, PHRASES)
    np.testing.assert_allclose(
        _numbers(page.locator("#scores b").all_inner_texts()), [each.score for each in expected], atol=0.0006
    )
    for at, each in enumerate(expected):
        page.locator("#scores label").nth(at).click()
        row, column = each.strongest
        assert f"row {row + 1}, column {column + 1} of" in page.inner_text("#map-summary")
        page.evaluate("document.querySelector('#values').open = true")
        values = _numbers(page.locator("#values td").all_inner_texts())
        np.testing.assert_allclose(np.reshape(values, each.patches.shape), each.patches, atol=0.0006)
    assert not np.allclose(expected[0].patches, expected[1].patches, atol=0.0006)  # or either would do
    width, height = page.locator("#picture").evaluate("image => [image.naturalWidth, image.naturalHeight]")
    assert (height, width) == expected[0].similarity_map.shape


def test_labels_are_classified_as_by_the_engine(open_real, engine, films):
    page = open_real()
    choose(page, (films / "film-1.png").read_bytes())
    page.locator("#radiograph-status", has_text="Opened.").wait_for()
    for chosen, prompts in (
        ("chexpert", "chexpert"),
        ("", {"Edema": (["Edema"], ["No edema"]), "Mass": (["A mass"], ["No masses"])}),
    ):
        page.select_option("#prompt-set", chosen)
        if not chosen:
            page.fill("#labels-given", "Edema\nMass | A mass | No masses")
        page.click("#labels [type=submit]")
        expected = engine.classify(films / "film-1.png", prompts)
        page.locator("#labels [role=status]", has_text=f"{len(expected)} labels classified").wait_for()
        shown = page.locator("#labels tbody th").all_inner_texts()
        numbers = _numbers(page.locator("#labels tbody b").all_inner_texts())
        np.testing.assert_allclose(numbers, [expected[label] for label in shown], atol=0.0006)
        assert numbers == sorted(numbers, reverse=True)
        assert set(shown) == set(expected)


def test_words_are_filled_in_as_by_the_engine(open_real, engine):
    page = open_real()
    text = "There is a [MASK] [MASK]."
    page.fill("#masked-text", text)
    page.click("#masked-words [type=submit]")
    page.locator("#masked-words .result").wait_for()
    expected = [word for gap in engine.text.fill_mask(text, 5) for word in gap]
    assert page.locator("#masked-words tbody th").all_inner_texts() == [word["token_str"] for word in expected]
    numbers = _numbers(page.locator("#masked-words tbody b").all_inner_texts())
    np.testing.assert_allclose(numbers, [word["score"] for word in expected], atol=0.0006)


def test_the_index_is_searched_by_text_and_by_the_film(open_real, engine, server, films):
    page = open_real()
    page.fill("#query-given", PHRASES[0])
    page.click("#search [type=submit]")
    page.locator("#search .hits img").nth(2).wait_for()
    found = server.indexes["films"].index.search(engine.text.encode(list(PHRASES[:1])), 10)
    np.testing.assert_allclose(_numbers(page.locator("#search b").all_inner_texts()), found.scores[0], atol=0.0006)
    page.check("input[name=query][value=image]")
    drop(page, (films / "film.dcm").read_bytes(), "film.dcm", "application/dicom")
    page.click("#search [type=submit]")
    page.locator("#search [role=status]", has_text="1.000").wait_for()
    assert "film.dcm" in page.locator("#search .hits li").first.inner_text()


def test_texts_are_as_similar_as_by_the_engine(open_real, engine):
    page = open_real()
    page.fill("#texts-given", "\n".join(PHRASES))
    page.click("#texts [type=submit]")
    page.locator("#texts .result").wait_for()
    vectors = engine.text.encode(list(PHRASES))
    np.testing.assert_allclose(
        np.reshape(_numbers(page.locator("#texts td").all_inner_texts()), (2, 2)), vectors @ vectors.T, atol=0.0051
    )


def test_what_is_no_picture_is_refused_in_words(browser, real_address):
    with OpenedPages(browser, real_address) as opened:
        page = opened(forgiven=1)
        page.set_input_files("#file", {"name": "x.dcm", "mimeType": "", "buffer": b"no picture at all"})
        page.locator("#radiograph-error p").first.wait_for()
        assert "no picture at all" not in page.inner_text("#radiograph-error")


def test_the_page_loads_without_a_key_and_asks_for_it(browser, server, tmp_path):
    (tmp_path / "keys").write_text("a-key-of-some-length-123456\n")
    with running(build_app(server, Keys(tmp_path / "keys"))) as address, OpenedPages(browser, address) as opened:
        page = opened(forgiven=2)
        page.fill("#api-key-value", "wrong-key-of-some-length-1234")
        page.keyboard.press("Enter")
        page.locator("#api-key-reason", has_text="did not accept").wait_for()
        page.fill("#api-key-value", "a-key-of-some-length-123456")
        page.keyboard.press("Enter")
        page.locator("#texts").wait_for()


def test_the_page_and_the_protocol_share_the_root_and_the_policy_is_said_once(server):
    client = TestClient(build_app(server))
    page = client.get("/")
    assert "<title>Radiographs and text</title>" in page.text
    filled = client.post("/", json={"inputs": "A [MASK].", "parameters": {"top_k": 2}})
    assert [sorted(word) for word in filled.json()] == [["score", "sequence", "token", "token_str"]] * 2
    for path in ("/", "/page/page.js", "/page/drawing/colours.js"):
        headers = client.get(path).headers
        assert headers.get_list("content-security-policy") == [CONTENT_SECURITY_POLICY]
        assert headers.get_list("cache-control") == ["no-cache"]
        assert len(headers.get_list("x-content-type-options")) == 1
    missing = client.get("/page/missing.js")
    assert (missing.status_code, missing.json()["error_type"]) == (404, "NotFound")


@pytest.mark.parametrize(
    "name", ["wikimedia_cc0_Chest_Xray_PA.png", "cc0_rgb_q80.jpg", "cr_mono1_10bit_explicitLE.dcm"]
)
def test_real_films_are_shown_and_asked_about(open_real, shared_data, name):
    film = shared_data / "images" / name
    if not film.is_file():
        pytest.skip(f"there is no {name}")
    page = open_real()
    drop(page, film.read_bytes(), name, "")
    find(page, PHRASES[0])
    box = page.locator("#map").bounding_box()
    width, height = page.locator("#picture").evaluate("image => [image.naturalWidth, image.naturalHeight]")
    assert abs(box["height"] / box["width"] - height / width) < 0.01
