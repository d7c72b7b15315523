"""distopf's multi-period optimal power flow beside ours, on one case, replayed in one OpenDSS circuit.

``python tests/benchmarks/peer.py`` (a few minutes; needs ``pip install distopf``, which is no dependency of tieflow)
solves the shipped ``ieee123_unbalanced``, 24 hours with PV systems and batteries, with tieflow in one area and by ADMM
in four, in this process, and with distopf's multi-period model of linearized three-phase branch flow (``lindist_mp``,
Clarabel through cvxpy). Every schedule then goes through ``coordinator.checker``.

What distopf gets, beyond its OpenDSS importer's lines, transformers, capacitors and buses:

- Loads at their rated power: the importer takes the powers of one solution for nominal, and adds up the voltage
  dependence of loads at one bus. A load between phases becomes one at each of them, with the share that it has at the
  voltages without load. Constant power, current and impedance become distopf's own linear terms in squared voltage.
- Regulators with the case's fixed taps: the importer reads only those with a control. ``PeerModel`` mends the release's
  multi-period regulator equation, which makes cases with regulators infeasible from two periods on, distopf's own
  ieee123_30der_bat included.
- PV systems with reactive power as decision, up to sqrt(s^2 - p^2), the same on all phases of one device: distopf has
  one decision a phase, where the case has one inverter. The one between two phases is exact at balanced voltages.
- Batteries with the case's ratings, efficiencies and SOC limits, real and reactive power as decisions. The rated kW
  below the kVA and the terminal SOC are limits that distopf has no data for; ``PeerModel`` sets them. The kVA circle is
  distopf's octagon, inside the circle.
- The same prices. distopf's own ``cp_obj_energy_cost_min`` prices the energy at the substation of a model without
  losses, so reactive power is worth next to nothing; the second run adds its loss term at each hour's price.
- The same voltage limits, without a margin for the error of a linearized model.

Neither line charging nor losses are in distopf's power balance. Its nonlinear model (``branchflow``) is left out: it
wants an Ipopt executable, which does not come with it.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cvxpy as cp
import distopf
import numpy as np
import pandas as pd
from distopf.dss_importer import DSSToCSVConverter
from distopf.matrix_models.matrix_bess import LinDistMP, cvxpy_solve
from distopf.matrix_models.matrix_bess.objectives import cp_obj_energy_cost_min

from tieflow.common.arrays import Floats
from tieflow.common.case import Case, read_case
from tieflow.common.feeder.multiphase import GROUND, connection
from tieflow.common.results.result import Check
from tieflow.common.results.schedule import NetworkState, Schedule
from tieflow.coordinator.checker import check
from tieflow.launch.runs.solve import Options, solve

CASE = "ieee123_unbalanced"
BASE_KVA = 1000.0
"""distopf's power base"""
TAP = 0.00625
"""distopf's step of a regulator"""
LETTER = {1: "a", 2: "b", 3: "c"}


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    label: str
    believed: float
    """$"""
    wall_s: float
    """from the case to the answer"""
    cpu_s: float
    solver: str
    check: Check


class PeerModel(LinDistMP):  # type: ignore[misc]
    """distopf's multi-period model with what this case needs, through the methods meant to be overridden."""

    def __init__(self, peer: distopf.Case, p_rated: dict[int, float], turned: dict[tuple[int, str], float]) -> None:
        """``p_rated`` (pu) of batteries by bus; ``turned``: see ``add_generator_model``."""
        self.p_rated, self.turned = p_rated, turned
        super().__init__(case=peer)

    def add_regulator_model(self, a_eq: Any, b_eq: Any, j: int, a: str, t: int = 0) -> tuple[Any, Any]:
        """As distopf's, but with the regulator's variable of period ``t``; distopf writes that of the first period into
        the equations of all, which has no solution."""
        if j not in self.reg.index:
            return a_eq, b_eq
        i = self.idx("bi", j, a, t=t)[0]
        v_i, v_j, v_x = (self.idx(name, k, a, t=t) for name, k in (("v", i), ("v", j), ("vx", j)))
        a_eq[v_j, v_j] = a_eq[v_x, v_x] = 1
        a_eq[v_j, v_x] = -1
        a_eq[v_j, self.idx("pij", j, a, t=t)] = 2 * self.r[a + a][i, j]
        a_eq[v_j, self.idx("qij", j, a, t=t)] = 2 * self.x[a + a][i, j]
        a_eq[v_x, v_i] = -(self.reg.at[j, f"ratio_{a}"] ** 2)
        return a_eq, b_eq

    def add_generator_model(self, a_eq: Any, b_eq: Any, j: int, a: str, t: int = 0) -> tuple[Any, Any]:
        """As distopf's, the reactive power shared out evenly among the phases. Of a device between two phases, phase
        ``a`` carries half of S and j turned[j, a] S."""
        super().add_generator_model(a_eq, b_eq, j, a, t)
        phases = self.gen.at[j, "phases"] if j in self.gen.index else ""
        if a not in phases:
            return a_eq, b_eq
        q = self.idx("qg", j, a, t=t)
        if a != phases[-1]:
            a_eq[q, q] = 1
            a_eq[q, self.idx("qg", j, phases[phases.index(a) + 1], t=t)] = -1
        if (j, a) in self.turned:
            kappa = self.turned[j, a]
            p = self.gen.at[j, f"p_{a}"] * self.schedules.at[t, "PV"]
            a_eq[self.idx("pij", j, a, t=t), q] = -2 * kappa
            b_eq[self.idx("qij", j, a, t=t)] -= 2 * kappa * p
        return a_eq, b_eq

    def additional_limits(self, x_lim_lower: Floats, x_lim_upper: Floats, t: int = 0) -> tuple[Floats, Floats]:
        """Rated real power of the batteries, below their kVA, and as much energy at the end as at the start."""
        for j, row in self.bat.iterrows():
            for a in row.phases:
                for places in (self.charge_map, self.discharge_map):
                    x_lim_upper[places[t][a][j]] = self.p_rated[j] / len(row.phases)
                if t == self.start_step + self.n_steps - 1:
                    energy = self.soc_map[t][a][j]
                    x_lim_lower[energy] = x_lim_upper[energy] = row.start_soc * row.energy_capacity
        return x_lim_lower, x_lim_upper


