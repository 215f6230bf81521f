"""The page without a mouse, for readers of screens, in the dark, on a phone, on paper."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.runtime.serve.page.steps import choose, drop, film, find

pytestmark = pytest.mark.slow

_FILMS = {"name": "films", "kind": "image", "rows": 12, "pictures": True, "queries": ["text", "image"]}


def _all_results(page):
    """Use every tool once."""
    drop(page, film())
    find(page, "Right pleural effusion\nCardiomegaly")
    page.select_option("#prompt-set", "chexpert")
    page.fill("#query-given", "effusion")
    page.fill("#texts-given", "No effusion.\nA small right effusion.\nNormal heart size.")
    for tool in ("labels", "masked-words", "search", "texts"):
        page.click(f"#{tool} [type=submit]")
        page.locator(f"#{tool} .result").wait_for()
    page.click("#values summary")


def _focused(page):
    return page.evaluate(
        """() => {
            const at = document.activeElement;
            return at.id || at.textContent.trim().slice(0, 30) || at.tagName;
        }"""
    )


def test_everything_can_be_done_with_the_keyboard_alone(open_page, fake):
    page = open_page()
    chosen = {"name": "x.png", "mimeType": "image/png", "buffer": film()}
    page.on("filechooser", lambda chooser: chooser.set_files(chosen))
    page.keyboard.press("Tab")
    assert _focused(page) == "Skip to the content"
    assert page.locator(".skip").bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    assert _focused(page) == "main"
    page.keyboard.press("Tab")
    assert _focused(page) == "file"
    page.keyboard.press("Enter")
    page.locator("#radiograph-status", has_text="Opened.").wait_for()
    page.keyboard.press("Tab")
    assert _focused(page) == "remove"
    page.keyboard.press("Tab")
    assert _focused(page) == "phrases-given"
    page.keyboard.type("Effusion")
    page.keyboard.press("Enter")
    page.keyboard.type("Opacity")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.locator("#phrases .result").wait_for()
    assert fake.last("/ground")["phrases"] == ["Effusion", "Opacity"]
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    assert "“Opacity”" in page.inner_text("#map-summary")
    for expected in ("heat", "isolines", "smooth", "opacity", "palette", "scale", "save-picture", "save-values"):
        page.keyboard.press("Tab")
        assert _focused(page) == expected
    for _ in range(12):
        page.keyboard.press("Shift+Tab")
        if _focused(page) == "map":
            break
    assert _focused(page) == "map"
    page.keyboard.press("ArrowUp")
    assert page.inner_text("#readout").startswith("Row 8, column 8: ")


def test_there_is_no_trap_and_every_stop_is_seen(open_page, fake):
    fake.offer({}, {"name": "other"}, indexes=(_FILMS,))
    page = open_page(reduced_motion="reduce")
    _all_results(page)
    page.evaluate("document.querySelector('.skip').focus()")
    stops = []
    for _ in range(70):
        page.keyboard.press("Tab")
        stop = page.evaluate(
            """() => {
                const at = document.activeElement;
                if (at === document.body) return null;
                const shown = at.id === "file" ? document.querySelector("label[for=file]") : at;
                const style = getComputedStyle(shown);
                const box = shown.getBoundingClientRect();
                const notice = document.querySelector("#notice").getBoundingClientRect();
                return {
                    name: at.id || at.className || at.textContent.trim(),
                    outlined: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
                    inside: box.bottom > notice.bottom && box.top < innerHeight && box.width > 0,
                };
            }"""
        )
        if stop is None:
            break
        stops.append(stop)
    else:
        pytest.fail("the end of the page was not reached")
    assert len(stops) > 35
    assert [stop["name"] for stop in stops if not stop["outlined"]] == []
    assert [stop["name"] for stop in stops if not stop["inside"]] == []


def test_every_control_has_a_name_and_every_part_a_heading(open_page, fake):
    fake.offer({}, {"name": "other"}, indexes=(_FILMS,))
    page = open_page()
    _all_results(page)
    page.evaluate("document.querySelectorAll('[hidden]').forEach(each => { each.hidden = false })")
    tree = page.locator("body").aria_snapshot()
    controls = "textbox|combobox|spinbutton|slider|checkbox|radio|button|link|application|img"
    unnamed = re.findall(rf"- (?:{controls})(?=[:\n]| \[)", tree)
    assert unnamed == []
    landmarks = ("banner", "main", "contentinfo", 'navigation "Tools"', 'region "Phrases"', 'region "Notice"')
    for landmark in (f"- {each}" for each in landmarks):
        assert landmark in tree, landmark
    assert page.locator("h1").count() == 1
    sections = page.locator("section:not(#notice)")
    assert page.locator("section > h2, section > form > h2").count() == sections.count()
    ids = page.locator("[id]").evaluate_all("all => all.map(each => each.id)")
    assert len(ids) == len(set(ids))
    targets = page.locator("[aria-labelledby], [aria-describedby], label[for]").evaluate_all(
        "all => all.flatMap(each => ['aria-labelledby', 'aria-describedby', 'for'].flatMap("
        "name => (each.getAttribute(name) ?? '').split(' ').filter(Boolean)))"
        ".filter(id => !document.getElementById(id))"
    )
    assert targets == []
    for table in page.locator("table").all():
        assert table.locator("caption").count() == 1
        assert table.locator("thead th[scope=col]").count() > 1
        assert table.locator("tbody th[scope=row]").count() == table.locator("tbody tr").count()
    for tool in page.locator(".tool").all():
        assert tool.locator("form [role=status]").count() == tool.locator("form [role=alert]").count() == 1


# Contrast by WCAG 2.2 of every text with what is painted behind it; 0 of the list where all is well.
_FAINT = """() => {
    const channels = colour => (colour.match(/[\\d.]+/g) ?? []).map(Number);
    const light = colour => channels(colour).slice(0, 3)
        .map(value => value / 255).map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
        .reduce((sum, value, at) => sum + value * [0.2126, 0.7152, 0.0722][at], 0);
    const behind = element => {
        for (let at = element; at; at = at.parentElement) {
            const colour = getComputedStyle(at).backgroundColor;
            if ((channels(colour)[3] ?? 1) === 1) return colour;
        }
        return "rgb(255, 255, 255)";
    };
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const found = [];
    let seen = 0;
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim()) continue;
        if (!element.checkVisibility() || element.closest("script, noscript")) continue;
        const [one, other] = [light(getComputedStyle(element).color), light(behind(element))].sort((a, b) => b - a);
        const contrast = (one + 0.05) / (other + 0.05);
        seen += 1;
        if (contrast < 4.5) found.push(`${walker.currentNode.data.trim().slice(0, 40)}: ${contrast.toFixed(2)}`);
    }
    return [seen, found];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_what_is_behind_them(open_page, fake, scheme):
    fake.offer({"random_weights": True}, indexes=(_FILMS,))
    page = open_page(color_scheme=scheme)
    _all_results(page)
    page.click("#remove")
    page.click("#phrases [type=submit]")  # for an error
    page.locator("#phrases [role=alert]").wait_for()
    page.evaluate("document.querySelector('#api-key').hidden = false")
    seen, faint = page.evaluate(_FAINT)
    assert seen > 60
    assert faint == []
    # Negative control: the check finds what is faint.
    page.evaluate("document.querySelector('h1').style.color = 'rgb(119, 119, 119)'")
    assert len(page.evaluate(_FAINT)[1]) == 1


