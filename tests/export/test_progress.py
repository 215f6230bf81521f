"""Where an export is: lines in a log, one line that changes on a terminal."""

from __future__ import annotations

import io
import re

from rich.console import Console

from export.progress import Steps


def test_a_log_says_which_recipe_runs_and_how_much_time_is_left() -> None:
    out = io.StringIO()
    steps = Steps(Console(file=out, width=200))
    with steps.step("int8", limit="7 min left"), steps.substep("static int8", "recipe 2 of at most 8"):
        assert out.getvalue().endswith("  recipe 2 of at most 8, 7 min left: static int8 …\n")
    with steps.step("manifest"), steps.substep("files", "one of 2"):
        pass
    lines = out.getvalue().splitlines()
    assert re.sub(r"\d+\.\d s", "N s", "\n".join(lines)) == "\n".join(
        [
            "[1] int8 …",
            "  recipe 2 of at most 8, 7 min left: static int8 …",
            "  static int8: N s",
            "[1] int8: N s",
            "[2] manifest …",
            "  one of 2: files …",
            "  files: N s",
            "[2] manifest: N s",
        ]
    )


def test_a_terminal_shows_it_while_it_runs_and_counts_down() -> None:
    class Limit:
        seconds = 120

        def __str__(self) -> str:
            return f"{self.seconds} s left"

    out, limit = io.StringIO(), Limit()
    steps = Steps(Console(file=out, force_terminal=True, width=160))
    with steps.step("int8", limit) as advance:
        with steps.substep("static int8", "recipe 2 of at most 8"):
            advance(0.1)
        limit.seconds = 119
        with steps.substep("blocks", "recipe 3 of at most 8"):
            pass
    with steps.step("manifest"):
        pass
    printed = out.getvalue()
    shown = {(place, left) for place, left in re.findall(r"\[1\] int8, (recipe \d).*?(\d+ s left)", printed)}
    assert {("recipe 2", "120 s left"), ("recipe 3", "119 s left")} <= shown
    assert ": static int8 …" not in printed
    assert re.search(r"\[2\] manifest .*", printed)
    assert "left" not in printed.split("[2] manifest", 1)[1]
