"""The boundary voltage of a tie, in the one change of variables that all areas and methods share.

Seen from a tie, the feeder above it is nearly a source behind an impedance Z (Thevenin). The source's voltage, what V
would be if no power s = p + jq went through the tie, hardly moves for the parent when the power does:

    multi-phase:  w + j a = ln(V / V_no_load) + Z conj(s), over the tie's conductors
    balanced:     w = v + 2 Re(Z conj(s)), v the squared voltage of the split bus
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tieflow.common.arrays import Complexes


def source_voltage(voltage: Complexes, z: Any, s: Complexes) -> Complexes:
    """(conductor, T) w + j a from the logarithm of the voltage; ``z`` (conductor, conductor), dense or sparse."""
    found: Complexes = voltage + z @ np.conj(s)
    return found


def tie_voltage(source: Complexes, z: Any, s: Complexes) -> Complexes:
    """The inverse: what of the source's voltage is left at the tie. Of squared voltages where z is twice the
    impedance, the real part."""
    found: Complexes = source - z @ np.conj(s)
    return found
