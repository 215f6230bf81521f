"""What the page computes itself, in the browser, against independent implementations."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

contourpy = pytest.importorskip("contourpy", reason="contourpy is not installed")
ndimage = pytest.importorskip("scipy.ndimage", reason="scipy is not installed")
matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")


@pytest.fixture(scope="module")
def page(browser, address):
    context = browser.new_context()
    opened = context.new_page()
    opened.goto(address)
    yield opened
    context.close()


def _grid(values):
    return {"rows": values.shape[0], "columns": values.shape[1], "values": values.ravel().tolist()}


def _pieces(page, values, level):
    """The pieces of an isoline as the page finds them, each a set of two points."""
    found = page.evaluate(
        """async ([grid, level]) => {
            const {segments, crossing} = await import("/page/drawing/isolines.js");
            return segments(grid, level).map(piece => piece.map(edge => crossing(grid, level, edge)));
        }""",
        [_grid(values), level],
    )
    return _as_set(found)


def _as_set(pieces):
    return {frozenset(tuple(round(float(value), 6) for value in point) for point in piece) for piece in pieces}


def _reference(values, level):
    lines = contourpy.contour_generator(z=values, name="serial").lines(level)
    return _as_set(piece for line in lines for piece in itertools.pairwise(line))


@pytest.mark.parametrize("seed", range(6))
def test_isolines_are_those_of_contourpy(page, seed):
    drawn = np.random.default_rng(seed)
    values = drawn.normal(size=(drawn.integers(2, 15), drawn.integers(2, 15)))  # noise: saddles in plenty
    for level in (-0.4, 0.0, 0.7):
        ours = _pieces(page, values, level)
        assert ours == _reference(values, level)
        if len(ours) > 4:  # negative control: neither another level nor the mirrored map would pass
            assert ours != _reference(values, level + 0.01)
            assert ours != _reference(values[:, ::-1], level)


def test_both_ways_through_a_saddle(page):
    for middle, expected in ((3.0, "joined"), (-3.0, "apart")):
        values = np.array([[1 + max(middle, 0), -1 + min(middle, 0)], [-1 + min(middle, 0), 1 + max(middle, 0)]])
        found = _pieces(page, values, 0.0)
        assert found == _reference(values, 0.0), expected
        assert len(found) == 2


@pytest.mark.parametrize("seed", range(4))
def test_pieces_are_joined_to_as_few_lines_as_by_contourpy(page, seed):
    values = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(30, 40)), 2)
    level = float(np.quantile(values, 0.6))
    lines = page.evaluate(
        """async ([grid, level]) => (await import("/page/drawing/isolines.js")).isolines(grid, level)""",
        [_grid(values), level],
    )
    reference = contourpy.contour_generator(z=values, name="serial").lines(level)
    assert len(lines) == len(reference) > 1
    closed = [bool(np.allclose(line[0], line[-1])) for line in reference]
    assert sorted(line["closed"] for line in lines) == sorted(closed)
    assert {True, False} == set(closed)
    assert sorted(len(line["points"]) for line in lines) == sorted(map(len, reference))
    pieces = _as_set(pair for line in lines for pair in itertools.pairwise(line["points"]))
    assert pieces == _reference(values, level)


def test_the_finer_grid_is_scipys_bilinear_interpolation(page):
    values = np.random.default_rng(3).normal(size=(5, 7))
    finer = page.evaluate(
        """async map => {
            const grid = (await import("/page/drawing/interpolation.js")).finerGrid(map, 4);
            return {...grid, values: [...grid.values]};
        }""",
        values.tolist(),
    )
    assert (finer["rows"], finer["columns"]) == (21, 29)
    ours = np.reshape(finer["values"], (21, 29))
    places = np.mgrid[:21, :29] / 4 - 0.5  # a patch's centre is half a patch from its edge
    reference = ndimage.map_coordinates(values, places, order=1, mode="nearest")
    np.testing.assert_allclose(ours, reference, atol=1e-12)
    shifted = ndimage.map_coordinates(values, places + 0.5, order=1, mode="nearest")
    assert np.abs(ours - shifted).max() > 0.1  # negative control: corners instead of centres


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (3, 1)])
def test_maps_of_one_row_or_column_can_be_interpolated(page, shape):
    values = np.arange(math.prod(shape), dtype=float).reshape(shape)
    ours = page.evaluate(
        """async map => [...(await import("/page/drawing/interpolation.js")).finerGrid(map, 2).values]""",
        values.tolist(),
    )
    places = np.mgrid[: 2 * shape[0] + 1, : 2 * shape[1] + 1] / 2 - 0.5
    np.testing.assert_allclose(
        ours, ndimage.map_coordinates(values, places, order=1, mode="nearest").ravel(), atol=1e-12
    )


def _colours(page, palette):
    return np.array(
        page.evaluate(
            """async palette => {
                const {colourAt} = await import("/page/drawing/colours.js");
                return Array.from({length: 256}, (_, at) => colourAt(palette, at / 255));
            }""",
            palette,
        )
    )


@pytest.mark.parametrize(("palette", "name"), [("viridis", "viridis"), ("cividis", "cividis"), ("blueRed", "RdBu_r")])
def test_colours_are_matplotlibs(page, palette, name):
    reference = matplotlib.colormaps[name](np.linspace(0, 1, 256))[:, :3] * 255
    ours = _colours(page, palette)
    assert np.abs(ours - reference).max() <= 5
    assert np.abs(ours[::-1] - reference).max() > 50  # negative control: the wrong way round


@pytest.mark.parametrize("palette", ["viridis", "cividis"])
def test_sequential_colours_are_ordered_in_lightness(page, palette):
    linear = (_colours(page, palette) / 255) ** 2.2
    assert (np.diff(linear @ (0.2126, 0.7152, 0.0722)) > 0).all()


def test_ink_on_a_colour_can_be_read(page):
    """Contrast by WCAG 2.2, of every cell that a matrix may have."""
    worst = page.evaluate(
        """async () => {
            const {colourAt, inkOn} = await import("/page/drawing/colours.js");
            const linear = share => share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
            const weights = [0.2126, 0.7152, 0.0722];
            const contrasts = Array.from({length: 256}, (_, at) => {
                const colour = colourAt("viridis", at / 255).map(Math.round);
                const light = weights.reduce((sum, weight, at) => sum + weight * linear(colour[at] / 255), 0);
                return inkOn(colour) === "black" ? (light + 0.05) / 0.05 : 1.05 / (light + 0.05);
            });
            return Math.min(...contrasts);
        }"""
    )
    assert 4.5 <= worst < 6


@pytest.mark.parametrize("limits", [(-0.1, 0.3), (0, 1), (-1, 1), (0.0001, 0.0042), (-0.255, 0.535), (0.3, 0.30001)])
def test_levels_are_few_round_and_inside(page, limits):
    levels = page.evaluate(
        """async range => (await import("/page/drawing/isolines.js")).levelsIn(range)""", list(limits)
    )
    assert 3 <= len(levels) <= 9
    assert all(limits[0] < level < limits[1] for level in levels)
    steps = np.diff(levels)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)
    mantissa = steps[0] / 10 ** math.floor(math.log10(steps[0]) + 1e-9)
    assert min(abs(mantissa - nice) for nice in (1, 2, 2.5, 5, 10)) < 1e-4


@pytest.mark.parametrize("limits", [(0.2, 0.2), (1, 0)])
def test_a_flat_map_has_no_levels(page, limits):
    assert (
        page.evaluate("""async range => (await import("/page/drawing/isolines.js")).levelsIn(range)""", list(limits))
        == []
    )