def peer_case(case: Case) -> tuple[distopf.Case, dict[int, float], dict[tuple[int, str], float]]:
    """The case as distopf reads it; with what :class:`PeerModel` wants."""
    feeder, horizon, settings = case.multiphase_feeder, case.horizon, case.settings
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "circuit.dss"
        path.write_text(f"{case.circuit}\nsolve\n", encoding="utf-8")
        imported = DSSToCSVConverter(path, s_base=BASE_KVA * 1000, v_min=settings.v_min_pu, v_max=settings.v_max_pu)
    number = imported.bus_names_to_index_map
    bus = imported.bus_data.set_index("id", drop=False)
    bus.loc[:, [f"{kind}l_{a}" for kind in "pq" for a in "abc"]] = 0.0
    bus["load_shape"] = "load"
    _loads(case, bus, number)
    schedules = pd.DataFrame({"time": range(len(horizon)), "load": horizon.load, "PV": horizon.pv})

    gens, turned = [], {}
    for pv in case.pv:
        a, b = connection(feeder, pv.bus, pv.phases)
        nodes = a if b[0] == GROUND else np.concatenate([a, b])
        phases = "".join(sorted(LETTER[int(phase)] for phase in feeder.node_phase[nodes]))
        gen: dict[str, Any] = {"id": number[pv.bus], "name": pv.bus, "phases": phases}
        gen |= {"control_variable": "Q", "gen_shape": "PV"}
        for letter in "abc":
            share = (letter in phases) / len(phases) / BASE_KVA
            s = pv.s_rated_kva * share
            gen |= {f"p_{letter}": pv.p_rated_kw * share, f"q_{letter}": 0.0}
            gen |= {f"s_{letter}_max": s, f"q_{letter}_max": s, f"q_{letter}_min": -s}
        gens.append(gen)
        if b[0] != GROUND:
            v_a, v_b = feeder.v_no_load[[a[0], b[0]]]
            kappa = float((v_a / (v_a - v_b)).imag)
            for node, sign in ((a[0], 1), (b[0], -1)):
                turned[number[pv.bus] - 1, LETTER[int(feeder.node_phase[node])]] = sign * kappa
    batteries = []
    for battery in case.batteries:
        nodes = connection(feeder, battery.bus, battery.phases)[0]
        batteries.append(
            {
                "id": number[battery.bus],
                "name": battery.bus,
                "phases": "".join(LETTER[int(phase)] for phase in feeder.node_phase[nodes]),
                "s_max": battery.s_rated_kva / BASE_KVA,
                "energy_capacity": battery.energy_kwh / BASE_KVA,
                "min_soc": battery.soc_min,
                "max_soc": battery.soc_max,
                "start_soc": battery.soc_initial,
                "charge_efficiency": battery.eta_charge,
                "discharge_efficiency": battery.eta_discharge,
                "control_variable": "PQ",
            }
        )
    peer = distopf.Case(
        imported.branch_data,
        bus.reset_index(drop=True),
        pd.DataFrame(gens),
        imported.cap_data,
        _regulators(imported),
        pd.DataFrame(batteries),
        schedules,
        n_steps=len(horizon),
        delta_t=horizon.dt,
    )
    p_rated = {number[battery.bus] - 1: battery.p_rated_kw / BASE_KVA for battery in case.batteries}
    return peer, p_rated, turned


