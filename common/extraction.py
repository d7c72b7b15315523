"""A multi-phase feeder from a circuit that OpenDSS has compiled: the engine's own admittances, loads and sources.

Refuses what the model cannot carry, by name: loops, islands with load, load behind an ungrounded secondary.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from opendssdirect import DSSException, dss

from common.errors import CaseError
from common.feeder import Bools, Complexes, Floats
from common.multiphase import FIXED, GROUND, Element, Legs, MultiphaseFeeder
from common.power_flow import PowerFlow

BRANCH_CLASSES = ("line", "transformer", "autotrans", "reactor", "capacitor")
SOURCE = "(source)"
"""name of bus 0, the ideal source behind the source impedance"""
SWITCH_OHM = 2e-3
"""largest impedance of a line that counts as a switch, besides those that OpenDSS calls one"""
UNGROUNDED = 1e5
"""ratio of phase-to-phase to phase-to-ground admittance above which a secondary counts as ungrounded"""

Node = tuple[str, int]


@dataclass(frozen=True)
class _Raw:
    """An element by the names of its nodes, admittance in siemens."""

    name: str
    nodes: tuple[Node, ...]
    y: Complexes
    is_switch: bool = False

    def buses(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(bus for bus, _ in self.nodes))


def compiled(text: str) -> Any:
    """An engine with the circuit that the OpenDSS commands build, solved. Raises CaseError where that fails."""
    engine = dss.NewContext()
    engine.Basic.AllowChangeDir(False)
    engine.Basic.AllowForms(False)
    try:
        engine.Text.Commands(text)
        engine.Text.Command("set mode=snapshot controlmode=off tolerance=1e-10 maxiterations=200")
        engine.Solution.Solve()
    except DSSException as error:
        raise CaseError(f"OpenDSS refuses the circuit: {error.args[-1]}") from None
    return engine


def extract_feeder(engine: Any, base_kva: float) -> MultiphaseFeeder:
    """The feeder of the engine's active circuit, which must be solved. ``base_kva`` is the power base per phase.

    Raises CaseError naming the element that cannot be modelled and what to do.
    """
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
    v_base = _base_voltages(engine, names[1:])
    node_base = np.array([v_base[root if bus == SOURCE else bus] for bus, _ in nodes])
    # Siemens to per unit: current base is base_kva / v_base at each node.
    root_scale = node_base / np.sqrt(base_kva * 1000)

    def element(raw: _Raw) -> Element:
        at = np.array([index[node] for node in raw.nodes], np.int64)
        return Element(raw.name, at, raw.y * np.outer(root_scale[at], root_scale[at]), raw.is_switch)

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
        legs=_legs(engine, index, node_base, base_kva),
        v_no_load=np.zeros(len(nodes), complex),
        grounded=np.ones(len(nodes), bool),
        coordinates=_coordinates(engine, root, names),
    )
    feeder = replace(feeder, grounded=_grounded(feeder))
    _refuse_floating_loads(feeder)
    emf = _emf(engine, source) / node_base[: feeder.roots]
    nothing = np.zeros((len(nodes), 1), complex)
    no_load, _ = PowerFlow(feeder, np.zeros((len(feeder.legs), 1))).linear(emf[:, None], nothing)
    return replace(feeder, v_no_load=no_load[:, 0])


def load_shapes(engine: Any, hours: Sequence[int], dt: float) -> dict[str, Floats]:
    """(T,) multipliers of each load shape of the circuit in the given periods of ``dt`` hours."""
    shapes = {}
    for name in engine.LoadShape.AllNames():
        engine.LoadShape.Name(name)
        interval = engine.LoadShape.HrInterval()
        values = np.array(engine.LoadShape.PMult())
        if name.lower() == "default" or interval <= 0:
            continue
        # As the engine's daily mode reads it: the point at the end of each period, the last for the first hour.
        at = np.rint((np.array(hours) + 1) * dt / interval).astype(int) - 1
        shapes[name.lower()] = values[at % len(values)]
    return shapes


def _elements(engine: Any) -> tuple[_Raw, list[_Raw], list[_Raw]]:
    """The source, the elements between two buses and those at one."""
    sources, branches, shunts = [], [], []
    circuit, active = engine.Circuit, engine.CktElement
    for name in circuit.AllElementNames():
        kind = name.split(".")[0].lower()
        if kind != "vsource" and kind not in BRANCH_CLASSES:
            continue
        circuit.SetActiveElement(name)
        if not active.Enabled() or any(active.IsOpen(end + 1, 0) for end in range(active.NumTerminals())):
            continue
        raw = _raw(engine, name, kind)
        if not raw.nodes:
            continue
        if kind == "vsource":
            sources.append(raw)
        elif len(raw.buses()) == 1:
            shunts.append(raw)
        elif len(raw.buses()) == 2:
            branches.append(raw)
        else:
            raise CaseError(f"{name} joins {len(raw.buses())} buses ({', '.join(raw.buses())}). Split it in two.")
    if len(sources) != 1:
        raise CaseError(f"the circuit has {len(sources)} voltage sources: it must have one. Remove the others.")
    return sources[0], branches, shunts


def _raw(engine: Any, name: str, kind: str) -> _Raw:
    active = engine.CktElement
    buses = [bus.split(".")[0].lower() for bus in active.BusNames()]
    order, conductors = active.NodeOrder(), active.NumConductors()
    nodes = [(buses[i // conductors], int(node)) for i, node in enumerate(order)]
    y = np.asarray(active.YPrim(), float).view(complex).reshape(len(nodes), len(nodes), order="F")
    kept = list(dict.fromkeys(node for node in nodes if node[1] != 0))
    gather = np.array([[node == own for own in kept] for node in nodes], float).reshape(len(nodes), len(kept))
    is_switch = kind == "line" and bool(engine.Lines.IsSwitch())
    return _Raw(name.lower(), tuple(kept), gather.T @ y @ gather, is_switch)


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
    return _Raw("+".join(raw.name for raw in raws), tuple(nodes), y, all(raw.is_switch for raw in raws))


def _parent_first(raw: _Raw, parent: str) -> _Raw:
    order = sorted(range(len(raw.nodes)), key=lambda i: (raw.nodes[i][0] != parent, raw.nodes[i][1]))
    return replace(raw, nodes=tuple(raw.nodes[i] for i in order), y=raw.y[np.ix_(order, order)])


def _base_voltages(engine: Any, buses: Sequence[str]) -> dict[str, float]:
    found = {}
    for bus in buses:
        engine.Circuit.SetActiveBus(bus)
        found[bus] = 1000 * engine.Bus.kVBase()
        if found[bus] <= 0:
            raise CaseError(f"bus '{bus}' has no base voltage. Add 'set voltagebases=[...]' and 'calcvoltagebases'.")
    return found


def _coordinates(engine: Any, root: str, names: Sequence[str]) -> Floats:
    found = np.full((len(names), 2), np.nan)
    for i, bus in enumerate(names):
        engine.Circuit.SetActiveBus(root if bus == SOURCE else bus)
        if engine.Bus.Coorddefined():
            found[i] = engine.Bus.X(), engine.Bus.Y()
    return found


def _emf(engine: Any, source: _Raw) -> Complexes:
    """Voltage behind the source impedance, V, from the source's terminal voltage and current as solved."""
    engine.Circuit.SetActiveElement(source.name)
    own = [i for i, node in enumerate(engine.CktElement.NodeOrder()) if node != 0]
    v = np.asarray(engine.CktElement.Voltages(), float).view(complex)[own]
    i = np.asarray(engine.CktElement.Currents(), float).view(complex)[own]
    emf: Complexes = v - np.linalg.solve(source.y, i)
    return emf


