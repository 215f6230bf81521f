"""What to do about a precision that misses."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["remedy"]

# Cause of `runtime.bundle.artifacts.LeftOut` → what to do.
_OF_INT8: Mapping[str, str] = {
    "fidelity": "Calibrate with more of your own data ({calibration})",
    "speed": "Floating point is as fast on this processor. Export on the one that will run it",
    "time": "Let the search take longer (--search-minutes)",
    "error": "Mend what the message says",
}
_OTHERS: Mapping[str, str] = {"error": "Mend what the message says"}
_CALIBRATION = {"text": "--calibration-text", "image": "--calibration-images"}
# Causes that a lower tier would help, and the tiers above the lowest, with the next below.
_TOO_STRICT = ("fidelity", "speed", "time")
_LOWER_TIERS = {"99.9": "99"}


def remedy(part: str, precision: str, tier: str | None, cause: str) -> str:
    """One sentence.

    Args:
        part: "text" or "image".
        precision: that misses.
        tier: that int8 had to hold; None of other precisions.
        cause: see `runtime.bundle.artifacts.LeftOut`.
    """
    known = _OF_INT8 if tier is not None else _OTHERS
    ways = [known[cause].format(calibration=_CALIBRATION[part])] if cause in known else []
    if tier in _LOWER_TIERS and cause in _TOO_STRICT:
        ways.append(f"ask for less with --tier {_LOWER_TIERS[tier]}")
    ways.append(f"leave {precision} out of --precision")
    sentence = ", or ".join(filter(None, (", ".join(ways[:-1]), ways[-1])))
    return f"{sentence[0].upper()}{sentence[1:]}."
