"""Memory that files of radiographs leave is kept for the next ones."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_PAGES = """
import resource, sys
import numpy as np
from runtime.process.heap import expect_large_blocks

def work():
    blocks = [np.ones(5_000_000, np.uint8) for _ in range(3)]

if sys.argv[1] == "expected":
    expect_large_blocks()
for _ in range(3):
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have other rules")
def test_blocks_are_not_fetched_from_the_system_again() -> None:
    plain, expected = (
        int(subprocess.run([sys.executable, "-c", _PAGES, said], capture_output=True, check=True, text=True).stdout)
        for said in ("plain", "expected")
    )
    assert plain > 1000, "or there would be nothing to gain"
    assert expected < plain / 10
