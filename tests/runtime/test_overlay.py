"""The picture says what the map says: red where it is similar, blue where it is not, the film where it is neither."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.overlay import draw_overlay


@pytest.mark.parametrize(("height", "width"), [(400, 300), (120, 1477), (900, 300)])
def test_colours_lie_where_the_map_has_them(tmp_path: Path, height: int, width: int) -> None:
    film = Image.fromarray(np.full((height, width), 90, dtype=np.uint8))
    similarity = np.full((height, width), np.nan, dtype=np.float32)
    side = min(height, width) - 20
    top, left = (height - side) // 2, (width - side) // 2
    similarity[top : top + side, left : left + side] = 0.0
    similarity[top : top + side // 2, left : left + side // 2] = 0.4
    similarity[top + side // 2 : top + side, left + side // 2 : left + side] = -0.4
    out = tmp_path / "picture.png"
    draw_overlay(film, similarity, "costs $5 & a phrase_with^specials " * 6, 0.25, out, "note")
    picture = np.asarray(Image.open(out).convert("RGB")).astype(int)
    # The colour bar on the right holds every colour: look at the film only.
    picture = picture[:, : int(picture.shape[1] * 0.9)]
    red = np.argwhere(picture[..., 0] > picture[..., 2] + 60)
    blue = np.argwhere(picture[..., 2] > picture[..., 0] + 60)
    footer = picture.shape[0] - 70
    red = red[red[:, 0] < footer]  # the note below is orange
    assert len(red) > 100
    assert len(blue) > 100
    assert (red.mean(axis=0) < blue.mean(axis=0)).all(), "red is up and left of blue"
    assert abs(len(red) / len(blue) - 1) < 0.25
    grey = (np.abs(picture - 90) <= 2).all(axis=-1)
    assert grey.sum() > len(red), "where there is no similarity the film shows unchanged"
