"""Labels, masked words, search and texts; and which of them a server's bundles have."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.runtime.serve.page.fake import ALL, vector
from tests.runtime.serve.page.steps import choose, drop, film

pytestmark = pytest.mark.slow

FILMS = {"name": "films", "kind": "image", "rows": 1234, "pictures": True, "queries": ["text", "image"]}


def _rows(page, tool):
    return [row.split("\n") for row in page.locator(f"{tool} .result tbody tr").all_inner_texts()]


def _submit(page, tool):
    page.click(f"{tool} [type=submit]")
    page.locator(f"{tool} .result").wait_for()


def test_a_published_set_of_prompts_gives_bars_with_numbers_best_first(open_page, fake):
    page = open_page()
    drop(page, film())
    assert page.input_value("#prompt-set") == "pneumonia"
    page.select_option("#prompt-set", "chexpert")
    _submit(page, "#labels")
    asked = fake.last("/classify")
    assert asked["prompts"] == ["chexpert"]
    assert asked["image"] == film()
    assert "labels" not in asked
    rows = page.locator("#labels tbody tr")
    numbers = [float(number) for number in rows.locator("b").all_inner_texts()]
    assert numbers == [0.9, 0.77, 0.64, 0.51, 0.38]
    widths = rows.locator(".bar i").evaluate_all(
        "bars => bars.map(bar => bar.getBoundingClientRect().width / bar.parentElement.clientWidth)"
    )
    np.testing.assert_allclose(widths, numbers, atol=0.01)
    assert page.inner_text("#labels [role=status]") == "5 labels classified. Highest: Atelectasis, 0.900."
    assert page.locator("#labels th[scope=row]").first.inner_text() == "Atelectasis"


@pytest.mark.parametrize(
    ("score", "typed", "sent"),
    [
        ("pairs", "Edema\nCOPD", {"prompts": {"Edema": [["Edema"], ["No edema"]], "COPD": [["COPD"], ["No COPD"]]}}),
        ("pairs", "Edema | Wet lungs | Dry lungs", {"prompts": {"Edema": [["Wet lungs"], ["Dry lungs"]]}}),
        ("softmax", " Edema \n\nNormal", {"labels": ["Edema", "Normal"]}),
        ("sigmoid", "Edema | Wet lungs\nNormal", {"prompts": {"Edema": ["Wet lungs"], "Normal": ["Normal"]}}),
    ],
)
def test_own_labels_are_sent_as_the_bundles_score_needs_them(open_page, fake, score, typed, sent):
    fake.offer({"score": score, "prompt_sets": []})
    page = open_page()
    drop(page, film())
    page.fill("#labels-given", typed)
    _submit(page, "#labels")
    asked = fake.last("/classify")
    given = {name: asked[name] for name in ("prompts", "labels") if name in asked}
    if "prompts" in given:
        given["prompts"] = json.loads(given["prompts"][0])
    assert given == sent


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("Edema |", "Line 1"),
        ("A\nB | b", "Line 2"),
        ("A|b|c|d", "Line 1"),
        ("  \n ", "Type a label"),
        ("A\nEdema\nedema", "Line 3 repeats the label of line 2"),
    ],
)
def test_labels_that_cannot_be_read_are_said_by_their_line(open_page, fake, typed, said):
    fake.offer({"prompt_sets": []})
    page = open_page()
    drop(page, film())
    page.fill("#labels-given", typed)
    page.click("#labels [type=submit]")
    assert said in page.inner_text("#labels [role=alert]")
    assert page.evaluate("document.activeElement.id") == "labels-given"
    assert fake.asked == []


@pytest.mark.parametrize("score", ["pairs", "softmax"])
def test_templates_are_offered_for_labels_alone(open_page, fake, score):
    fake.offer({"score": score, "templates": ["imagenet", "biomedclip"], "prompt_sets": ["biomedclip-rsna"]})
    page = open_page()
    assert not page.locator("#templates").is_visible()
    page.select_option("#prompt-set", "")
    drop(page, film())
    page.fill("#labels-given", "Edema\nNormal")
    page.select_option("#templates", "imagenet")
    _submit(page, "#labels")
    assert fake.last("/classify")["templates"] == ["imagenet"]
    assert fake.last("/classify")["labels"] == ["Edema", "Normal"]


def test_words_for_a_gap_with_bars_and_sequences(open_page, fake):
    page = open_page()
    page.fill("#masked-text", "There is a  effusion.")
    page.evaluate("document.querySelector('#masked-text').setSelectionRange(11, 11)")
    page.click("#insert-mask")
    page.fill("#top-k", "3")
    _submit(page, "#masked-words")
    assert fake.last("/fill-mask") == {"inputs": "There is a [MASK] effusion.", "parameters": {"top_k": 3}}
    rows = page.locator("#masked-words tbody tr")
    assert rows.locator("th").all_inner_texts() == ["pleural", "left", "right"]
    assert rows.locator("b").all_inner_texts() == ["0.800", "0.267", "0.089"]
    assert rows.locator(".sequence").first.inner_text() == "There is a pleural effusion."
    assert page.inner_text("#masked-words [role=status]") == "1 gap filled. Most probable: pleural."


def test_several_gaps_have_a_table_each_and_words_can_be_named(open_page, fake):
    page = open_page()
    page.fill("#masked-text", "A [MASK] [MASK].")
    page.fill("#targets", " effusion, , edema ")
    _submit(page, "#masked-words")
    assert fake.last("/fill-mask")["parameters"] == {"top_k": 5, "targets": ["effusion", "edema"]}
    assert page.locator("#masked-words caption").all_inner_texts() == ["Gap 1 of 2", "Gap 2 of 2"]


def test_a_text_without_a_gap_is_not_sent(open_page, fake):
    page = open_page()
    page.fill("#masked-text", "No gap.")
    page.click("#masked-words [type=submit]")
    assert "put [MASK]" in page.inner_text("#masked-words [role=alert]")
    page.fill("#masked-text", "A [MASK].")
    page.fill("#top-k", "0")
    page.click("#masked-words [type=submit]")
    assert "from 1 to 100" in page.inner_text("#masked-words [role=alert]")
    assert fake.asked == []


def test_search_by_text_and_by_the_film_with_thumbnails(open_page, fake):
    fake.offer({}, indexes=(FILMS,))
    page = open_page()
    page.fill("#query-given", " effusion ")
    page.fill("#hits", "4")
    _submit(page, "#search")
    assert fake.last("/search") == {"text": "effusion", "index": "films", "top_k": 4}
    hits = page.locator("#search .hits li")
    hits.locator("img").nth(3).wait_for()
    assert hits.count() == 4
    assert hits.first.inner_text().split("\n")[0] == "1. 0.700 study-0"
    assert "Report number 0." in hits.first.inner_text()
    assert hits.locator("img").first.evaluate("image => image.naturalWidth") == 320
    assert hits.locator("img").first.get_attribute("alt") == "Radiograph study-0"
    page.check("input[name=query][value=image]")
    assert not page.locator("#query-given").is_visible()
    page.click("#search [type=submit]")
    assert page.inner_text("#search [role=alert]") == "Open a radiograph first."
    drop(page, film())
    page.click("#search [type=submit]")
    page.locator("#search [role=status]", has_text="hits").wait_for()
    asked = fake.last("/search")
    assert asked["image"] == film()
    assert (asked["index"], asked["top_k"]) == (["films"], ["4"])


def test_thumbnails_bring_the_key_and_never_leave_the_host(open_page, fake):
    fake.offer({}, indexes=(FILMS,))
    fake.key = "right"
    page = open_page(forgiven=1)
    page.fill("#api-key-value", "right")
    page.keyboard.press("Enter")
    page.fill("#query-given", "effusion")
    _submit(page, "#search")
    page.locator("#search .hits img").nth(5).wait_for()  # each needed the key
    from starlette.responses import JSONResponse

    hit = {"rank": 1, "score": 0.5, "id": "x", "picture": "//elsewhere.example/x.png"}
    others = [{**hit, "picture": url} for url in ("https://elsewhere.example/x.png", "/\\elsewhere.example/x.png")]
    fake.refuse["/search"] = [JSONResponse({"index": "films", "kind": "image", "hits": [hit, *others]})]
    page.click("#search [type=submit]")
    page.locator("#search [role=status]", has_text="3 hits").wait_for()
    assert page.locator("#search .hits img").count() == 0


def test_texts_are_compared_by_their_embeddings(open_page, fake):
    page = open_page()
    texts = ["No effusion.", "Small effusion.", "Normal heart."]
    page.fill("#texts-given", "\n".join(texts))
    _submit(page, "#texts")
    assert fake.last("/embed/text") == {"texts": texts, "normalize": True}
    vectors = np.array([vector(text) for text in texts])
    cells = [float(cell.replace("−", "-")) for cell in page.locator("#texts td").all_inner_texts()]
    np.testing.assert_allclose(np.reshape(cells, (3, 3)), vectors @ vectors.T, atol=0.0051)
    page.fill("#texts-given", "One.")
    page.click("#texts [type=submit]")
    assert "two texts" in page.inner_text("#texts [role=alert]").lower()


@pytest.mark.parametrize(
    ("capabilities", "indexes", "shown"),
    [
        (ALL, (), ["phrases", "labels", "masked-words", "texts"]),
        (ALL, (FILMS,), ["phrases", "labels", "masked-words", "search", "texts"]),
        ({"text": True}, (), ["texts"]),
        ({"text": True, "mask": True}, (), ["masked-words", "texts"]),
        ({"image": True, "patches": True}, (), []),
        ({"image": True}, (FILMS,), ["search"]),
        ({"text": True, "image": True, "joint": True}, (), ["phrases", "labels", "texts"]),
        ({}, (), []),
    ],
)
def test_what_the_bundle_lacks_is_not_shown(open_page, fake, capabilities, indexes, shown):
    fake.offer({"capabilities": capabilities}, indexes=indexes)
    page = open_page()
    assert [tool.get_attribute("id") for tool in page.locator(".tool").all() if tool.is_visible()] == shown
    films = "image" in capabilities and ("joint" in capabilities or bool(indexes))
    assert page.locator("#radiograph").is_visible() == films
    assert page.locator("#nothing").is_visible() == (not shown)
    if shown == ["search"]:
        assert not page.locator("#query-given").is_visible()  # this bundle embeds no texts
        choose(page, film())
        _submit(page, "#search")
        assert "image" in fake.last("/search")


def test_of_several_models_one_is_chosen_and_named_in_requests(open_page, fake):
    fake.offer(
        {},
        {"name": "text-only", "family": "cxr-bert", "capabilities": {"text": True}, "random_weights": True},
    )
    page = open_page()
    assert not page.locator("#random-weights").is_visible()
    drop(page, film())
    page.fill("#phrases-given", "Effusion")
    _submit(page, "#phrases")
    assert fake.last("/ground")["model"] == ["biovil"]
    page.select_option("#model", label="text-only")
    assert page.locator("#random-weights").is_visible()
    assert not page.locator("#phrases").is_visible()
    assert "cxr-bert" in page.inner_text("#offer")
    page.fill("#texts-given", "A\nB")
    _submit(page, "#texts")
    assert fake.last("/embed/text")["model"] == "text-only"


@pytest.mark.parametrize("random", [False, True])
def test_what_results_mean_is_always_said(open_page, fake, random):
    fake.offer({"random_weights": random})
    page = open_page(360, 640)
    for _ in range(2):
        notice = page.locator("#notice")
        assert "Research use only, not for clinical use." in notice.inner_text()
        assert ("Its results mean nothing." in notice.inner_text()) == random
        box = notice.bounding_box()
        assert 0 <= box["y"] < 5
        assert box["height"] < 120
        page.mouse.wheel(0, 5000)
        page.wait_for_timeout(100)