def _loads(case: Case, bus: pd.DataFrame, number: dict[str, int]) -> None:
    """Nominal loads by phase and their dependence on voltage. Of a load between phases each carries the share that it
    does at the voltages without load."""
    feeder, legs = case.multiphase_feeder, case.multiphase_feeder.legs
    if set(legs.shape) != {""}:
        raise SystemExit("distopf's table takes one shape for all loads here.")
    weight = pd.DataFrame(0.0, index=bus.index, columns=["cvr_p", "cvr_q", "s"])
    for k in range(len(legs)):
        a, b, s = legs.a[k], legs.b[k], complex(legs.s[k])
        if b == GROUND:
            shares, rated = [(a, 1.0 + 0j)], legs.v_rated[k]
        else:
            v_a, v_b = feeder.v_no_load[[a, b]]
            share = v_a / (v_a - v_b)
            shares, rated = [(a, share), (b, 1 - share)], legs.v_rated[k] / np.sqrt(3)
        s = complex(s.real / rated ** legs.alpha[k], s.imag / rated ** legs.beta[k])
        row = number[feeder.buses[feeder.node_bus[a]]]
        for node, share in shares:
            letter = LETTER[int(feeder.node_phase[node])]
            power = share * s * case.settings.base_kva / BASE_KVA
            bus.loc[row, f"pl_{letter}"] += power.real
            bus.loc[row, f"ql_{letter}"] += power.imag
        weight.loc[row] += [legs.alpha[k] * abs(s), legs.beta[k] * abs(s), abs(s)]
    for name in ("cvr_p", "cvr_q"):
        bus[name] = (weight[name] / weight["s"]).fillna(0.0)


def _regulators(imported: DSSToCSVConverter) -> pd.DataFrame:
    """The transformers with a tap, which the importer passes over where no control acts on them."""
    rows: dict[tuple[int, int], dict[str, Any]] = {}
    number, dss = imported.bus_names_to_index_map, imported.dss
    for _ in dss.Transformers:
        dss.Transformers.Wdg(1)
        kv = dss.Transformers.kV()
        dss.Transformers.Wdg(2)
        if dss.Transformers.kV() != kv:
            continue
        (first, *phases), (second, *_) = (bus.split(".") for bus in dss.CktElement.BusNames())
        ends = number[first], number[second]
        row = rows.setdefault(
            ends,
            {"fb": ends[0], "tb": ends[1], "from_name": first, "to_name": second, "phases": ""}
            | {f"tap_{a}": 0.0 for a in "abc"},
        )
        for phase in phases:
            row["phases"] += LETTER[int(phase)]
            row[f"tap_{LETTER[int(phase)]}"] = round((dss.Transformers.Tap() - 1) / TAP, 6)
    return pd.DataFrame(list(rows.values()))


def priced(price: Floats, with_losses: bool) -> Callable[..., cp.Expression]:
    """distopf's energy cost, $; with losses, its loss term with the price of each period on top."""
    curve = price * BASE_KVA

    def objective(model: PeerModel, x: cp.Variable, **_: Any) -> cp.Expression:
        cost = cp_obj_energy_cost_min(model, x, cost_curve=curve)
        if not with_losses:
            return cost
        at, weight = [], []
        for t, phases in model.x_maps.items():
            for a, lines in phases.items():
                r = np.asarray(model.r[a + a][lines.bi, lines.bj]).ravel() * curve[t] * model.delta_t
                at += [lines.pij, lines.qij]
                weight += [r, r]
        return cost + cp.sum(cp.multiply(np.concatenate(weight), cp.square(x[np.concatenate(at)])))

    return objective


def solve_peer(case: Case, label: str, with_losses: bool) -> tuple[Row, float]:
    """The line, and the part of its CPU time that building the model took."""
    started, cpu_started = time.perf_counter(), time.process_time()
    model = PeerModel(*peer_case(case))
    built = time.process_time() - cpu_started
    answer = cvxpy_solve(model, priced(case.horizon.price, with_losses))
    wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu_started
    if not answer.success:
        raise SystemExit(f"{label}: {answer.message}")
    schedule, state = _taken_over(case, model, answer.x)
    return Row(label, float(answer.fun), wall_s, cpu_s, "Clarabel", check(case, schedule, state)), built