def _legs(engine: Any, index: Mapping[Node, int], node_base: Floats, base_kva: float) -> Legs:
    rows = [*_load_legs(engine), *_generator_legs(engine)]
    legs: dict[str, list[Any]] = {field.name: [] for field in fields(Legs)}
    for row in rows:
        for node in (row.a, row.b):
            if node is not None and node not in index:
                raise CaseError(
                    f"{row.name} at node {node[0]}.{node[1]} is not connected to the source. Disable it, or close "
                    "the switch to its part of the feeder."
                )
        a = index[row.a]
        values = {
            "name": row.name,
            "a": a,
            "b": GROUND if row.b is None else index[row.b],
            "s": row.s / base_kva,
            "v_rated": row.volts / node_base[a],
        }
        for name, column in legs.items():
            column.append(values[name] if name in values else getattr(row, name))
    arrays: dict[str, Any] = {
        name: tuple(column)
        if name in ("name", "shape")
        else np.array(column, {"a": np.int64, "b": np.int64, "s": complex}.get(name, float))
        for name, column in legs.items()
    }
    return Legs(**arrays)


@dataclass(frozen=True)
class _LegRow:
    """A leg with named nodes; the other fields as in ``Legs``."""

    name: str
    a: Node
    b: Node | None
    s: complex
    """kVA"""
    volts: float
    alpha: float
    beta: float
    edge: float
    v_low: float
    v_min: float
    v_max: float
    shape: str


EXPONENTS = {1: (0.0, 0.0), 2: (2.0, 2.0), 3: (0.0, 2.0), 5: (1.0, 1.0), 6: (0.0, 0.0), 7: (0.0, 2.0)}
"""of real and reactive power by OpenDSS's load model; 4 has its own and 8 is a sum of three"""


