"""A multi-phase feeder from a circuit that OpenDSS has compiled: the engine's own admittances, loads and sources.

Refuses what the model cannot carry, by name: loops, islands with load, load to ground behind an ungrounded secondary,
conductors that float, and elements of any other class that carries power.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from opendssdirect import DSSException, dss

from tieflow.common.arrays import Bools, Complexes, Floats
from tieflow.common.circuit.engine import POWERLESS, active_is_open, bus_table, name_list
from tieflow.common.circuit.loads import Node, read_legs, refuse_powers
from tieflow.common.circuit.shapes import shape_values
from tieflow.common.errors import CaseError, SolverError
from tieflow.common.feeder.multiphase import GROUND, Element, MultiphaseFeeder
from tieflow.common.feeder.power_flow import PowerFlow, alike_branches, tableau, two_ports

BRANCH_CLASSES = ("line", "transformer", "autotrans", "reactor", "capacitor")
_ELSEWHERE = {"load", "generator", *(kind.lower() for kind in POWERLESS)}
"""classes that make no branches and no shunts"""
SOURCE = "(source)"
"""name of bus 0, the ideal source behind the source impedance"""
SWITCH_OHM = 2e-3
"""largest series impedance of a line that counts as a switch, besides those that OpenDSS calls one: its own switches
have 1 + 1j mOhm unless they are given another"""
UNGROUNDED = 1e5
"""ratio of phase-to-phase to phase-to-ground admittance above which a secondary counts as ungrounded"""
FLOATING_PU = 1e9
"""voltage that currents of about 1 pu into every node cause where nothing but rounding ties a node to ground"""
MOST_SIEMENS = 1e15
"""of an element: OpenDSS's own switches have a thousand"""
MOST_PU = 10.0
"""no feeder has such voltage without load"""
KM_PER_UNIT = (np.nan, 1.609344, 0.3048, 1.0, 1e-3, 0.3048e-3, 0.0254e-3, 1e-5, 1e-6)
"""by OpenDSS's number of a unit of length: none, mi, kft, km, m, ft, in, cm, mm"""
_TABLES = {"pvsystem": "pv.csv", "storage": "batteries.csv"}
"""where tieflow has what OpenDSS models by an element of the class"""


@dataclass(frozen=True)
class _Read:
    """An element as the engine has it."""

    name: str
    nodes: tuple[Node, ...]
    """(conductor,) ground included: the node number is 0 there"""
    y: Sequence[float]
    """the primitive admittance matrix in siemens, column by column, real and imaginary parts in turn"""
    is_switch: bool | None
    """None: its impedance tells"""
    length_km: float
    """of a line, NaN without a unit; else 0"""


@dataclass(frozen=True)
class _Raw:
    """An element by the names of its nodes, admittance in siemens."""

    name: str
    nodes: tuple[Node, ...]
    y: Complexes
    is_switch: bool = False
    length_km: float = 0.0

    def buses(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(bus for bus, _ in self.nodes))


def solved(engine: Any, text: str = "") -> Any:
    """The engine after more OpenDSS commands, solved anew. Raises CaseError where that fails."""
    try:
        engine.Text.Commands(text)
        # Setting the mode makes it start from no load, whatever it has solved before.
        engine.Text.Command("set mode=snapshot controlmode=off tolerance=1e-10 maxiterations=200")
        engine.Solution.Solve()
    except DSSException as error:
        raise CaseError(f"OpenDSS refuses the circuit: {error.args[-1]}") from None
    return engine


def compiled(text: str) -> Any:
    """An engine with the circuit that the OpenDSS commands build, solved. Raises CaseError where that fails."""
    engine = dss.NewContext()
    engine.Basic.AllowChangeDir(False)
    engine.Basic.AllowForms(False)
    return solved(engine, text)


