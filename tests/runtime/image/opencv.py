"""OpenCV's INTER_AREA written out pixel by pixel, and GLoRIA's own resizing around it.

Sources: OpenCV 4, `modules/imgproc/src/resize.cpp`; GLoRIA, `gloria/models/gloria_model.py` (`_resize_img`).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]
F = np.float32


def resize_area(image: Grey, size: tuple[int, int]) -> Grey:
    """cv2.resize(image, size, interpolation=cv2.INTER_AREA) of uint8 (height, width)."""
    (height, width), (new_width, new_height) = image.shape, size
    across, down = 1.0 / (new_width / width), 1.0 / (new_height / height)
    result = np.zeros((new_height, new_width), np.uint8)
    if across < 1 or down < 1:
        columns = [_two(index, across, width) for index in range(new_width)]
        rows = [_two(index, down, height) for index in range(new_height)]
        for y, (top, one, other) in enumerate(rows):
            for x, (left, first, second) in enumerate(columns):
                upper, lower = (
                    int(image[row, left]) * first + int(image[row, min(left + 1, width - 1)]) * second
                    for row in (top, min(top + 1, height - 1))
                )
                result[y, x] = (((one * (upper >> 4)) >> 16) + ((other * (lower >> 4)) >> 16) + 2) >> 2
        return result
    if across == int(across) and down == int(down):
        wide, high = int(across), int(down)
        for y in range(new_height):
            for x in range(new_width):
                total = int(image[y * high : (y + 1) * high, x * wide : (x + 1) * wide].sum())
                result[y, x] = (total + 2) >> 2 if (wide, high) == (2, 2) else _round(F(total) * F(1 / (wide * high)))
        return result
    columns_of = [_covered(index, across, width) for index in range(new_width)]
    for y in range(new_height):
        totals = [F(0)] * new_width
        for row, high_share in _covered(y, down, height):
            for x, covered in enumerate(columns_of):
                line = F(0)
                for column, share in covered:
                    line = F(line + F(F(image[row, column]) * share))
                totals[x] = F(totals[x] + F(high_share * line))
        for x, value in enumerate(totals):
            result[y, x] = _round(value)
    return result


def _covered(index: int, scale: float, old: int) -> list[tuple[int, np.float32]]:
    """Old pixels under a new one, and their shares."""
    start, end = index * scale, index * scale + scale
    cell = min(scale, old - start)
    last = min(math.floor(end), old - 1)
    first = min(math.ceil(start), last)
    found = []
    if first - start > 1e-3:
        found.append((first - 1, F((first - start) / cell)))
    for source in range(first, last):
        found.append((source, F(1.0 / cell)))
    if end - last > 1e-3:
        found.append((last, F(min(min(end - last, 1.0), cell) / cell)))
    return found


def _two(index: int, scale: float, old: int) -> tuple[int, int, int]:
    """The first of two neighbours, and the weights of both in 1/2048."""
    source = math.floor(index * scale)
    share = F((index + 1) - (source + 1) * (1.0 / scale))
    share = F(0) if share <= 0 else F(share - math.floor(share))
    if source >= old - 1:
        share, source = F(0), old - 1
    return source, round(float(F(F(1) - share) * F(2048))), round(float(share * F(2048)))


def _round(value: np.float32) -> int:
    return min(255, max(0, round(float(value))))  # halves to even, as the processor does


def resize_as_gloria(image: Grey, scale: int) -> Grey:
    """Longest side to `scale`, the rest black."""
    size = image.shape
    longest = max(size)
    if size.index(longest) == 0:
        factor = scale / float(size[0])
        wanted = (scale, int(float(size[1]) * float(factor)))
    else:
        factor = scale / float(size[1])
        wanted = (int(float(size[0]) * float(factor)), scale)
    resized = resize_area(image, (wanted[1], wanted[0])) if wanted != size else image
    pads = []
    for side in resized.shape:
        rest = scale - side
        pads.append((int(np.floor(rest / 2)), int(np.ceil(rest / 2))))
    return np.pad(resized, pads)
