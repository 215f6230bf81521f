"""An archive in an order of which every beginning stands for the whole, so that the slow may compute a part of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

__all__ = ["LEAST", "in_parts"]

# Texts of the least part; each further one has twice as many.
LEAST = 64
# Texts of about the same length that stay together: those who sort by length and compute so many at a time, as tuned
# peers do, then pad a part no more than they would pad the whole.
_NEIGHBOURS = 8


def in_parts(texts: Sequence[str], rows: Sequence[Sequence[int]], seed: int) -> tuple[list[str], Mapping[int, float]]:
    """Order texts and say how much of the work their beginnings are.

    Sorted by length and cut into groups of neighbours, of which each part takes evenly many from short to long; within
    what a part adds to the one before, the order is random, as it is in archives.

    Args:
        texts: N.
        rows: their tokens.
        seed: of the order.

    Returns:
        The texts, and for 64, 128, 256, … and N texts the share that their tokens are of all; equal texts count once.
        Fewer than 128 texts are not divided: there are no parts.
    """
    count = len(texts)
    if count < 2 * LEAST:
        return list(texts), {}
    by_length = np.argsort([len(row) for row in rows], kind="stable")
    groups = [by_length[start : start + _NEIGHBOURS] for start in range(0, count, _NEIGHBOURS)]
    bits = (len(groups) - 1).bit_length()
    order = np.concatenate([groups[at] for at in sorted(range(len(groups)), key=lambda at: _turn(at, bits))])
    sizes = [size for size in (LEAST << power for power in range(count.bit_length())) if size < count] + [count]
    rng = np.random.default_rng(seed)
    for start, end in zip([0, *sizes], sizes, strict=False):
        order[start:end] = rng.permutation(order[start:end])
    work = {size: sum(map(len, {tuple(rows[at]) for at in order[:size]})) for size in sizes}
    return [texts[at] for at in order], {size: work[size] / work[count] for size in sizes}


def _turn(group: int, bits: int) -> int:
    """When a group's turn comes: the middle of each eighth first, then one end of each, and so on.

    The ends are the long one and the short one in turn, or every part would be shorter than the whole.
    """
    eighth = 1 << max(bits - (LEAST // _NEIGHBOURS - 1).bit_length(), 0)
    stratum, place = divmod(group, eighth)
    place = place if stratum % 2 else eighth - 1 - place
    turned = stratum * eighth + (place ^ (eighth >> 1))
    return int(f"{turned:0{bits}b}"[::-1], 2)
