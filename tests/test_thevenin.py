"""The change of variables at a tie, there and back."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from tieflow.common.ties.thevenin import source_voltage, tie_voltage


@given(st.integers(1, 4), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_the_tie_has_what_the_source_loses_to_its_impedance(conductors: int, periods: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    voltage, s = (rng.normal(size=(2, conductors, periods)) for _ in range(2))
    voltage, s = voltage[0] + 1j * voltage[1], s[0] + 1j * s[1]
    z = rng.normal(size=(conductors, conductors)) + 1j * rng.normal(size=(conductors, conductors))
    source = source_voltage(voltage, z, s)
    np.testing.assert_allclose(tie_voltage(source, z, s), voltage, atol=1e-12)
    np.testing.assert_allclose(tie_voltage(source, sp.csr_array(z), s), voltage, atol=1e-12)
    np.testing.assert_allclose(source - voltage, np.einsum("ij,jt->it", z, np.conj(s)), atol=1e-12)
    assert (source_voltage(voltage, z, 0 * s) == voltage).all()
