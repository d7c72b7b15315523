"""The PV systems and batteries of an OpenDSS model as rows of a case."""

from __future__ import annotations

from pydantic import ValidationError

from tieflow.common.circuit.text import Record, bus_of, nodes_of
from tieflow.common.errors import CaseError
from tieflow.common.inputs.devices import PV, Battery
from tieflow.common.inputs.tables import explain


def pv_row(record: Record, notes: list[str]) -> PV | None:
    """A PVSystem; ``notes`` gets what the row cannot say. None if it can give no power."""
    name = f"pvsystem.{record['Name']}"
    # Irradiance is the peak of the profile: OpenDSS multiplies the two.
    limits = {
        "%Pmpp": record["Pmpp"] * record["pctPmpp"] / 100,
        "kVA": record["kVA"],
    }
    peak = record["Pmpp"] * record["Irradiance"]
    key = min(limits, key=lambda limit: limits[limit])
    if peak > limits[key]:
        notes.append(f"{name}: {peak:g} kW is more than its {key} allows; taken as {limits[key]:g} kW.")
    rated = min(peak, limits[key])
    if rated <= 0:
        notes.append(f"{name} is left out: its rated power is 0 (Pmpp times irradiance).")
        return None
    if record["PTCurve"] or record["EffCurve"]:
        notes.append(f"{name}: its temperature and efficiency curves are left out; it is rated as at 1 pu of both.")
    try:
        return PV(
            name=record["Name"],
            bus=bus_of(record["Bus1"]),
            p_rated_kw=rated,
            s_rated_kva=record["kVA"],
            phases=_phases(name, record, notes),
            profile=record["Daily"] or "",
        )
    except ValidationError as error:
        raise CaseError(f"{name}: {explain(error)} Change or disable it in the model.") from None


def battery_row(record: Record, notes: list[str]) -> Battery | None:
    """A Storage element; ``notes`` gets what the row cannot say. None if it can store or give no power."""
    name = f"storage.{record['Name']}"
    rated, kva = record["kWRated"], record["kVA"]
    if min(rated, kva, record["kWhRated"]) <= 0:
        notes.append(f"{name} is left out: its rated power or energy is 0.")
        return None
    if rated > kva:
        notes.append(f"{name}: {rated:g} kW is more than its kVA allows; taken as {kva:g} kW.")
    reserve, stored = record["pctReserve"] / 100, record["pctStored"] / 100
    initial = min(max(stored, reserve), 1.0)
    if initial != stored:
        notes.append(f"{name}: stored energy of {stored:.0%} is outside its limits; taken as {initial:.0%}.")
    if record["pctIdlingkW"] > 0:
        notes.append(f"{name}: its idling losses of {record['pctIdlingkW']:g} % are left out.")
    try:
        return Battery(
            name=record["Name"],
            bus=bus_of(record["Bus1"]),
            p_rated_kw=min(rated, kva),
            s_rated_kva=kva,
            energy_kwh=record["kWhRated"],
            eta_charge=record["pctEffCharge"] / 100,
            eta_discharge=record["pctEffDischarge"] / 100,
            soc_min=reserve,
            soc_max=1.0,
            soc_initial=initial,
            phases=_phases(name, record, notes),
        )
    except ValidationError as error:
        raise CaseError(f"{name}: {explain(error)} Change or disable it in the model.") from None


def _phases(name: str, record: Record, notes: list[str]) -> str:
    count, delta = record["Phases"], record["Conn"] == "delta"
    nodes = nodes_of(record["Bus1"], count)
    # A single-phase device has two conductors, whatever its connection is called.
    second = nodes[1] if len(nodes) > 1 else 0
    if count == 1:
        return f"{nodes[0]}-{second}" if second else str(nodes[0])
    if delta and count == 2:
        raise CaseError(
            f"{name}: an open-delta device cannot be carried. Give it as two single-phase devices, each between two "
            "phases, or disable it."
        )
    if delta or any(nodes[count:]):
        kind = "delta" if delta else "wye with a neutral of its own"
        notes.append(f"{name} is connected in {kind}; here it feeds each phase to ground alike.")
    return ".".join(str(node) for node in nodes[:count])
