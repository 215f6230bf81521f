"""Open a radiograph, type phrases, see and read where they are found."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from PIL import Image

from tests.runtime.serve.page.fake import GRID, patch_map
from tests.runtime.serve.page.steps import drop, film, find, pixels

pytestmark = pytest.mark.slow


def test_drop_a_film_type_phrases_read_the_result(open_page, fake):
    page = open_page()
    content = film()
    drop(page, content, "Doe^Jane.png")
    assert page.locator("#picture").evaluate("image => [image.naturalWidth, image.naturalHeight]") == [240, 300]
    find(page, "Right pleural effusion\n\n  Cardiomegaly \n")
    asked = fake.last("/ground")
    assert asked["image"] == content
    assert (asked["type"], asked["filename"]) == ("image/png", "image")  # names of files may name patients
    assert asked["phrases"] == ["Right pleural effusion", "Cardiomegaly"]
    assert "model" not in asked
    scores = page.locator("#scores label")
    assert scores.all_inner_texts() == [
        f"{phrase}\n{patch_map(phrase).mean() * 3:.3f}".replace("-", "−")
        for phrase in ("Right pleural effusion", "Cardiomegaly")
    ]
    row, column = np.unravel_index(patch_map("Right pleural effusion").argmax(), GRID)
    assert f"row {row + 1}, column {column + 1} of 14 × 14" in page.inner_text("#map-summary")
    scores.nth(1).click()
    row, column = np.unravel_index(patch_map("Cardiomegaly").argmax(), GRID)
    assert f"“Cardiomegaly” is strongest in row {row + 1}, column {column + 1}" in page.inner_text("#map-summary")


def test_the_map_is_drawn_inside_the_box_alone_and_strongest_where_it_is(open_page):
    page = open_page()
    drop(page, film(240, 300))
    find(page, "Effusion")
    page.uncheck("#isolines")
    drawn = pixels(page, "#map")
    height, width = drawn.shape[:2]
    assert abs(height / width - 300 / 240) < 0.01
    top, bottom = round(height * 30 / 300), round(height * 270 / 300)  # the box is the square in the middle
    assert not drawn[: top - 3, :, 3].any()
    assert not drawn[bottom + 3 :, :, 3].any()
    inside = drawn[top + 3 : bottom - 3, 3:-3]
    assert (inside[..., 3] > 0).all()
    row, column = np.unravel_index(patch_map("Effusion").argmax(), GRID)
    middle = drawn[round(top + (row + 0.5) / 14 * (bottom - top)), round((column + 0.5) / 14 * width)]
    assert middle[3] == inside[..., 3].max()
    assert middle[:3].astype(int) @ (1, 1, -1) > 300  # yellow, viridis' upper end
    low_row, low_column = np.unravel_index(patch_map("Effusion").argmin(), GRID)
    low = drawn[round(top + (low_row + 0.5) / 14 * (bottom - top)), round((low_column + 0.5) / 14 * width)]
    assert low[3] < middle[3] / 3
    assert low[2] > low[1]  # violet, the lower end


def test_heat_map_isolines_smoothing_opacity_and_colours_can_be_switched(open_page):
    page = open_page()
    drop(page, film())
    find(page, "Effusion\nOpacity")
    seen = [pixels(page, "#map")]
    steps = [
        lambda: page.uncheck("#isolines"),
        lambda: page.fill("#opacity", "90"),
        lambda: page.uncheck("#smooth"),
        lambda: page.select_option("#palette", "cividis"),
        lambda: page.select_option("#scale", "own"),
        lambda: page.select_option("#scale", "unit"),
    ]
    for step in steps:
        step()
        seen.append(pixels(page, "#map"))
        assert not np.array_equal(seen[-1], seen[-2])
    assert seen[2][..., 3].max() > seen[1][..., 3].max()
    assert page.inner_text("#legend").split() == ["−1.00", "1.00"]
    page.uncheck("#heat")
    bare = pixels(page, "#map")
    assert (bare[..., 3] > 0).mean() < 0.02  # the box's edge
    page.check("#isolines")
    assert (pixels(page, "#map")[..., 3] > 0).sum() > 2 * (bare[..., 3] > 0).sum()


def test_without_smoothing_a_patch_is_one_colour(open_page):
    page = open_page()
    drop(page, film(280, 280))
    find(page, "Effusion")
    page.uncheck("#isolines")
    smooth = pixels(page, "#map")
    page.uncheck("#smooth")
    drawn = pixels(page, "#map")
    side = drawn.shape[1] / 14
    for pictured, single in ((drawn, True), (smooth, False)):
        area = pictured[round(5 * side) + 2 : round(6 * side) - 2, round(6 * side) + 2 : round(7 * side) - 2].reshape(
            -1, 4
        )
        assert (len(np.unique(area, axis=0)) == 1) == single


def test_a_patch_is_read_by_pointer_and_by_keyboard(open_page):
    page = open_page()
    drop(page, film(240, 300))
    find(page, "Effusion")
    values = patch_map("Effusion")
    area = page.locator("#map").bounding_box()

    def value(row, column):
        return f"Row {row + 1}, column {column + 1}: {values[row, column]:.3f}".replace("-0.000", "0.000").replace(
            "-", "−"
        )

    top, side = area["height"] * 30 / 300, area["width"] / 14
    page.mouse.move(area["x"] + 3.5 * side, area["y"] + top + 9.5 * side)
    assert page.inner_text("#readout") == value(9, 3)
    page.mouse.move(area["x"] + 3.5 * side, area["y"] + top / 2)  # above the box
    assert "arrow keys" in page.inner_text("#readout")
    page.focus("#map")
    for key, expected in (
        ("ArrowUp", (7, 7)),
        ("ArrowUp", (6, 7)),
        ("ArrowRight", (6, 8)),
        ("End", (6, 13)),
        ("ArrowRight", (6, 13)),
        ("Home", (6, 0)),
        ("ArrowDown", (7, 0)),
    ):
        page.keyboard.press(key)
        assert page.inner_text("#readout") == value(*expected), key
    marked = pixels(page, "#map")
    page.keyboard.press("Escape")
    assert "arrow keys" in page.inner_text("#readout")
    assert not np.array_equal(pixels(page, "#map"), marked)
    assert page.locator("#readout").get_attribute("aria-live") == "polite"


def test_the_values_are_there_as_a_table_and_as_csv(open_page):
    page = open_page()
    drop(page, film())
    find(page, 'Effusion\n=HYPERLINK("x")')
    page.click("#values summary")
    values = patch_map("Effusion")
    cells = page.locator("#values tbody td").all_inner_texts()
    np.testing.assert_allclose([float(cell.replace("−", "-")) for cell in cells], values.ravel(), atol=0.0006)
    assert page.locator("#values th[scope=row]").count() == 14
    with page.expect_download() as download:
        page.click("#save-values")
    assert download.value.suggested_filename == "phrase-map.csv"
    rows = list(csv.DictReader(io.StringIO(download.value.path().read_text())))
    assert len(rows) == 2 * 14 * 14
    np.testing.assert_allclose([float(row["value"]) for row in rows[:196]], values.ravel())
    assert rows[-1]["phrase"] == '\'=HYPERLINK("x")'  # no spreadsheet runs it


@pytest.mark.parametrize("random", [False, True])
def test_the_picture_that_is_saved_has_the_film_the_map_and_words(open_page, fake, random):
    fake.offer({"random_weights": random})
    page = open_page()
    drop(page, film(700, 900))
    find(page, "Effusion")
    page.fill("#opacity", "0")
    page.uncheck("#isolines")
    with page.expect_download() as download:
        page.click("#save-picture")
    assert download.value.suggested_filename == "phrase-map.png"
    saved = np.asarray(Image.open(download.value.path()).convert("RGB"))
    assert saved.shape[1] == 700
    assert saved.shape[0] > 960
    assert (saved[50, 50] == 200).all()  # the film as it is, at full size
    assert (saved[850, 650] == 60).all()
    lines = (saved[905:].max(axis=(1, 2)) > 150).astype(int)
    assert (np.diff(lines) == 1).sum() >= (5 if random else 4)  # scale, phrase, model, notices


def test_a_bundle_without_patches_gives_the_similarity_alone(open_page, fake):
    fake.offer({"capabilities": {"text": True, "image": True, "joint": True, "mask": False, "patches": False}})
    page = open_page()
    assert "no patches" in page.inner_text("#phrases")
    drop(page, film())
    find(page, "Effusion\nOpacity")
    from tests.runtime.serve.page.fake import vector

    expected = [
        f"{np.dot(vector('image'), vector(phrase)):.3f}".replace("-", "−") for phrase in ("Effusion", "Opacity")
    ]
    assert [text.split()[-1] for text in page.locator("#scores p").all_inner_texts()] == expected
    assert not page.locator("#map").is_visible()
    assert not page.locator("#map-part").is_visible()
    assert {path for path, _ in fake.asked} == {"/embed/image", "/embed/text"}


def test_names_and_phrases_are_shown_as_text(open_page):
    page = open_page()
    hostile = "<img src=x onerror=alert(1)><b>x</b>"
    drop(page, film(), f"{hostile}.png")
    find(page, hostile)
    assert hostile in page.inner_text("#file-name")
    assert hostile in page.inner_text("#scores")
    assert page.locator("#scores img, #scores div b b, #file-name *").count() == 0
