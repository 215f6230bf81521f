"""What was measured with less, told in lines."""

from __future__ import annotations

from bench.record import MEASURED, OUT_OF_TIME, SKIPPED, Case, Contestant, Report, Row
from bench.record.cuts import cuts


def test_rounds_parts_and_who_was_left_out() -> None:
    rows = [
        Row("a", MEASURED, samples=[[1.0], [1.0]], part=0.1, part_items=64),
        Row("b", MEASURED, samples=[[1.0], [1.0]], part=0.2, part_items=128),
        Row("c", MEASURED, samples=[[1.0], [1.0]]),
        Row("d", SKIPPED, OUT_OF_TIME),
        Row("e", SKIPPED, "not installed: e"),
    ]
    case = Case("texts", "texts", "t", "texts", 1024, 0.0, "a", rows=rows)
    whole = Case("query", "query", "t", "texts", 1, 0.0, "a", rows=[Row("c", MEASURED, samples=[[1.0]] * 5)])
    report = Report(
        "", "", settings={"rounds": 5}, cases=[case, whole], contestants=[Contestant("d", "D & co", "peer")]
    )
    assert cuts(report) == ["texts: 2 of 5 rounds; 2 of 3 computed a part, 64 to 128 of 1,024 texts; left out: D & co"]
    report.not_begun = ["shapes-1x16", "loadgen"]
    assert cuts(report)[1:] == ["not begun: shapes-1x16, loadgen"]
    report.cases = [whole]
    report.not_begun = []
    assert cuts(report) == []
