"""Several devices at one place, told apart by their names from the table to OpenDSS and back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_circuits import text

import tieflow
from tieflow.common.case import Case
from tieflow.common.results.store import read_result, write_result
from tieflow.launch.commands.import_feeder import import_feeder
from tieflow.launch.runs.solve import Options, solve


def three(case: Case, bus: str) -> Case:
    """Two PV systems and two batteries more at a bus, one of each with a name."""
    pv = tieflow.PV(bus=bus, p_rated_kw=20, s_rated_kva=24)
    battery = tieflow.Battery(bus=bus, p_rated_kw=10, s_rated_kva=12, energy_kwh=40)
    case = replace(case, pv=(), batteries=())
    case = tieflow.with_pv(case, pv, pv.model_copy(update={"name": "roof", "p_rated_kw": 10.0}))
    return tieflow.with_batteries(case, battery, battery, battery.model_copy(update={"name": "cellar"}))


@pytest.mark.parametrize(("name", "bus"), [("ieee123", "1"), ("ieee13", "675")])
@pytest.mark.parametrize("areas", [1, 3])
def test_devices_that_share_a_place_are_scheduled_confirmed_and_stored_each(
    tmp_path: Path, name: str, bus: str, areas: int
) -> None:
    case = tieflow.with_areas(three(tieflow.load(name, periods=3), bus), areas)
    result = solve(case, Options("newton"))
    assert result.check is not None and result.check.passed
    assert [unit.label for unit in case.pv] == [bus, "roof"]
    assert [unit.label for unit in case.batteries] == [bus, f"{bus} (2)", "cellar"]
    # One large battery does what three alike do.
    one = tieflow.Battery(bus=bus, p_rated_kw=30, s_rated_kva=36, energy_kwh=120)
    together = solve(tieflow.with_batteries(replace(case, batteries=()), one), Options("newton", check=False))
    assert result.objective == pytest.approx(together.objective, rel=1e-6)
    assert tieflow.table(result, "pv")["p_kw"].columns.tolist() == [bus, "roof"]
    write_result(tmp_path / "run.h5", result)
    assert [unit.label for unit in read_result(tmp_path / "run.h5").case.batteries] == [bus, f"{bus} (2)", "cellar"]


def test_an_import_keeps_the_names_of_opendss_and_a_bus_with_two_inverters_solves(tmp_path: Path) -> None:
    master = tmp_path / "Master.dss"
    master.write_text(
        text(
            "new line.l1 bus1=b bus2=c phases=3 r1=0.1 x1=0.2 length=1 units=km",
            "new load.one bus1=c phases=3 kv=12.47 kw=100 kvar=30",
            "new pvsystem.east bus1=c phases=3 kv=12.47 kva=30 pmpp=25",
            "new pvsystem.west bus1=c phases=3 kv=12.47 kva=40 pmpp=30",
        )
    )
    import_feeder(master, tmp_path / "case")
    case = tieflow.load(tmp_path / "case", periods=2)
    assert [unit.label for unit in case.pv] == ["east", "west"]
    result = solve(case, Options())
    assert result.check is not None and result.check.passed
    np.testing.assert_allclose(result.schedule.pv["p_kw"][1], 30 / 25 * result.schedule.pv["p_kw"][0])
