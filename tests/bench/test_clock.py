"""The time of a run."""

from __future__ import annotations

import math
import time

import pytest

from bench.clock import Clock


def test_time_is_shared_out_by_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    clock = Clock(10.0, 12.0)
    assert clock.share(2.0) == pytest.approx(100.0)
    now += 50.0  # half of it was enough, which the others gain
    assert clock.share(5.0) == pytest.approx(275.0)
    now += 600.0
    assert clock.share(5.0) < 0, "the time is up"
    assert Clock(None, 3.0).share(1.0) == math.inf
    assert math.isfinite(Clock(1.0, 0.0).share(0.0)), "nothing to be done"