def _taken_over(case: Case, model: PeerModel, x: Floats) -> tuple[Schedule, NetworkState]:
    """distopf's setpoints and voltages in our order and units."""

    def by_bus(table: pd.DataFrame, columns: list[str], buses: list[str]) -> Floats:
        total = table.assign(sum=table[columns].astype(float).sum(axis=1))
        wide = total.pivot(index="name", columns="t", values="sum")
        return np.asarray(wide.loc[buses].to_numpy(float) * BASE_KVA)

    phases, stored = list("abc"), [battery.bus for battery in case.batteries]
    schedule = Schedule(
        pv={
            "p_kw": np.array([case.horizon.idle(pv) for pv in case.pv]),
            "q_kvar": by_bus(model.get_q_gens(x), phases, [pv.bus for pv in case.pv]),
        },
        batteries={
            "charge_kw": by_bus(model.get_p_charge(x), phases, stored),
            "discharge_kw": by_bus(model.get_p_discharge(x), phases, stored),
            "q_kvar": by_bus(model.get_q_batt(x), phases, stored),
            "energy_kwh": by_bus(model.get_soc(x), ["value"], stored),
        },
    )
    feeder, periods = case.multiphase_feeder, len(case.horizon)
    volts = model.get_voltages(x).set_index(["name", "t"])
    v = np.array(
        [
            volts.loc[[(name.rsplit(".", 1)[0], t) for t in range(periods)], LETTER[int(phase)]]
            for name, phase in zip(feeder.node_names[feeder.roots :], feeder.node_phase[feeder.roots :], strict=True)
        ],
        float,
    )
    source = model.bus.at[model.swing_bus, "name"]
    power = []
    for flows in (model.get_p_flows(x), model.get_q_flows(x)):
        out = flows[flows.from_name == source].groupby("t")[phases].sum()
        power.append(np.asarray(out.sum(axis=1).to_numpy(float) * BASE_KVA))
    zero = np.zeros_like(v)
    return schedule, NetworkState(v, zero, zero, zero, power[0], power[1], np.zeros(periods))


def solve_ours(case: Case, label: str, method: str) -> Row:
    cpu_started = time.process_time()
    result = solve(case, Options(method=method, check=False))
    cpu_s = time.process_time() - cpu_started
    if not result.converged:
        raise SystemExit(f"{label}: not converged")
    found = check(case, result.schedule, result.state)
    return Row(label, result.cost, result.total_s, cpu_s, "Clarabel", found)


def table(rows: list[Row]) -> str:
    head = (
        "| tool | cost by OpenDSS ($) | cost by the tool ($) | voltage error (pu) | voltage violations | worst (pu) "
        "| battery and rating violations | wall time (s) | CPU time (s) | solver |"
    )
    lines = [head, "|" + "---|" * (head.count("|") - 1)]
    for row in rows:
        found = row.check
        volts = [abs(one.value - one.limit) for one in found.violations if one.kind == "voltage"]
        others = len(found.violations) - len(volts)
        cells = [
            row.label,
            f"{found.cost:.2f}",
            f"{row.believed:.2f}",
            f"{found.max_voltage_error_pu:.1e}",
            str(len(volts)),
            f"{max(volts, default=0.0):.4f}",
            str(others),
            f"{row.wall_s:.1f}",
            f"{row.cpu_s:.1f}",
            row.solver,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


NOTES = """\
Cost by OpenDSS: the substation's energy at the hour's price, all hours replayed at the tool's setpoints. Cost by the
tool: what it minimized, of distopf with the loss term if it has one. Voltage error: largest difference of the tool's
own voltages from OpenDSS's. Voltage violations: node-hours outside {low}..{high} pu by more than {slack} pu. Times:
from the case to the answer, without the check; ADMM's areas take turns.
distopf {version}: lindist_mp with its multi-period regulator equation mended; loads between phases, and the PV system
between two phases, as shares of each phase; reactive power of one device equal on its phases; rated kW and terminal SOC
of batteries added. {built:.0f} CPU s of each of its runs fill its matrices entry by entry. It kept no margin to the
voltage limits for the error of its linearization."""


def main() -> None:
    warnings.simplefilter("ignore")
    case = read_case(CASE)
    # Extracted once, before any clock runs.
    case.multiphase_feeder  # noqa: B018
    rows = [
        solve_ours(case, "tieflow centralized", "centralized"),
        solve_ours(case, "tieflow newton, 4 areas in one process", "newton"),
    ]
    cost, built = solve_peer(case, "distopf, energy cost", False)
    cost_and_losses, built_too = solve_peer(case, "distopf, energy cost and losses", True)
    print(table([*rows, cost, cost_and_losses]))
    print()
    print(
        NOTES.format(
            low=case.settings.v_min_pu,
            high=case.settings.v_max_pu,
            slack=rows[0].check.tolerances.voltage_pu,
            version=version("distopf"),
            built=(built + built_too) / 2,
        )
    )


if __name__ == "__main__":
    main()
