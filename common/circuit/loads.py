"""The loads and generators of a compiled circuit as the legs of a feeder, by OpenDSS's own load models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from tieflow.common.arrays import Floats
from tieflow.common.circuit.engine import active_is_open
from tieflow.common.circuit.shapes import refuse_shape
from tieflow.common.errors import CaseError
from tieflow.common.feeder.multiphase import FIXED, GROUND, Legs
from tieflow.common.inputs.numbers import MOST

Node = tuple[str, int]
"""bus and OpenDSS's node number"""
CUTOFF_PU = 0.8
"""largest voltage at which a load of model 8 may switch off: an operating feeder stays above"""


@dataclass(frozen=True)
class _Part:
    """A share of a load that follows one law; the fields as in ``Legs``."""

    s: complex
    """kVA"""
    alpha: float
    beta: float
    edge: float
    v_low: float
    v_min: float
    v_max: float


@dataclass(frozen=True)
class _Row:
    """A leg with named nodes; ``s`` of its part is the leg's own."""

    name: str
    a: Node
    b: Node | None
    volts: float
    part: _Part
    shape: str


def refuse_powers(engine: Any) -> None:
    """Raises CaseError naming a load or generator whose power none has: its circuit has no solution to look at."""
    for kind, units in (("load", engine.Loads), ("generator", engine.Generators)):
        for _ in units:
            for what, value in (("kw", units.kW()), ("kvar", units.kvar())):
                # NaN fails the comparison too.
                if not abs(value) <= MOST:
                    name = f"{kind}.{units.Name().lower()}"
                    raise CaseError(f"{name}: {what} must be {-MOST:g} to {MOST:g} (got {value:g}). Check its unit.")


def read_legs(engine: Any, index: Mapping[Node, int], node_base: Floats, base_kva: float) -> Legs:
    """Per unit. Raises CaseError naming the load or generator that cannot be modelled and what to do."""
    buses = {bus for bus, _ in index}
    legs: dict[str, list[Any]] = {field.name: [] for field in fields(Legs)}
    for row in (*_loads(engine), *_generators(engine)):
        for node in (row.a, row.b):
            if node is not None and node not in index:
                way_out = "Disable it, or close the switch to its part of the feeder."
                if node[0] in buses:
                    way_out = f"No line or transformer brings node {node[1]} to the bus: connect it to one that does."
                raise CaseError(f"{row.name} at node {node[0]}.{node[1]} is not connected to the source. {way_out}")
        a = index[row.a]
        values = {
            "name": row.name,
            "a": a,
            "b": GROUND if row.b is None else index[row.b],
            "s": row.part.s / base_kva,
            "v_rated": row.volts / node_base[a],
            "shape": row.shape,
        }
        for name, column in legs.items():
            column.append(values[name] if name in values else getattr(row.part, name))
    arrays: dict[str, Any] = {
        name: tuple(column)
        if name in ("name", "shape")
        else np.array(column, {"a": np.int64, "b": np.int64, "s": complex}.get(name, float))
        for name, column in legs.items()
    }
    return Legs(**arrays)


def _loads(engine: Any) -> Iterator[_Row]:
    loads, active = engine.Loads, engine.CktElement
    for known in loads.AllNames():
        loads.Name(known)
        name = f"load.{known.lower()}"
        if known.lower() == "none" or not active.Enabled() or active_is_open(engine, name):
            continue
        parts, delta = list(_parts(engine, name)), bool(loads.IsDelta())
        if loads.Rneut() >= 0 and not delta and active.NodeOrder()[-1]:
            raise CaseError(
                f"{name} has a neutral impedance of its own (rneut), which cannot be modelled. Set rneut=-1 and give "
                "its neutral a reactor to ground instead."
            )
        status = str(engine.Properties.Value("status")).lower()
        pairs = _pairs(name, active, delta)
        volts = 1000 * loads.kV() / (np.sqrt(3) if len(pairs) > 1 and not delta else 1)
        follows, reactive = loads.Daily().lower(), loads.kvar() != 0
        # An exempt load follows its shape, but no multiplier of the whole circuit.
        shape = FIXED if status.startswith("f") else follows or (FIXED if status.startswith("e") else "")
        yield from _rows(name, pairs, volts, parts, shape)
        if shape == follows and follows:
            refuse_shape(engine, follows, name, reactive)