def extract_feeder(engine: Any, base_kva: float) -> MultiphaseFeeder:
    """The feeder of the engine's active circuit, which must be solved. ``base_kva`` is the power base per phase.

    Raises CaseError naming the element that cannot be modelled and what to do.
    """
    refuse_powers(engine)
    source, elements, shunts = _elements(engine)
    root = source.nodes[0][0]
    parent_of, branch_of = _tree(root, elements)
    names = [SOURCE, *parent_of]
    nodes = [(SOURCE, phase) for _, phase in source.nodes]
    phases: dict[str, set[int]] = defaultdict(set)
    for raw in (source, *branch_of.values()):
        for bus, phase in raw.nodes:
            phases[bus].add(phase)
    nodes += [(bus, phase) for bus in parent_of for phase in sorted(phases[bus])]
    index = {node: i for i, node in enumerate(nodes)}
    position = {bus: i for i, bus in enumerate(names)}
    table = {bus.lower(): (kv, place) for bus, kv, place in bus_table(engine)}
    v_base = _base_voltages({bus: table[bus][0] for bus in names[1:]})
    node_base = np.array([v_base[root if bus == SOURCE else bus] for bus, _ in nodes])
    # Siemens to per unit: current base is base_kva / v_base at each node.
    root_scale = node_base / np.sqrt(base_kva * 1000)

    def element(raw: _Raw) -> Element:
        at = np.array([index[node] for node in raw.nodes], np.int64)
        y = raw.y * (root_scale[at, None] * root_scale[at])
        return Element(raw.name, at, y, raw.is_switch, raw.length_km)

    y = source.y
    copies = tuple((SOURCE, phase) for _, phase in source.nodes)
    behind = _Raw(source.name, (*copies, *source.nodes), np.block([[y, -y], [-y, y]]))
    branches = [behind] + [_parent_first(branch_of[bus], parent_of[bus]) for bus in list(parent_of)[1:]]
    feeder = MultiphaseFeeder(
        buses=tuple(names),
        parent=np.array([0, *(position[parent_of[bus]] for bus in list(parent_of)[1:])], np.int64),
        node_bus=np.array([position[bus] for bus, _ in nodes], np.int64),
        node_phase=np.array([phase for _, phase in nodes], np.int64),
        v_base=node_base,
        branches=tuple(element(raw) for raw in branches),
        shunts=tuple(element(raw) for raw in shunts if raw.nodes[0][0] in position),
        legs=read_legs(engine, index, node_base, base_kva),
        v_no_load=np.zeros(len(nodes), complex),
        grounded=np.ones(len(nodes), bool),
        coordinates=np.array([table[root if bus == SOURCE else bus][1] or (np.nan, np.nan) for bus in names], float),
    )
    feeder = replace(feeder, grounded=_grounded(feeder))
    _refuse_floating_loads(feeder)
    emf = _emf(engine, source) / node_base[: feeder.roots]
    feeder = replace(feeder, v_no_load=_no_load(feeder, emf))
    _refuse_no_voltage(feeder, source.name)
    return feeder


def load_shapes(engine: Any, hours: Sequence[int], dt: float) -> dict[str, Floats]:
    """(T,) multipliers of each load shape of the circuit in the given periods of ``dt`` hours.

    Raises CaseError naming a shape that does not consist of multipliers.
    """
    ends = (np.array(hours) + 1) * dt
    return {name.lower(): shape_values(engine, name, ends) for name in engine.LoadShape.AllNames()}


