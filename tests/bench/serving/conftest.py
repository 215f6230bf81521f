"""A setting of the tiny bundle behind the small server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.serving.setting import Setting
from tests.conftest import System

SMALL = str(Path(__file__).with_name("tiny_server.py"))


@pytest.fixture
def setting(tiny: System, tmp_path: Path) -> Callable[..., Setting]:
    """Makes a setting of short loads; options go to the small server."""

    def make(*options: str, **fields: object) -> Setting:
        given = {"seconds": 0.6, "rounds": 2, "texts": 24, "provider": "cpu", "precision": "fp32", "threads": 1}
        return Setting(
            **{
                "bundle": tiny.bundle,
                "work": tmp_path,
                "program": [SMALL],
                "server_options": options,
                **given,
                **fields,
            }
        )

    return make
