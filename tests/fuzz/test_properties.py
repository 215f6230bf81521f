"""A few inputs of each property with the suite; `make fuzz` tries more."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz.found import found
from tests.fuzz.properties import find_properties

_PROPERTIES = find_properties()
_EXAMPLES = 60


@pytest.mark.parametrize("name", _PROPERTIES)
def test_property(name: str) -> None:
    suite = settings(
        max_examples=_EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    suite(given(_PROPERTIES[name].inputs())(_PROPERTIES[name].check))()


@pytest.mark.parametrize("name", [name for name, each in _PROPERTIES.items() if each.strategy is None])
def test_seeds_are_read(name: str) -> None:
    """Without a change they are files that can be used, or mutations of them would test nothing but refusals."""
    for seed in _PROPERTIES[name].seeds():
        assert _PROPERTIES[name].check(seed) is None


@pytest.mark.parametrize(("name", "data"), found())
def test_what_was_found(name: str, data: object) -> None:
    _PROPERTIES[name].check(data)
