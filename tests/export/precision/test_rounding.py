"""Rounding to int8: grids, and that compensation lowers the error of the layer's output."""

from __future__ import annotations

import numpy as np
import pytest

from export.precision.rounding import int8_scales, round_to_nearest, round_weights


@pytest.fixture
def layer() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(512, 64)) @ generator.normal(size=(64, 64))  # correlated, as activations are
    return inputs.astype(np.float32), generator.normal(size=(64, 24)).astype(np.float32)


@pytest.mark.parametrize("block", [None, 16, 32])
def test_weights_lie_on_their_grid(layer, block):
    _, weight = layer
    scales = int8_scales(weight, block)
    assert scales.shape == (64 // (block or 64), 24)
    rounded = round_to_nearest(weight, scales)
    spread = np.repeat(scales, block or 64, axis=0)
    assert rounded.dtype == np.int8
    assert np.abs(rounded.astype(int)).max() == 127
    assert np.all(np.abs(rounded * spread - weight) <= spread / 2 + 1e-6)


@pytest.mark.parametrize("block", [None, 16])
def test_compensation_lowers_the_output_error(layer, block):
    inputs, weight = layer
    scales = int8_scales(weight, block)
    spread = np.repeat(scales, block or 64, axis=0)
    moments = inputs.astype(np.float64).T @ inputs
    errors = [
        np.square(inputs @ (rounded * spread) - inputs @ weight).sum()
        for rounded in (round_weights(weight, scales, moments), round_to_nearest(weight, scales))
    ]
    assert errors[0] < 0.6 * errors[1]


def test_inputs_that_never_occur_are_rounded_as_they_are():
    weight = np.random.default_rng(1).normal(size=(8, 4)).astype(np.float32)
    scales = int8_scales(weight)
    assert np.array_equal(round_weights(weight, scales, np.zeros((8, 8))), round_to_nearest(weight, scales))


def test_a_channel_of_zeros_has_a_scale():
    assert np.array_equal(int8_scales(np.zeros((4, 2), np.float32)), np.ones((1, 2), np.float32))
