"""The picture says what the map says: red where it is similar, blue where it is not, the film where it is neither."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from runtime.image.resizing import seen_square
from runtime.tasks.grounding import Box, Grounding, score_grounding
from runtime.tasks.joint import map_to_image
from runtime.tasks.overlay import _BOX, draw_overlay
from tests.runtime.parts import grey_rule

RESIZE, CROP = 128, 120


def grounding(size: tuple[int, int], patches: np.ndarray, score: float = 0.25) -> Grounding:
    patches = patches.astype(np.float32)
    square = seen_square(grey_rule(RESIZE, CROP), size)
    return Grounding(map_to_image(patches, size, square), score, Box(*square), patches)


def halves(size: tuple[int, int]) -> Grounding:
    """Similar in the upper left quarter, dissimilar in the lower right one, neutral in the others."""
    patches = np.zeros((8, 8))
    patches[:4, :4], patches[4:, 4:] = 0.4, -0.4
    return grounding(size, patches)


def draw(tmp_path: Path, film: np.ndarray, found: Grounding, phrase: str = "opacity", **options) -> np.ndarray:
    """The picture as int (height, width, 3), without the colour bar on the right, which holds every colour."""
    out = tmp_path / "picture.png"
    draw_overlay(Image.fromarray(film), found, phrase, out, **options)
    picture = np.asarray(Image.open(out).convert("RGB")).astype(int)
    return picture[:, : int(picture.shape[1] * 0.9)]


def panels(picture: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Those with isolines and with the heat map: beside each other, or one above the other."""
    if height / width < 0.6:
        middle = picture.shape[0] // 2
        return picture[:middle], picture[middle : picture.shape[0] - 70]
    middle = picture.shape[1] // 2 + 10
    return picture[:-70, :middle], picture[:-70, middle:]


def near(picture: np.ndarray, colour: tuple[float, ...], tolerance: int = 40) -> np.ndarray:
    return (np.abs(picture - np.array(colour) * 255) <= tolerance).all(axis=-1)


def film_place(tmp_path: Path, size: int, panel: int = 0) -> tuple[tuple[int, int], float]:
    """Where a square film is in a panel: its top left corner, and pixels of the picture for each of its own."""
    picture = draw(tmp_path, np.full((size, size), 255, dtype=np.uint8), grounding((size, size), np.zeros((8, 8))))
    white = np.argwhere((panels(picture, size, size)[panel] > 253).all(axis=-1))
    (top, left), (bottom, right) = white.min(axis=0), white.max(axis=0) + 1
    assert bottom - top == pytest.approx(right - left, abs=2)
    return (top, left), (right - left) / size


@pytest.mark.parametrize(("height", "width"), [(400, 300), (120, 1477), (900, 300)])
def test_colours_lie_where_the_map_has_them(tmp_path: Path, height: int, width: int) -> None:
    film = np.full((height, width), 90, dtype=np.uint8)
    phrase = "costs $5 & a phrase_with^specials " * 6
    picture = draw(tmp_path, film, halves((width, height)), phrase, note="note")
    _, heat = panels(picture, height, width)
    red = np.argwhere(heat[..., 0] > heat[..., 2] + 60)
    blue = np.argwhere(heat[..., 2] > heat[..., 0] + 60)
    assert len(red) > 100
    assert len(blue) > 100
    assert (red.mean(axis=0) < blue.mean(axis=0)).all(), "red is up and left of blue"
    assert abs(len(red) / len(blue) - 1) < 0.25
    grey = (np.abs(heat - 90) <= 2).all(axis=-1)
    assert grey.sum() > len(red), "where there is no similarity the film shows unchanged"


def test_isolines_circle_what_is_similar(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:8, :8]
    bump = 0.6 * np.exp(-((rows - 2.0) ** 2 + (columns - 5.0) ** 2) / 3)
    size = 400
    side = size * CROP / RESIZE
    expected = (size - side) / 2 + np.array([2.5, 5.5]) * side / 8
    picture = draw(tmp_path, np.zeros((size, size), dtype=np.uint8), grounding((size, size), bump))
    lines, heat = panels(picture, size, size)
    # Warm lines and values on a black film; words and the dashed square are grey.
    drawn = np.argwhere(lines[..., 0] > lines[..., 2] + 40)
    assert 500 < len(drawn) < np.count_nonzero(heat[..., 0] > heat[..., 2] + 40) / 2, "lines, not areas"
    (top, left), scale = film_place(tmp_path, size)
    assert np.abs((drawn.mean(axis=0) - (top, left)) / scale - expected).max() < 0.25 * side / 8


def test_boxes_are_drawn_where_they_are(tmp_path: Path) -> None:
    size = 400
    film = np.zeros((size, size), dtype=np.uint8)
    found = grounding((size, size), np.zeros((8, 8)))
    none = draw(tmp_path, film, found)
    assert not near(none, to_rgb(_BOX)).any()
    boxes = [Box(100, 200, 80, 40), Box(300, 40, 60, 100)]
    scores = score_grounding(found.similarity_map, boxes)
    picture = draw(tmp_path, film, found, boxes=boxes, scores=scores)
    for index, panel in enumerate(panels(picture, size, size)):
        (top, left), scale = film_place(tmp_path, size, index)
        green = near(panel, to_rgb(_BOX))
        expected = np.zeros_like(green)
        for box in boxes:
            rows = [top + round(edge * scale) for edge in (box.y, box.y + box.height)]
            columns = [left + round(edge * scale) for edge in (box.x, box.x + box.width)]
            expected[rows[0] - 3 : rows[1] + 4, columns[0] - 3 : columns[1] + 4] = True
            expected[rows[0] + 4 : rows[1] - 3, columns[0] + 4 : columns[1] - 3] = False
        assert green.sum() > 4 * 100 * scale, "outlines"
        assert not (green & ~expected).any()


def test_the_film_is_right_way_up(tmp_path: Path) -> None:
    film = np.zeros((300, 300), dtype=np.uint8)
    film[:150] = 200
    for panel in panels(draw(tmp_path, film, grounding((300, 300), np.zeros((8, 8)))), 300, 300):
        bright = np.argwhere((np.abs(panel - 200) <= 3).all(axis=-1))
        assert len(bright) > 10_000
        assert bright[:, 0].mean() < panel.shape[0] / 2


def test_words_are_written_whole(tmp_path: Path) -> None:
    """Neither a long phrase nor the note runs out of the picture or into the film."""
    film = np.full((300, 300), 90, dtype=np.uint8)
    picture = draw(tmp_path, film, grounding((300, 300), np.zeros((8, 8))), "W" * 99 + " wide " * 60, note="n" * 60)
    bright = (picture.min(axis=-1) > 150).any(axis=0)
    assert bright[:20].sum() == 0
    assert bright[-20:].sum() < 20
