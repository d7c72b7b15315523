"""``python tests/benchmarks/reproduction.py FOLDER``: the computed tables of docs/reproduction.md, from the files
``ieee123_*.h5`` in FOLDER that ``tieflow study`` has written."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from tieflow.common.arrays import Floats
from tieflow.common.results.result import Result
from tieflow.common.results.schedule import NetworkState
from tieflow.common.results.study import StoredStudy
from tieflow.common.results.study_store import read_study
from tieflow.launch.figures.kpis import shown_state
from tieflow.launch.figures.study import VariantFigures, figures

STUDIES = ("ieee123_scenarios", "ieee123_penetration", "ieee123_battery", "ieee123_mixed")


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    for line in (header, ["---"] * len(header), *rows):
        print("|", " | ".join(str(cell) for cell in line), "|")
    print()


def volts(result: Result, bus: str) -> Floats:
    """(phase, T) magnitudes to neutral, V."""
    feeder = result.case.multiphase_feeder
    nodes = np.flatnonzero(feeder.node_bus == feeder.buses.index(bus))
    state, _ = shown_state(result)
    return np.asarray(state.v_pu[nodes - feeder.roots] * feeder.v_base[nodes, None])


def swing(result: Result, bus: str) -> float:
    """Half of the day's range of a bus's voltage, of the phase that varies most, V."""
    return float(np.ptp(volts(result, bus), axis=1).max() / 2)


def savings(found: Sequence[VariantFigures]) -> None:
    rows = []
    for variant in found:
        own, rule = variant.optimized, variant.rule
        if own is None or rule is None or variant.saving is None:
            continue
        best, plain = own.kpis.kpis, rule.kpis.kpis
        rows.append(
            (
                variant.name,
                f"{own.objective:,.2f}",
                f"{rule.objective:,.2f}",
                f"{100 * (1 - own.objective / rule.objective):.2f} %",
                f"{best.energy_cost:,.2f}",
                f"{plain.energy_cost:,.2f}",
                f"{variant.saving_percent:.2f} %",
                f"{best.losses_kwh:,.0f} / {plain.losses_kwh:,.0f}",
                f"{best.peak_substation_kw.value:,.0f} / {plain.peak_substation_kw.value:,.0f}",
                f"{best.lowest_voltage_pu.value:.3f}..{best.highest_voltage_pu.value:.3f}",
                len(variant.newly_outside or ()),
                variant.verdict,
            )
        )
    header = (
        *("variant", "objective, $", "rule", "less", "energy, $", "rule", "less", "losses, kWh", "peak, kW", "pu"),
        *("newly outside", "verdict"),
    )
    table(header, rows)


def agreement(study: StoredStudy) -> str:
    """What the energy cost in areas differs by from that of one area, relative."""
    for name, run in study.variants.items():
        if name.endswith(" (four areas)") and run.optimized is not None:
            whole = study.variants[name.removesuffix(" (four areas)")].optimized
            assert whole is not None
            away, rounds = run.optimized.cost / whole.cost - 1, len(run.optimized.history.cost)
            return f"Four areas against one: {away:+.1e} in {rounds} rounds.\n"
    return ""


def table_1(study: StoredStudy) -> None:
    rows = []
    for name, run in study.variants.items():
        assert run.optimized is not None
        bus = {"Test B": "89", "Test C": "67"}.get(name, "100")
        by_rule = "" if run.rule is None else f"{swing(run.rule, '100'):.1f}"
        rows.append((name, bus, f"{swing(run.optimized, '100'):.1f}", by_rule, f"{swing(run.optimized, bus):.1f}"))
    table(("variant", "battery at", "bus 100, +-V", "by rule, +-V", "battery's bus, +-V"), rows)


def table_2(result: Result) -> None:
    state, _ = shown_state(result)
    s = phase_1(result, state)
    v = volts(result, "150")[0]
    rows = [(t + 1, f"{s[t]:.1f}", f"{v[t]:.2f}", f"{1000 * s[t] / v[t]:.1f}") for t in (0, 9, 23)]
    table(("hour", "S1, kVA", "V1, V", "I1, A"), rows)


def phase_1(result: Result, state: NetworkState) -> Floats:
    """(T,) apparent power out of the substation in phase 1, kVA."""
    feeder = result.case.multiphase_feeder
    node = np.flatnonzero(feeder.node_bus == feeder.buses.index("150"))[0] - feeder.roots
    return np.asarray(np.hypot(state.p_kw[node], state.q_kvar[node]))


def table_3(found: Sequence[VariantFigures]) -> None:
    rows = []
    for variant in found:
        assert variant.optimized is not None
        k = variant.optimized.kpis.kpis
        rows.append(
            (
                variant.name,
                f"{k.losses_kwh / 24:.1f} (peak {k.peak_losses_kw:.0f})",
                "" if k.line_losses_kwh is None else f"{k.line_losses_kwh / 24:.1f}",
                f"{k.peak_substation_kw.value:,.0f}",
                f"{k.load_factor:.3f}",
                f"{k.mean_voltage_deviation_percent:.2f} %, VPI {k.voltage_performance_index:.4f}",
                f"{k.system_efficiency_percent:.2f}",
            )
        )
    table(("variant", "losses, kW", "of lines", "peak, kW", "load factor", "voltage deviation", "efficiency, %"), rows)


def table_4(found: Sequence[VariantFigures]) -> None:
    known = {variant.name: variant for variant in found}
    own = known["full integration"]
    others = {name: known[name].optimized for name in known if name in ("base case", "with PV", "with PV and wind")}
    rows = []
    for name, run in {**others, "the rule": own.rule}.items():
        assert own.optimized is not None and run is not None
        ours, theirs = own.optimized.kpis.kpis, run.kpis.kpis
        kinds = ("losses_kwh", "transformer_losses_kwh", "line_losses_kwh")
        less = [1 - getattr(ours, kind) / getattr(theirs, kind) for kind in kinds]
        rows.append((name, *[f"{100 * share:.1f} %" for share in less]))
    table(("full integration against", "total less", "transformers", "lines"), rows)


def shapes(study: StoredStudy) -> None:
    """What the pictures of the devices show, in numbers."""
    monitored = study.head.monitored_bus
    rows = []
    for name, run in study.variants.items():
        result = run.optimized
        assert result is not None
        plan = result.schedule
        pv, wind = plan.pv["p_kw"].sum(axis=0), plan.wind["p_kw"].sum(axis=0)
        battery = (plan.batteries["discharge_kw"] - plan.batteries["charge_kw"]).sum(axis=0)
        flexible = plan.flexible_loads["p_kw"]
        v = volts(result, monitored)[0]
        rows.append(
            (
                name,
                f"{pv.max(initial=0):,.0f} at {int(pv.argmax())}" if pv.any() else "",
                f"{wind.max():,.0f} at {int(wind.argmax())}" if wind.any() else "",
                "; ".join(f"{load.min():.0f}..{load.max():.0f}" for load in flexible),
                f"{battery.min():.0f}..{battery.max():.0f}" if battery.any() else "",
                f"{v.min():.0f}..{v.max():.0f} ({int(v.argmin())}, {int(v.argmax())} h)",
            )
        )
    table(
        ("variant", "PV peak, kW", "wind peak, kW", "flexible loads, kW", "battery, kW", f"V at {monitored}.1, V"), rows
    )


def main(folder: Path) -> None:
    studies = {name: read_study(folder / f"{name}.h5") for name in STUDIES}
    for name, study in studies.items():
        print(f"## {name}\n")
        savings(figures(study))
        print(agreement(study))
        shapes(study)
    print("## Table 1\n")
    table_1(studies["ieee123_battery"])
    base = studies["ieee123_scenarios"].variants["base case"].optimized
    assert base is not None
    print("## Table 2\n")
    table_2(base)
    print("## Table 3\n")
    table_3(figures(studies["ieee123_scenarios"]))
    print("## Table 4\n")
    table_4(figures(studies["ieee123_scenarios"]))
    table_4(figures(studies["ieee123_mixed"]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
