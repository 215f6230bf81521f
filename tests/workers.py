"""How pytest-xdist deals the suite out: a file to a worker, files that share what is costly to make to one.

Those that take longest come first, so that no worker ends long after the others.
"""

from __future__ import annotations

from typing import Any

import pytest

# Each of these goes to one worker as a whole, in this order; all other files follow, as they are collected. A file that
# is named goes there, rather than where its folder is.
TOGETHER = (
    ("tests/trained/",),
    ("tests/test_full_size.py", "tests/bench/peers/test_image_peers.py", "tests/test_readme.py"),
    ("tests/trained/test_clip.py",),
    ("tests/trained/test_mean_pooling.py",),
    ("tests/export/precision/test_minilm.py",),
    ("tests/test_nothing_leaves.py",),
    ("tests/bench/test_cli.py",),
    ("tests/export/precision/test_lower.py",),
    ("tests/export/test_build.py",),
    ("tests/export/graphs/test_fill_mask.py", "tests/export/graphs/test_packing.py"),
    ("tests/test_streams.py",),
    ("tests/test_no_home.py",),
    ("tests/export/precision/test_int8_image.py", "tests/export/precision/test_int8_image_files.py"),
)


def group(nodeid: str) -> tuple[int, str]:
    """The rank of a test's group and its name."""
    path = nodeid.partition("::")[0]
    fitting = [
        (len(place), rank, together[0])
        for rank, together in enumerate(TOGETHER)
        for place in together
        if path.startswith(place)
    ]
    _, rank, name = max(fitting, default=(0, len(TOGETHER), path))
    return rank, name


def order(items: list[pytest.Item]) -> None:
    """Sort a worker's tests: they are dealt out in this order."""
    items.sort(key=lambda item: group(item.nodeid)[0])


def make_scheduler(config: pytest.Config, log: Any) -> Any:
    """What deals groups out; for the hook `pytest_xdist_make_scheduler`."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)[1]

    config.option.loadscopereorder = False  # in the order of `order`, not by the number of tests
    return Groups(config, log)


def sendable(report: Any) -> Any:
    """A test's report as the other process can read it: what was printed may hold names that are no Unicode."""
    if isinstance(report, str):
        return report.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(report, dict):
        return {sendable(key): sendable(value) for key, value in report.items()}
    if isinstance(report, (list, tuple)):
        return (tuple if isinstance(report, tuple) else list)(map(sendable, report))
    return report
