"""The time of a run."""

from __future__ import annotations

import math
import time

import pytest

from bench.measuring.clock import Clock


def test_time_is_shared_out_by_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    clock = Clock(100.0, 10.0)
    clock.expect(8.0)
    clock.expect(4.0)
    assert clock.share(2.0) == pytest.approx(100.0)
    now += 50.0  # half of it was enough, which the others gain
    assert clock.share(5.0) == pytest.approx(275.0)
    assert not clock.up
    now += 600.0
    assert clock.up
    assert clock.share(5.0) < 0
    endless = Clock(100.0, None)
    endless.expect(1.0)
    assert endless.share(1.0) == endless.share(0.0) == math.inf
    assert not endless.up
    assert math.isfinite(Clock(100.0, 1.0).share(0.0)), "nothing to be done"