def test_light_and_dark_follow_the_system_and_the_choice_which_is_kept(open_page):
    page = open_page(color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    assert dark != "rgb(255, 255, 255)"
    page.select_option("#appearance", "light")
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    page.reload()
    page.locator("#texts").wait_for()
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    page.emulate_media(color_scheme="light")
    page.select_option("#appearance", "dark")
    assert page.evaluate(background) == dark
    page.select_option("#appearance", "")
    assert page.evaluate(background) == "rgb(255, 255, 255)"


@pytest.mark.parametrize(("name", "bright"), [("light", True), ("dark", False), ("phone", True)])
def test_it_looks_as_it_should(open_page, fake, tmp_path, name, bright):
    """Light is light and dark is dark from top to bottom; set CXR_TEST_SCREENSHOTS to a folder to look at the rest."""
    fake.offer({"random_weights": True}, indexes=(_FILMS,))
    phone = {"width": 360, "height": 740, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
    page = open_page(**(phone if name == "phone" else {}), color_scheme="light" if bright else "dark")
    _all_results(page)
    page.locator("#search .hits img").nth(5).wait_for()
    file = Path(os.environ.get("CXR_TEST_SCREENSHOTS", tmp_path)) / f"page-{name}.png"
    page.screenshot(path=file, full_page=True)
    seen = np.asarray(Image.open(file).convert("L"))
    margin = seen[:, :8]  # beside the contents: paper alone, but for the notice
    assert np.median(seen) == np.median(margin)
    assert (np.median(margin) > 250) if bright else (np.median(margin) < 40)
    assert (margin == np.median(margin)).mean() > 0.97
    ink = np.abs(seen.astype(int) - int(np.median(margin))) > 100
    assert 0.01 < ink.mean() < 0.4


@pytest.mark.parametrize("width", [320, 360, 768])
def test_a_narrow_screen_needs_no_sideways_scrolling(open_page, fake, width):
    fake.offer({"random_weights": True}, {"name": "a-model-with-a-name-that-is-long-for-a-phone"}, indexes=(_FILMS,))
    page = open_page(width, 740, has_touch=True, is_mobile=True)
    _all_results(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = page.evaluate(
        """() => [...document.querySelectorAll("body *")].filter(each => each.checkVisibility()
            && !each.closest(".scroll, .unseen, .skip") && each.getBoundingClientRect().right > innerWidth + 1)
            .map(each => each.id || each.className || each.tagName)"""
    )
    assert wide == []
    small = page.locator("button, select, .button").evaluate_all(
        "all => all.filter(each => each.checkVisibility() && each.getBoundingClientRect().height < 24)"
        ".map(each => each.textContent)"
    )
    assert small == []


def test_on_a_phone_the_map_is_scrolled_to_and_read_by_touch(open_page):
    page = open_page(360, 740, has_touch=True, is_mobile=True, reduced_motion="reduce")
    choose(page, film(240, 900))
    find(page, "Effusion")
    box = page.locator("#map").bounding_box()
    assert box["y"] < 740
    assert box["y"] + box["height"] > 0
    page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert page.inner_text("#readout").startswith("Row ")


def test_nothing_moves_for_those_who_want_no_motion(open_page, fake):
    moving = "getComputedStyle(document.querySelector('#texts [role=status]'), '::before').animationName"
    for motion, name in (("reduce", "none"), ("no-preference", "turn")):
        page = open_page(reduced_motion=motion)
        fake.seconds = 20
        page.fill("#texts-given", "A\nB")
        page.click("#texts [type=submit]")
        assert page.evaluate(moving) == name
        scrolling = page.evaluate("getComputedStyle(document.documentElement).scrollBehavior")
        assert scrolling == ("auto" if motion == "reduce" else "smooth")
        page.click("#texts [data-cancel]")


def test_with_forced_colours_bars_are_still_seen(open_page):
    page = open_page(forced_colors="active")
    drop(page, film())
    page.select_option("#prompt-set", "chexpert")
    page.click("#labels [type=submit]")
    page.locator("#labels .result").wait_for()
    colours = page.evaluate(
        """() => [".bar i", ".bar"].map(
            at => getComputedStyle(document.querySelector(`#labels ${at}`)).backgroundColor)"""
    )
    assert colours[0] != colours[1]


def test_on_paper_it_is_black_on_white_with_results_and_the_notice(open_page, fake):
    fake.offer({"random_weights": True}, indexes=(_FILMS,))
    page = open_page(color_scheme="dark")
    _all_results(page)
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    for kept in ("#notice", "#picture", "#scores", "#labels .result", "#values table"):
        assert page.locator(kept).is_visible(), kept
    for left in ("nav", "#drop", "#settings", "[type=submit]"):
        assert not page.locator(left).first.is_visible(), left
    assert len(re.findall(rb"/Type\s*/Page\b", page.pdf(format="A4"))) <= 8


def test_without_scripts_the_page_says_what_it_needs(browser, address):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert "needs JavaScript" in page.inner_text("main")
    assert "Research use only" in page.inner_text("#notice")
    context.close()
