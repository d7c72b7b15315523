"""One physical day in periods of a quarter hour, an hour and two hours: the same costs, prices and energies."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Tieflow
from conftest import write_small

from tieflow.common.case import find_case
from tieflow.common.results.result import Result
from tieflow.common.results.store import read_result
from tieflow.common.results.study_store import read_study

LENGTHS = (0.25, 1.0, 2.0)
"""h"""
STUDY = """
case = "{case}"
areas = 1

[rule]
charge_hours = [8, 11]
discharge_hours = ["12:00", "16:00"]

[devices.sun]
kind = "pv"
bus = "{bus}"
p_rated_kw = 50
s_rated_kva = 60

[devices.store]
kind = "battery"
bus = "{bus}"
p_rated_kw = 20
s_rated_kva = 24
energy_kwh = 80
soc_initial = 0.5

[[variants]]
name = "both"
devices = ["sun", "store"]
"""
HOURS = 8
"""of the day, in its middle, whatever the length of a period"""


def day(folder: Path, dt: float, **settings: object) -> Path:
    """A case whose profiles, given by the hour, are constant over two hours each, in periods of ``dt``."""
    with (folder / "profiles.csv").open() as file:
        hourly = list(csv.DictReader(file))[::2]
    rows = [hourly[int(k * dt / 2)] | {"hour": str(k)} for k in range(round(24 / dt))]
    with (folder / "profiles.csv").open("w") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    path = folder / "case.toml"
    changed = {"periods": round(HOURS / dt), "dt_hours": dt, **settings}
    kept = [line for line in path.read_text().splitlines() if line.split(" ")[0] not in changed]
    path.write_text("\n".join([*(f"{name} = {value}" for name, value in changed.items()), *kept]))
    return folder


def balanced(folder: Path) -> Path:
    write_small(folder)
    rows = [f"{hour},{0.6 + 0.4 * np.sin(hour / 8):.4f},{max(0, np.sin((hour - 6) / 4)):.4f}" for hour in range(24)]
    (folder / "profiles.csv").write_text("\n".join(["hour,load_pu,pv_pu", *rows, ""]))
    return folder


def multiphase(folder: Path) -> Path:
    shutil.copytree(find_case("ieee13"), folder)
    return folder


MODELS = {"balanced": balanced, "multiphase": multiphase}


def by_length(values: Any, dt: float) -> Any:
    """(..., T) at the end of each two hours."""
    return np.asarray(values)[..., round(2 / dt) - 1 :: round(2 / dt)]


@pytest.fixture
def solved(tieflow: Tieflow, tmp_path: Path) -> Callable[..., dict[float, tuple[dict[str, Any], Result]]]:
    """``solved(model, arguments, **settings)``: figures and result for each length of a period."""

    def run(model: str, arguments: tuple[str, ...], **settings: object) -> dict[float, tuple[dict[str, Any], Result]]:
        found = {}
        for dt in LENGTHS:
            case = day(MODELS[model](tmp_path / f"{model}{dt}"), dt, **settings)
            file = tmp_path / f"{model}{dt}.h5"
            ended = tieflow("solve", case, "--json", "--output", file, *arguments)
            assert ended.code in (0, 5), ended.err
            found[dt] = ended.json, read_result(file)
        return found

    return run


@pytest.mark.parametrize(
    ("model", "method"),
    [
        *(("balanced", method) for method in ("centralized", "newton", "admm", "dlmp", "enapp")),
        *(("multiphase", method) for method in ("centralized", "newton")),
    ],
)
def test_a_day_costs_the_same_however_it_is_divided(
    solved: Callable[..., Any], tieflow: Tieflow, tmp_path: Path, model: str, method: str
) -> None:
    runs = solved(model, ("--method", method, "--tolerance", "1e-7", "--max-rounds", "500"))
    figures, hourly = runs[1.0]
    agreed = 1e-4 if method in ("dlmp", "enapp", "admm") else 1e-6
    for dt in LENGTHS:
        other, result = runs[dt]
        assert other["exit_code"] == 0
        for name in ("cost", "objective", "substation_energy_kwh", "losses_kwh"):
            assert other[name] == pytest.approx(figures[name], rel=agreed), (dt, name)
        assert other["checker"]["cost"] == pytest.approx(figures["checker"]["cost"], rel=agreed)
        stored = [by_length(r.schedule.batteries["energy_kwh"], d) for d, r in ((dt, result), (1.0, hourly))]
        np.testing.assert_allclose(*stored, atol=0.02 if agreed > 1e-5 else 2e-3)
        prices = [(d, r.state.nodal_price) for d, r in ((dt, result), (1.0, hourly))]
        if prices[0][1] is not None:
            np.testing.assert_allclose(*(by_length(price, d) for d, price in prices), rtol=1e-3)
        assert tieflow("check", tmp_path / f"{model}{dt}.h5", "--json").code == 0


@pytest.mark.parametrize("model", MODELS)
def test_key_figures_and_files_are_those_of_the_day(
    solved: Callable[..., Any], tieflow: Tieflow, tmp_path: Path, model: str
) -> None:
    runs = solved(model, ("--method", "newton"))
    found = {dt: tieflow("kpis", tmp_path / f"{model}{dt}.h5", "--json").json["kpis"] for dt in runs}

    def numbers(value: Any, name: str = "") -> dict[str, float]:
        if isinstance(value, dict):
            return {k: v for key, one in value.items() for k, v in numbers(one, f"{name}.{key}").items()}
        return {name: value} if isinstance(value, int | float) and not name.endswith("hour") else {}

    hourly = numbers(found[1.0])
    assert len(hourly) > 10
    for dt in LENGTHS:
        for name, value in numbers(found[dt]).items():
            assert value == pytest.approx(hourly[name], rel=1e-3, abs=1e-3), (dt, name)
        file = tmp_path / f"{model}{dt}.h5"
        assert tieflow("show", file).code == 0
        assert tieflow("export", file, "--out", tmp_path / f"csv{dt}").code == 0
        assert tieflow("report", file, "--out", tmp_path / f"{dt}.html").code == 0


def test_a_limit_that_cannot_be_kept_costs_the_same_and_so_do_weights(solved: Callable[..., Any]) -> None:
    runs = solved("multiphase", ("--method", "newton"), v_max_pu=1.05, weights="{ energy = 1.0, losses = 0.1 }")
    figures, hourly = runs[1.0]
    assert hourly.oversteps
    for other, _ in runs.values():
        assert other["exit_code"] == figures["exit_code"] == 5
        assert other["objective"] == pytest.approx(figures["objective"], rel=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_a_study_gives_the_same_by_its_rule_and_optimized(tieflow: Tieflow, tmp_path: Path, model: str) -> None:
    found = {}
    for dt in LENGTHS:
        case = day(MODELS[model](tmp_path / f"{model}{dt}"), dt)
        study = tmp_path / f"study{dt}.toml"
        study.write_text(STUDY.format(case=case, bus={"balanced": "d", "multiphase": "675"}[model]))
        file = tmp_path / f"study{dt}.h5"
        assert tieflow("study", study, "--json", "--output", file).code == 0
        run = read_study(file).variants["both"]
        assert run.optimized is not None and run.rule is not None
        assert run.rule.schedule.batteries["charge_kw"].any()
        found[dt] = run.optimized.cost, run.rule.cost
    for dt in LENGTHS:
        assert found[dt] == pytest.approx(found[1.0], rel=1e-4)