def _parts(engine: Any, name: str) -> Iterator[_Part]:
    """The parts of the active load that follow a law of their own."""
    loads = engine.Loads
    model, p, q = int(loads.Model()), loads.kW(), 1j * loads.kvar()
    limits = float(engine.Properties.Value("vlowpu")), loads.Vminpu(), loads.Vmaxpu()
    always = 0.0, 0.0, 9.0
    if model == 1:
        yield _Part(p + q, 0, 0, 0, *limits)
    elif model == 2:
        yield _Part(p + q, 2, 2, 2, *always)
    elif model == 3:
        yield _Part(p + q, 0, 2, 0, *limits)
    elif model == 4:
        yield _Part(p + q, loads.CVRwatts(), loads.CVRvars(), 0, *limits)
    elif model == 5:
        yield _Part(p + q, 1, 1, 1, *limits)
    elif model in (6, 7):
        # Real power becomes the impedance of vminpu below it; reactive power becomes, or always is, the rated one.
        yield _Part(p + 0j, 0, 0, 0, 0.0, *limits[1:])
        if q:
            yield _Part(q, 0, 0, 2, *limits) if model == 6 else _Part(q, 2, 2, 2, *always)
    elif model == 8:
        z = np.array(loads.ZipV())
        if len(z) != 7:
            raise CaseError(f"{name} is of model 8 without coefficients. Give it zipv=(...) with all seven.")
        if z[6] > CUTOFF_PU:
            raise CaseError(
                f"{name} switches off below {z[6]:g} pu (the last of its zipv), which cannot be modelled. Set that to "
                "0, or disable the load."
            )
        for k, exponent in enumerate((2.0, 1.0, 0.0)):
            share = z[k] * p + z[3 + k] * q
            if share or k == 0:
                yield _Part(share, exponent, exponent, exponent, *limits)
    else:
        raise CaseError(f"{name}: OpenDSS load model {model} is not known. Use 1 to 8.")


def _generators(engine: Any) -> Iterator[_Row]:
    generators, active = engine.Generators, engine.CktElement
    for known in generators.AllNames():
        name = f"generator.{known.lower()}"
        if known.lower() == "none":
            continue
        generators.Name(known)
        if not active.Enabled() or active_is_open(engine, name):
            continue
        if int(generators.Model()) != 1:
            raise CaseError(
                f"{name}: only model 1 (constant power) can be modelled, not {generators.Model()}. Set model=1, or "
                "disable it."
            )
        status, dispatch, follows = (
            str(engine.Properties.Value(key)).lower() for key in ("status", "dispmode", "daily")
        )
        if dispatch and not dispatch.startswith("d"):
            raise CaseError(f"{name} runs by dispmode={dispatch}, which cannot be modelled. Set dispmode=default.")
        delta, power = bool(generators.IsDelta()), complex(generators.kW(), generators.kvar())
        pairs = _pairs(name, active, delta)
        volts = 1000 * generators.kV() / (np.sqrt(3) if len(pairs) > 1 and not delta else 1)
        part = _Part(-power, 0, 0, 0, 0.0, generators.Vminpu(), generators.Vmaxpu())
        shape = FIXED if status.startswith("f") else follows or FIXED
        yield from _rows(name, pairs, volts, [part], shape)
        if shape != FIXED:
            refuse_shape(engine, follows, name, power.imag != 0)


def _rows(
    name: str, pairs: list[tuple[Node, Node | None]], volts: float, parts: list[_Part], shape: str
) -> Iterator[_Row]:
    """Every part shared out evenly among the pairs of nodes."""
    for a, b in pairs:
        for part in parts:
            yield _Row(name, a, b, volts, replace(part, s=part.s / len(pairs)), shape)


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
