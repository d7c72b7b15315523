"""Curvature made convex: at least what it is, at least what it must be, and no more than scales make it."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from areas.curvature import convex, symmetric
from common.feeder import Floats


def random_forms(seed: int, n: int) -> tuple[Floats, Floats, Floats]:
    """A form of any sign, a positive semidefinite one, and scales."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(2, n, n))
    return symmetric(rng.normal(size=(2, n, n))), root @ root.transpose(0, 2, 1), 10.0 ** rng.uniform(-2, 0, n)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
@settings(max_examples=50)
def test_it_is_nowhere_below_the_form_nor_below_the_least(seed: int, n: int) -> None:
    form, least, scale = random_forms(seed, n)
    found = convex(form, least, scale)
    measured = scale[:, None] * scale
    for below in (form, least):
        assert np.linalg.eigvalsh((found - below) * measured).min() >= -1e-10 * np.abs(measured * found).max()


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
@settings(max_examples=50)
def test_a_form_that_is_above_the_least_stays_as_it_is(seed: int, n: int) -> None:
    _, least, scale = random_forms(seed, n)
    form = 2 * least + np.eye(n)
    np.testing.assert_allclose(convex(form, least, scale), form, rtol=1e-9, atol=1e-9 * np.abs(form).max())


def test_a_product_of_a_voltage_and_a_power_costs_voltages_and_hardly_powers() -> None:
    form = np.array([[[0.0, -1.0], [-1.0, 1.0]]])
    found = convex(form, np.zeros((1, 2, 2)), np.array([0.01, 1.0]))[0]
    assert found[1, 1] < 1.001
    # With nothing added to the power's, the voltage's must be 1.
    assert 0.99 < found[0, 0] < 1.01
