"""Where a study's devices go: buses by name, or found by a rule; never moved in silence."""

from __future__ import annotations

from collections import Counter

import numpy as np

from tieflow.common.case import Case
from tieflow.common.errors import CaseError, did_you_mean
from tieflow.common.feeder.multiphase import GROUND, connection, path_impedance
from tieflow.common.inputs.devices import Device
from tieflow.launch.studies.file import Place


def check_bus(case: Case, bus: str, where: str) -> str:
    """The bus, if the feeder has it. Raises CaseError saying ``where`` in the study file it was asked for."""
    known = case.feeder.own_buses
    if bus in known:
        return bus
    lower = {name.lower(): name for name in known}
    near = f" Did you mean '{lower[bus.lower()]}'?" if bus.lower() in lower else did_you_mean(bus, known)
    raise CaseError(f"{where}: the feeder of case {case.name} has no bus '{bus}'.{near} Name one that it has.")


def three_phase_primary(case: Case) -> list[str]:
    """Buses that the rule of the same name chooses from, nearest to the substation first.

    Multi-phase: energized buses with phases 1, 2 and 3 at the primary voltage, the one that most such buses have;
    balanced: all but the substation's. Distance is the magnitude of the path's impedance; of two buses at the same,
    the first along the feeder comes first.
    """
    if case.is_balanced:
        away = np.hypot(*case.balanced_feeder.path_impedance())
        return [case.balanced_feeder.buses[i] for i in np.argsort(away[1:], kind="stable") + 1]
    feeder = case.multiphase_feeder
    away = np.abs(path_impedance(feeder))
    volts: dict[int, float] = {}
    for bus in range(1, len(feeder.buses)):
        nodes = np.flatnonzero(feeder.node_bus == bus)
        if feeder.node_phase[nodes].tolist() == [1, 2, 3] and feeder.limited[nodes].all():
            volts[bus] = round(float(feeder.v_base[nodes[0]]), 3)
    if not volts:
        raise CaseError(f"case {case.name} has no three-phase bus to place a device at. Give the device a bus.")
    primary = Counter(volts.values()).most_common(1)[0][0]
    chosen = [bus for bus, v in volts.items() if v == primary]
    return [feeder.buses[bus] for bus in sorted(chosen, key=lambda bus: (round(float(away[bus]), 12), bus))]


def placed_bus(case: Case, place: Place) -> tuple[str, str]:
    """The bus at a fraction of the rule's list, and words for it: 0 is the first, 1 the last, halves go up."""
    buses = three_phase_primary(case)
    position = int(np.floor(place.distance * (len(buses) - 1) + 0.5))
    return buses[position], f"rule: {position + 1} of {len(buses)} three-phase buses by distance ({place.distance:g})"


def shown_phases(case: Case, unit: Device, where: str) -> str:
    """The phases of a device as OpenDSS numbers them. Raises CaseError for phases that its bus lacks."""
    if case.is_balanced:
        return ""
    try:
        a, b = connection(case.multiphase_feeder, unit.bus, unit.phases)
    except CaseError as error:
        raise CaseError(f"{where}: {error}") from None
    phase = case.multiphase_feeder.node_phase
    return f"{phase[a[0]]}-{phase[b[0]]}" if b[0] != GROUND else ".".join(str(phase[i]) for i in a)