def _load_legs(engine: Any) -> Iterator[_LegRow]:
    loads, active = engine.Loads, engine.CktElement
    for name in loads.AllNames():
        loads.Name(name)
        if not active.Enabled() or name.lower() == "none":
            continue
        model, s = int(loads.Model()), complex(loads.kW(), loads.kvar())
        fixed = str(engine.Properties.Value("status")).lower().startswith(("f", "e"))
        edge = {2: 2.0, 5: 1.0}.get(model, 0.0)
        limits = float(engine.Properties.Value("vlowpu")), loads.Vminpu(), loads.Vmaxpu()
        if model == 8:
            z = np.array(loads.ZipV())
            parts = [(complex(s.real * z[k], s.imag * z[3 + k]), (2.0 - k, 2.0 - k)) for k in range(3)]
        elif model == 4:
            parts = [(s, (loads.CVRwatts(), loads.CVRvars()))]
        elif model in EXPONENTS:
            parts = [(s, EXPONENTS[model])]
        else:
            raise CaseError(f"load.{name}: OpenDSS load model {model} is not known. Use 1 to 8.")
        pairs = _pairs(f"load.{name}", active, bool(loads.IsDelta()))
        per_leg = 1000 * loads.kV() / (np.sqrt(3) if len(pairs) > 1 and not loads.IsDelta() else 1)
        if model == 2:
            limits = (0.0, 0.0, 9.0)
        shape = loads.Daily().lower() or (FIXED if fixed else "")
        for a, b in pairs:
            for power, (alpha, beta) in parts:
                share = power / len(pairs)
                yield _LegRow(f"load.{name}", a, b, share, per_leg, alpha, beta, edge, *limits, shape)


def _generator_legs(engine: Any) -> Iterator[_LegRow]:
    generators, active = engine.Generators, engine.CktElement
    for name in generators.AllNames():
        if name.lower() == "none":
            continue
        generators.Name(name)
        if not active.Enabled():
            continue
        if int(generators.Model()) != 1:
            raise CaseError(
                f"generator.{name}: only model 1 (constant power) can be modelled, not {generators.Model()}. Set "
                "model=1, or disable it."
            )
        delta = bool(generators.IsDelta())
        pairs = _pairs(f"generator.{name}", active, delta)
        volts = 1000 * generators.kV() / (np.sqrt(3) if len(pairs) > 1 and not delta else 1)
        share = -complex(generators.kW(), generators.kvar()) / len(pairs)
        shape = str(engine.Properties.Value("daily")).lower() or FIXED
        least, most = generators.Vminpu(), generators.Vmaxpu()
        for a, b in pairs:
            yield _LegRow(f"generator.{name}", a, b, share, volts, 0.0, 0.0, 0.0, 0.0, least, most, shape)


def _pairs(name: str, active: Any, delta: bool) -> list[tuple[Node, Node | None]]:
    """Nodes between which each phase of the active load or generator is connected."""
    bus = active.BusNames()[0].split(".")[0].lower()
    order, phases = [int(node) for node in active.NodeOrder()], int(active.NumPhases())

    def node(number: int) -> Node | None:
        return (bus, number) if number else None

    if delta and phases > 1:
        ends = [(order[i], order[(i + 1) % len(order)]) for i in range(phases)]
    else:
        ends = [(order[i], order[-1] if len(order) > phases else 0) for i in range(phases)]
    pairs = []
    for a, b in ends:
        first, second = node(a), node(b)
        if first is None:
            first, second = second, None
        if first is None:
            raise CaseError(f"{name} is connected from ground to ground. Give it a bus with phases.")
        pairs.append((first, second))
    return pairs


def _grounded(feeder: MultiphaseFeeder) -> Bools:
    """(node,) False behind a transformer without a path to ground on the side away from the source."""
    grounded = np.ones(len(feeder.node_bus), bool)
    for k, branch in enumerate(feeder.branches):
        far = feeder.node_bus[branch.nodes] == k + 1
        y = branch.y[np.ix_(far, far)]
        # Shifting all far nodes together draws no current where nothing ties them to ground or to the near side.
        shifted = np.abs(y.sum(axis=0)).max() * UNGROUNDED < np.abs(y).max()
        near = np.abs(branch.y[np.ix_(far, ~far)].sum(axis=0)).max() * UNGROUNDED < np.abs(y).max()
        if (shifted and near) or not grounded[branch.nodes[~far]].all():
            grounded[branch.nodes[far]] = False
    return grounded


def _refuse_floating_loads(feeder: MultiphaseFeeder) -> None:
    legs = feeder.legs
    floating = np.flatnonzero(~feeder.grounded[legs.a])
    if len(floating):
        name, node = legs.name[floating[0]], feeder.node_names[legs.a[floating[0]]]
        raise CaseError(
            f"{name} at node {node} is behind an ungrounded transformer secondary, whose voltage to ground is not "
            "defined. Ground the secondary (conn=wye), or move the load to the primary side."
        )