def _elements(engine: Any) -> tuple[_Raw, list[_Raw], list[_Raw]]:
    """The source, the elements between two buses and those at one."""
    read, kinds = [], []
    circuit, active = engine.Circuit, engine.CktElement
    for name in map(str.lower, circuit.AllElementNames()):
        kind = name.split(".")[0]
        if kind in _ELSEWHERE:
            continue
        circuit.SetActiveElement(name)
        if not active.Enabled():
            continue
        if kind != "vsource" and kind not in BRANCH_CLASSES:
            _refuse_class(name, kind)
        if active_is_open(engine, name):
            continue
        element = _read(engine, name, kind)
        buses = list(dict.fromkeys(bus for bus, phase in element.nodes if phase))
        if kind != "vsource" and len(buses) > 2:
            raise CaseError(f"{name} joins {len(buses)} buses ({', '.join(buses)}). Split it in two.")
        if buses:
            read.append(element)
            kinds.append("source" if kind == "vsource" else "shunt" if len(buses) == 1 else "branch")
    found: dict[str, list[_Raw]] = {"source": [], "branch": [], "shunt": []}
    for kind, raw in zip(kinds, _raws(read), strict=True):
        # NaN fails the comparison too.
        if not (np.abs(raw.y) < MOST_SIEMENS).all():
            raise CaseError(
                f"{raw.name}: no element has an admittance of {np.abs(raw.y).max():.3g} S. Correct its impedance, "
                "capacitance or length."
            )
        found[kind].append(raw)
    sources = found["source"]
    if len(sources) != 1:
        raise CaseError(f"the circuit has {len(sources)} voltage sources: it must have one. Remove the others.")
    return sources[0], found["branch"], found["shunt"]


def _refuse_class(name: str, kind: str) -> None:
    if kind in _TABLES:
        raise CaseError(f"{name} stands in the circuit. Put it into {_TABLES[kind]} and take it out here.")
    raise CaseError(
        f"{name}: elements of this class cannot be modelled. Replace it by a load, generator or line, or disable it."
    )


