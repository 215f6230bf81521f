"""The metrics of phrase grounding against cases written out by hand, torch and scikit-learn; score and map at once."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from scipy import ndimage
from sklearn.metrics import jaccard_score

import runtime
from export.samples import chest_phantom
from runtime.image.resizing import seen_square
from runtime.tasks.grounding import (
    THRESHOLDS,
    Box,
    box_mask,
    contrast_to_noise,
    intersection_over_union,
    pointing_game,
    score_grounding,
)
from runtime.tasks.joint import map_to_image
from tests.runtime.handmade import fp32, write_bundle
from tests.runtime.parts import grey_rule

NAN = math.nan
# Columns 2 and 3 of the two rows in the middle are the box; the last column is outside the crop.
MAP = np.array(
    [
        [0.0, 0.2, 0.0, 0.2, NAN],
        [0.0, 0.2, 0.4, 0.6, NAN],
        [0.0, 0.2, 0.8, 0.6, NAN],
        [0.0, 0.2, 0.0, 0.2, NAN],
    ],
    dtype=np.float32,
)
BOX = Box(2, 1, 2, 2)


def random_case(seed: int) -> tuple[np.ndarray, list[Box]]:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(20, 90, 2)
    values = rng.normal(0.2, 0.2, (height, width)).astype(np.float32)
    values[:, : rng.integers(1, 5)] = NAN
    corners = rng.integers(0, (width - 8, height - 8), (3, 2))
    return values, [Box(*map(int, (*corner, *rng.integers(3, 8, 2)))) for corner in corners]


def test_the_case_written_out() -> None:
    """Inside 0.4, 0.6, 0.8, 0.6: mean 0.6, variance 0.02. Outside six times 0 and six times 0.2: 0.1 and 0.01."""
    scores = score_grounding(MAP, [BOX])
    assert scores.cnr == pytest.approx(0.5 / math.sqrt(0.03), rel=1e-6)
    assert scores.absolute_cnr == scores.cnr
    # Above 0.1: the box and the six 0.2; above 0.2 to 0.3: the box, above 0.4 and 0.5: three pixels of it.
    assert scores.ious == pytest.approx((4 / 10, 1, 1, 3 / 4, 3 / 4))
    assert scores.miou == pytest.approx(0.78)
    assert scores.pointing == 1.0


def test_the_sign_says_whether_the_map_is_higher_or_lower_inside() -> None:
    scores, lower = score_grounding(MAP, [BOX]), score_grounding(-MAP, [BOX])
    assert lower.cnr == -scores.cnr
    assert lower.absolute_cnr == scores.absolute_cnr > 0
    assert lower.pointing == 0.0


@pytest.mark.parametrize("seed", range(8))
def test_the_ratio_is_that_of_torch(seed: int) -> None:
    values, boxes = random_case(seed)
    inside = torch.zeros(values.shape, dtype=torch.bool)
    for box in boxes:
        inside[int(box.y) : int(box.y + box.height), int(box.x) : int(box.x + box.width)] = True
    given = torch.tensor(values, dtype=torch.float64)
    seen = ~given.isnan()
    a, b = given[inside & seen], given[~inside & seen]
    expected = (a.mean() - b.mean()) / (a.var(unbiased=False) + b.var(unbiased=False)).sqrt()
    assert score_grounding(values, boxes).cnr == pytest.approx(expected.item(), rel=1e-9)
    sample_variance = (a.mean() - b.mean()) / (a.var() + b.var()).sqrt()
    assert score_grounding(values, boxes).cnr != pytest.approx(sample_variance.item(), rel=1e-6), "negative control"


@pytest.mark.parametrize("seed", range(8))
def test_the_intersection_over_union_is_scikit_learns(seed: int) -> None:
    values, boxes = random_case(seed)
    canvas = Image.new("1", values.shape[::-1])
    for box in boxes:
        ImageDraw.Draw(canvas).rectangle((box.x, box.y, box.x + box.width - 1, box.y + box.height - 1), fill=1)
    seen = np.isfinite(values)
    truth = np.asarray(canvas)[seen]
    expected = [jaccard_score(truth, values[seen] > threshold) for threshold in THRESHOLDS]
    scores = score_grounding(values, boxes)
    assert scores.ious == pytest.approx(expected, rel=1e-12)
    assert scores.miou == pytest.approx(np.mean(expected))


def test_what_the_model_does_not_see_counts_for_nothing() -> None:
    beyond = [BOX, Box(4, 0, 1, 4)]
    assert score_grounding(MAP, beyond) == score_grounding(MAP, [BOX])
    unseen = score_grounding(MAP, [Box(4, 0, 1, 4)])
    assert all(map(math.isnan, (unseen.cnr, unseen.miou, unseen.pointing)))


def test_overlapping_boxes_count_once() -> None:
    assert score_grounding(MAP, [BOX, Box(2, 1, 2, 1), Box(3, 1, 1, 2)]) == score_grounding(MAP, [BOX])
    assert score_grounding(MAP, [Box(2, 1, 2, 1), Box(2, 2, 2, 1)]) == score_grounding(MAP, [BOX])


def test_figures_that_are_not_defined() -> None:
    everything = np.ones((2, 3), dtype=bool)
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert math.isnan(contrast_to_noise(values, everything)), "nothing outside"
    assert math.isnan(contrast_to_noise(values, ~everything)), "nothing inside"
    assert math.isnan(intersection_over_union(values, ~everything, 0.1))
    assert math.isnan(pointing_game(values, ~everything))
    assert intersection_over_union(values * 0, everything, 0.1) == 0.0, "nothing found is a miss"


def test_a_constant_map_has_no_contrast_and_scores_chance() -> None:
    """The mean of a million times 0.1 is not 0.1: what rounding leaves must not become a ratio of about 1."""
    values = np.full((1000, 1000), 0.1, dtype=np.float32)
    mask = box_mask([Box(0, 0, 500, 300)], values.shape)
    assert contrast_to_noise(values, mask) == 0.0
    assert pointing_game(values, mask) == 0.15
    values[mask] = 0.2
    assert contrast_to_noise(values, mask) == math.inf
    assert contrast_to_noise(-values, mask) == -math.inf


def test_a_strongest_patch_on_the_edge_of_a_box_counts_by_its_share() -> None:
    values = np.zeros((8, 8), dtype=np.float32)
    values[2:6, 2:6] = 0.5
    assert pointing_game(values, box_mask([Box(0, 0, 3, 8)], (8, 8))) == 0.25
    values[5, 5] = 0.6
    assert pointing_game(values, box_mask([Box(5, 5, 1, 1)], (8, 8))) == 1.0


def test_pixels_belong_to_a_box_by_their_centre() -> None:
    assert np.argwhere(box_mask([Box(1, 0, 2, 1)], (2, 4))).tolist() == [[0, 1], [0, 2]]
    assert np.argwhere(box_mask([Box(0.6, 0.4, 1, 1)], (2, 4))).tolist() == [[0, 1]]
    assert np.argwhere(box_mask([Box(0.4, 0.6, 1, 1)], (2, 4))).tolist() == [[1, 0]]
    assert not box_mask([Box(0.6, 0, 0.3, 1)], (2, 4)).any()


def test_boxes_are_cut_at_the_image() -> None:
    assert Box(1, 1, 2, 2).clipped((3, 3)) == Box(1, 1, 2, 2)
    assert Box(-1, -2, 3, 30).clipped((5, 4)) == Box(0, 0, 2, 4)
    for outside in (Box(5, 0, 1, 1), Box(0, 4, 1, 1), Box(-2, 0, 2, 1), Box(0, -1, 1, 1)):
        assert outside.clipped((5, 4)) is None
        assert not box_mask([outside], (4, 5)).any()
    assert np.array_equal(box_mask([Box(-1, -2, 3, 30)], (4, 5)), box_mask([Box(0, 0, 2, 4)], (4, 5)))


def test_boxes_are_scaled_with_their_image() -> None:
    assert Box(10, 20, 30, 40).scaled(0.5, 2) == Box(5, 40, 15, 80)


@pytest.mark.parametrize("values", [(0, 0, 0, 1), (0, 0, 1, 0), (0, 0, -1, 1), (NAN, 0, 1, 1), (0, 0, math.inf, 1)])
def test_boxes_without_area_are_refused(values: tuple[float, ...]) -> None:
    with pytest.raises(runtime.InputError, match=r"no area|not finite"):
        Box(*values)


def test_wrong_arguments() -> None:
    with pytest.raises(runtime.InputError, match="list of boxes is empty"):
        score_grounding(MAP, [])
    with pytest.raises(runtime.InputError, match=r"shape \(20,\)"):
        score_grounding(MAP.ravel(), [BOX])


# --- score and map from one run ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> runtime.Engine:
    bundle = write_bundle(tmp_path_factory.mktemp("grounding") / "bundle", [fp32()], [fp32()])
    return runtime.load(bundle, provider="cpu")


def test_ground_gives_what_score_and_map_give_alone(engine: runtime.Engine) -> None:
    film = chest_phantom(150, 181, 3)
    found = engine.ground(film, "left opacity")
    patches = engine.image.encode_patches(film)[0]
    text = engine.text.encode("left opacity")[0]
    assert found.score == pytest.approx(engine.similarity(film, "left opacity"), abs=1e-6)
    assert found.score == pytest.approx(float(engine.image.encode(film)[0] @ text), abs=1e-6)
    assert found.patches.shape == (3, 3)
    assert np.abs(found.patches - ndimage.gaussian_filter(patches @ text, 1.5)).max() < 1e-6
    assert found.similarity_map[75, 90] == found.patches[1, 1]
    assert np.array_equal(found.similarity_map, engine.similarity_map(film, "left opacity"), equal_nan=True)


def test_several_phrases_are_answered_by_one_run(engine: runtime.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    film, phrases = chest_phantom(150, 130, 1), ["left opacity", "small effusion", "clear lungs"]
    alone = [engine.ground(film, phrase) for phrase in phrases]
    session = engine.image._sessions.single
    runs: list[list[str]] = []

    class Counted:
        def run(self, outputs, inputs):
            runs.append(list(outputs))
            return session.run(outputs, inputs)

    monkeypatch.setattr(engine.image._sessions, "_single", Counted())
    together = engine.ground_phrases(film, phrases)
    assert runs == [["image_embeds", "patch_embeds"]]
    for found, expected in zip(together, alone, strict=True):
        assert found.score == pytest.approx(expected.score, abs=1e-6)
        assert np.allclose(found.similarity_map, expected.similarity_map, atol=1e-6, equal_nan=True)
    assert len({round(found.score, 4) for found in together}) == 3


@pytest.mark.parametrize("size", [(512, 512), (1477, 1198), (333, 500), (17, 33), (120, 1477)])
def test_the_box_that_is_seen_is_where_the_map_is(size: tuple[int, int]) -> None:
    values = map_to_image(np.ones((15, 15), dtype=np.float32), size, seen_square(grey_rule(512, 480), size))
    assert np.array_equal(box_mask([Box(*seen_square(grey_rule(512, 480), size))], values.shape), np.isfinite(values))


def test_what_cannot_be_grounded(engine: runtime.Engine, tmp_path: Path) -> None:
    film = chest_phantom(150, 130, 1)
    with pytest.raises(runtime.InputError, match="list came where one phrase"):
        engine.ground(film, ["x"])  # type: ignore[arg-type]
    with pytest.raises(runtime.InputError, match="list of texts is empty"):
        engine.ground_phrases(film, [])
    with pytest.raises(runtime.InputError, match="2 images came where one"):
        engine.ground([film, film], "x")  # type: ignore[arg-type]
    with pytest.raises(runtime.InputError, match=r"nowhere\.png"):
        engine.ground(tmp_path / "nowhere.png", "x")
    with pytest.raises(runtime.InputError, match="2 × 1 pixels: too few"):
        engine.ground(np.array([[0, 255]], dtype=np.uint8), "x")
