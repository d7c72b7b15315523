"""A feeder of one bus has no branches: it is solved, confirmed and told like any other."""

from __future__ import annotations

from pathlib import Path

import pytest

from tieflow.common.case import read_case
from tieflow.common.results.result import Result
from tieflow.coordinator.methods import METHODS
from tieflow.launch.figures.kpis import kpi_report
from tieflow.launch.plots.figures import write_pictures
from tieflow.launch.runs.plain_rule import Rule, run_rule
from tieflow.launch.runs.solve import Options, solve

FILES = {
    "profiles.csv": "hour,load_pu,pv_pu,price_per_kwh\n0,1,0,0.1\n1,0.5,1,0.3\n",
    "batteries.csv": "bus,p_rated_kw,s_rated_kva,energy_kwh\na,3,4,100\n",
}
BALANCED = {
    "case.toml": 'voltage_kv = 4.16\nsubstation_bus = "a"\nsubstation_v_pu = 1.02\nperiods = 2\ndt_hours = 12\n',
    "buses.csv": "bus,p_load_kw,q_load_kvar,q_cap_kvar\na,10,5,2\n",
    "branches.csv": "from_bus,to_bus,r_ohm,x_ohm\n",
}
CIRCUIT = """\
clear
new circuit.one basekv=4.16 bus1=a pu=1.02
new load.l bus1=a kv=4.16 kw=10 kvar=3
set voltagebases=[4.16]
calcvoltagebases
solve
"""
MULTIPHASE = {"case.toml": 'model = "multiphase"\nperiods = 2\ndt_hours = 12\n', "circuit.dss": CIRCUIT}


def solved(folder: Path, files: dict[str, str], method: str) -> Result:
    for name, text in {**FILES, **files}.items():
        (folder / name).write_text(text)
    return solve(read_case(str(folder)), Options(method))


@pytest.mark.parametrize("method", METHODS)
def test_a_balanced_feeder_of_one_bus_is_solved_and_confirmed(tmp_path: Path, method: str) -> None:
    result = solved(tmp_path, BALANCED, method)
    assert result.converged
    assert result.check is not None
    assert result.check.passed
    # The battery moves what it can from the cheap half of the day to the dear one.
    assert result.schedule.batteries["discharge_kw"][0].sum() > 1
    assert result.cost < run_rule(result.case, Rule()).cost


@pytest.mark.parametrize("method", ["newton", "admm"])
def test_a_multi_phase_feeder_of_one_bus_is_solved_and_confirmed(tmp_path: Path, method: str) -> None:
    result = solved(tmp_path, MULTIPHASE, method)
    assert result.converged
    assert result.check is not None
    assert result.check.passed


@pytest.mark.parametrize("files", [BALANCED, MULTIPHASE], ids=["balanced", "multi-phase"])
def test_a_feeder_of_one_bus_has_key_figures_and_pictures(tmp_path: Path, files: dict[str, str]) -> None:
    result = solved(tmp_path, files, "newton")
    assert kpi_report(result).kpis.lowest_voltage_pu.value == pytest.approx(1.02, abs=1e-3)
    readings = write_pictures(result, tmp_path / "plots", "png")
    assert readings["area_map.png"] == "The feeder is one area of 1 bus."