def _read(engine: Any, name: str, kind: str) -> _Read:
    """The active element."""
    active = engine.CktElement
    buses = [bus.split(".")[0].lower() for bus in active.BusNames()]
    conductors = active.NumConductors()
    nodes = tuple((buses[i // conductors], int(node)) for i, node in enumerate(active.NodeOrder()))
    y = active.YPrim()
    if kind != "line":
        return _Read(name, nodes, y, is_switch=False, length_km=0.0)
    is_switch = str(engine.Properties.Value("switch")).lower().startswith(("y", "t")) or None
    lines = engine.Lines
    lines.Name(name.split(".", 1)[1])
    return _Read(name, nodes, y, is_switch, lines.Length() * KM_PER_UNIT[lines.Units()])


def _raws(read: Sequence[_Read]) -> list[_Raw]:
    """The elements without ground, conductors at the same node joined."""
    kept = [tuple(dict.fromkeys(node for node in element.nodes if node[1] != 0)) for element in read]
    # Elements whose conductors are joined alike are worked on at once.
    alike: dict[tuple[bool | None, tuple[int, ...]], list[int]] = defaultdict(list)
    for i, element in enumerate(read):
        at = {node: k for k, node in enumerate(kept[i])}
        alike[element.is_switch, tuple(at.get(node, GROUND) for node in element.nodes)].append(i)
    raws = {}
    for (is_switch, places), chosen in alike.items():
        n, own = len(places), tuple(range(max(places) + 1))
        y = np.array([read[i].y for i in chosen], float).view(complex).reshape(-1, n, n).transpose(0, 2, 1)
        switches = _series_ohm(y) <= SWITCH_OHM if is_switch is None else np.full(len(chosen), is_switch)
        if places != own:
            gather = np.equal.outer(places, own).astype(float)
            y = gather.T @ y @ gather
        for i, matrix, switch in zip(chosen, y, switches.tolist(), strict=True):
            length = read[i].length_km
            raws[i] = _Raw(read[i].name, kept[i], matrix, switch, 0.0 if switch and np.isnan(length) else length)
    return [raws[i] for i in range(len(read))]


def _series_ohm(y: Complexes) -> Floats:
    """(m,) largest impedance between the two ends of each line, ``y`` (m, n, n)."""
    half = y.shape[1] // 2
    largest: Floats = np.abs(np.linalg.inv(y[:, :half, half:])).max(axis=(1, 2))
    return largest


def _tree(root: str, elements: Sequence[_Raw]) -> tuple[dict[str, str], dict[str, _Raw]]:
    """Parent of each bus, from the root outwards breadth first, and the branch that leads to it, parallels joined."""
    between: dict[frozenset[str], list[_Raw]] = defaultdict(list)
    neighbours: dict[str, list[str]] = defaultdict(list)
    for raw in elements:
        one, other = raw.buses()
        if frozenset((one, other)) not in between:
            neighbours[one].append(other)
            neighbours[other].append(one)
        between[frozenset((one, other))].append(raw)
    parent_of: dict[str, str] = {root: ""}
    branch_of = {}
    queue = [root]
    for bus in queue:
        for child in neighbours[bus]:
            if child == parent_of[bus]:
                continue
            joined = _parallel(between[frozenset((bus, child))])
            if child in parent_of:
                raise CaseError(
                    f"a loop: {joined.name} closes it between buses '{bus}' and '{child}'. tieflow models radial "
                    "feeders: open one of the loop's switches (tieflow import ... --command 'open line.NAME')."
                )
            parent_of[child], branch_of[child] = bus, joined
            queue.append(child)
    return parent_of, branch_of


def _parallel(raws: Sequence[_Raw]) -> _Raw:
    if len(raws) == 1:
        return raws[0]
    nodes = list(dict.fromkeys(node for raw in raws for node in raw.nodes))
    y = np.zeros((len(nodes), len(nodes)), complex)
    for raw in raws:
        at = [nodes.index(node) for node in raw.nodes]
        y[np.ix_(at, at)] += raw.y
    length = float(np.max([raw.length_km for raw in raws]))
    return _Raw("+".join(raw.name for raw in raws), tuple(nodes), y, all(raw.is_switch for raw in raws), length)


def _parent_first(raw: _Raw, parent: str) -> _Raw:
    places = range(len(raw.nodes))
    order = sorted(places, key=lambda i: (raw.nodes[i][0] != parent, raw.nodes[i][1]))
    if order == list(places):
        return raw
    return replace(raw, nodes=tuple(raw.nodes[i] for i in order), y=raw.y[np.ix_(order, order)])


def _base_voltages(kv: Mapping[str, float]) -> dict[str, float]:
    """In V by bus, from kV."""
    for bus, base in kv.items():
        if base <= 0:
            raise CaseError(f"bus '{bus}' has no base voltage. Add 'set voltagebases=[...]' and 'calcvoltagebases'.")
    return {bus: 1000 * base for bus, base in kv.items()}


def _emf(engine: Any, source: _Raw) -> Complexes:
    """Voltage behind the source impedance, V, from the source's terminal voltage and current as solved."""
    engine.Circuit.SetActiveElement(source.name)
    own = [i for i, node in enumerate(engine.CktElement.NodeOrder()) if node != 0]
    v = np.asarray(engine.CktElement.Voltages(), float).view(complex)[own]
    i = np.asarray(engine.CktElement.Currents(), float).view(complex)[own]
    emf: Complexes = v - np.linalg.solve(source.y, i)
    return emf


def _grounded(feeder: MultiphaseFeeder) -> Bools:
    """(node,) False where no transformer and no shunt ties the phases of the bus to ground."""
    # A zone is what shifts as a whole when all phases of one of its buses do: lines carry the shift on, a transformer
    # with a delta or an ungrounded wye at either end does not.
    zone = np.zeros(len(feeder.buses), np.int64)
    to_ground, feeding = [np.inf], [0.0]
    largest, shift = np.zeros(len(feeder.branches)), np.zeros((len(feeder.branches), 2, 2))
    for alike in alike_branches(feeder):
        far = np.arange(alike.nodes.shape[1]) >= alike.parents
        end = np.column_stack([~far, far]).astype(float)
        largest[alike.k] = np.abs(alike.y).max(axis=(1, 2))
        shift[alike.k] = np.abs(end.T @ alike.y @ end)
    for k, carried in enumerate(shift[:, 0, 1] * UNGROUNDED >= largest):
        parent = zone[feeder.parent[k]]
        if carried:
            zone[k + 1] = parent
            continue
        zone[k + 1] = len(feeding)
        to_ground[parent] += shift[k, 0, 0]
        to_ground.append(shift[k, 1, 1])
        feeding.append(largest[k])
    for shunt in feeder.shunts:
        to_ground[zone[feeder.node_bus[shunt.nodes[0]]]] += abs(shunt.y.sum())
    grounded = np.array(to_ground) * UNGROUNDED >= np.array(feeding)
    return grounded[zone[feeder.node_bus]]


def _refuse_floating_loads(feeder: MultiphaseFeeder) -> None:
    legs = feeder.legs
    floating = np.flatnonzero(~feeder.grounded[legs.a] & (legs.b == GROUND))
    if len(floating):
        name, node = legs.name[floating[0]], feeder.node_names[legs.a[floating[0]]]
        raise CaseError(
            f"{name} at node {node} is connected to ground behind an ungrounded transformer secondary, whose voltage "
            "to ground is not defined. Ground the secondary (conn=wye), or connect the load between phases."
        )


def _refuse_no_voltage(feeder: MultiphaseFeeder, source: str) -> None:
    v_pu = np.abs(feeder.v_no_load)
    if feeder.limited.any() and v_pu.max() < MOST_PU:
        return
    raise CaseError(
        f"without load the voltages lie between {v_pu.min():.3g} and {v_pu.max():.3g} pu. Let basekv and pu of "
        f"{source}, and the voltages of transformers, fit 'set voltagebases=[...]'."
    )


def _no_load(feeder: MultiphaseFeeder, emf: Complexes) -> Complexes:
    """(node,) voltages without loads. Raises CaseError naming nodes that float."""
    try:
        flow = PowerFlow(feeder, np.zeros((len(feeder.legs), 1)))
    except SolverError as error:
        _refuse_floating_nodes(feeder, str(error))
        raise
    # What floats but for rounding answers any current with a voltage beyond all measure.
    probe: Complexes = np.random.default_rng(0).uniform(0.5, 1.0, (len(feeder.node_bus), 1)).astype(complex)
    answer = np.abs(flow.linear(0 * emf[:, None], probe)[0][:, 0])
    if not (answer[feeder.grounded] < FLOATING_PU).all():
        _refuse_floating_nodes(feeder, "some nodes float")
    return flow.linear(emf[:, None], 0 * probe)[0][:, 0]


def _refuse_floating_nodes(feeder: MultiphaseFeeder, reason: str) -> None:
    way_out = "Ground the conductor (node 0 in place of its own, or a reactor to ground), or leave it out."
    try:
        ports = two_ports(feeder)
    except SolverError as error:
        raise CaseError(f"{error} {way_out}") from None
    # Almost singular, the equations answer anything with the voltages that nothing holds.
    count = ports.nodes - feeder.roots
    system = tableau(ports, feeder.roots).matrix(2 * count, 2 * count)
    held = spla.splu(sp.csc_array(system + 1e-9 * sp.eye_array(2 * count)))
    answer = held.solve(np.random.default_rng(0).uniform(0.5, 1.0, 2 * count) + 0j)
    size = np.abs(answer[:count])
    if not np.isfinite(size).all():
        raise CaseError(f"{reason} {way_out}")
    floating = feeder.roots + np.flatnonzero(size > size.max() / 100)
    nodes = [feeder.node_names[node] for node in floating]
    reached = [e.name for e in (*feeder.branches, *feeder.shunts) if np.isin(e.nodes, floating).any()]
    raise CaseError(
        f"nothing ties {'node' if len(nodes) == 1 else 'nodes'} {name_list(nodes, 6)} (at {name_list(reached, 3)}) to "
        f"ground or to the source: {'it floats' if len(nodes) == 1 else 'they float'}. {way_out}"
    )
