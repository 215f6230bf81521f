"""Figures as people write them: 12.3 ms, 1,234, 9.92×, 1.25 GB."""

from __future__ import annotations

import math
import re

from bench.record import Fidelity
from bench.record.statistics import Interval

__all__ = [
    "NOTHING",
    "bytes_text",
    "cosine_text",
    "difference_text",
    "fidelity_text",
    "interval_text",
    "number_text",
    "percent_text",
    "plain",
    "ratio_text",
    "seconds_interval",
    "seconds_text",
    "shortened",
]

NOTHING = "–"  # in a table, where there is no figure
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_DIGITS = 3
_SPACE = "\u00a0"  # between a number and its unit: no line ends there


def number_text(value: float) -> str:
    """Three digits, or all before the decimal point, with thousands separators."""
    if not math.isfinite(value):
        return NOTHING
    if value == 0:
        return "0"
    # Rounded first: 9.996 has as many digits before the point as 10.0.
    rounded = float(f"{value:.{_DIGITS - 1}e}")
    decimals = max(0, _DIGITS - 1 - math.floor(math.log10(abs(rounded))))
    return f"{value:,.{decimals}f}" if decimals < 7 else f"{value:.1e}"


def seconds_text(value: float) -> str:
    """µs, ms or s."""
    unit, factor = _second_unit(value)
    return f"{number_text(value * factor)}{_SPACE}{unit}"


def seconds_interval(interval: Interval) -> str:
    """The ends alone, in the unit of the figure: 9.81–10.02 ms."""
    unit, factor = _second_unit(interval.value)
    ends = interval_text(interval.times(factor))
    return f"{ends}{_SPACE}{unit}" if ends else ""


def _second_unit(value: float) -> tuple[str, float]:
    if value < 1e-3:
        return "µs", 1e6
    return ("ms", 1e3) if value < 1 else ("s", 1.0)


def ratio_text(value: float) -> str:
    """9.92×."""
    return f"{number_text(value)}×"


def percent_text(share: float) -> str:
    """43 %, 4.3 %."""
    return f"{share * 100:.0f}{_SPACE}%" if share >= 0.1 else f"{share * 100:.1f}{_SPACE}%"


def bytes_text(count: float) -> str:
    """MB and GB of 1000s, as the tools that sell memory count them."""
    return f"{number_text(count / 1e9)}{_SPACE}GB" if count >= 1e9 else f"{number_text(count / 1e6)}{_SPACE}MB"


def cosine_text(value: float) -> str:
    """Five decimals; a cosine a little above 1 is rounding."""
    return f"{min(value, 1.0):.5f}"


def difference_text(value: float) -> str:
    """3.1e-07, or 0."""
    return "0" if value == 0 else f"{value:.1e}"


def fidelity_text(fidelity: Fidelity) -> str:
    """Mean cosine 0.99581, centred 0.97312, regret 0.0041."""
    found = [f"mean cosine {cosine_text(fidelity.mean_cosine)}"]
    if fidelity.mean_centred_cosine is not None:
        found.append(f"centred {cosine_text(fidelity.mean_centred_cosine)}")
    if fidelity.neighbour_regret is not None:
        found.append(f"regret {fidelity.neighbour_regret:.4f}")
    return ", ".join(found)


def interval_text(interval: Interval) -> str:
    """The ends alone: 9.81–10.02; "" where one sample has no spread, as no interval is no narrow interval."""
    if interval.low == interval.high:
        return ""
    return f"{number_text(interval.low)}–{number_text(interval.high)}"


def plain(text: str) -> str:
    """Without what a terminal obeys and a page cannot hold; lines and all else stay."""
    return _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def shortened(text: str, length: int) -> str:
    """One line of at most `length` characters."""
    line = " ".join(plain(text).split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"
