"""Quarter hours and two hours are told by the time of day wherever something happens, from input to picture."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pytest
from commands import Tieflow
from test_period_lengths import HOURS, MODELS, STUDY, day

import tieflow as api
from tieflow.common.inputs.clock import clock
from tieflow.common.results.store import read_result, write_result
from tieflow.launch.api import load, solve

LENGTHS = (0.25, 2.0)
"""h"""
WAYS = {0.25: "time", 2.0: "hour"}
"""column that tells the periods, by their length"""
BEFORE = re.compile(r"\b(hours?|rows?) \d|at \d+(\.\d+)? h\b")
"""how a period used to be told"""


def timed_day(folder: Path, dt: float) -> Path:
    """The case of ``day``, its periods told by times (quarter hours) or by hours of the day (two hours)."""
    with (day(folder, dt) / "profiles.csv").open() as file:
        rows = list(csv.DictReader(file))
    name = WAYS[dt]
    for k, row in enumerate(rows):
        del row["hour"]
        row[name] = f"2026-06-01T{clock(k * dt)}" if name == "time" else f"{k * dt:g}"
    with (folder / "profiles.csv").open("w") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


@pytest.fixture(params=[(model, dt) for model in MODELS for dt in LENGTHS], ids=str, scope="module")
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, float]:
    """A case, its stored result and the length of its periods."""
    model, dt = request.param
    folder = tmp_path_factory.mktemp("times")
    case = timed_day(MODELS[model](folder / model), dt)
    result = solve(load(case), method="newton")
    assert result is not None and result.check is not None and result.check.passed
    write_result(folder / "run.h5", result)
    return case, folder / "run.h5", dt


def times(dt: float) -> list[str]:
    """At which the periods of the horizon begin."""
    return [clock(8 + k * dt) for k in range(round(HOURS / dt))]


def test_the_summary_the_page_and_the_pictures_tell_times(
    stored: tuple[Path, Path, float], tieflow: Tieflow, tmp_path: Path
) -> None:
    _, file, dt = stored
    shown = tieflow("show", file).out
    assert f"{round(HOURS / dt)} periods of {dt:g} h, 08:00 to 16:00" in " ".join(shown.split())
    assert tieflow("report", file, "--out", tmp_path / "page.html").code == 0
    page = re.sub(r'src="[^"]*"', "", (tmp_path / "page.html").read_text())
    assert f"periods of {dt:g} h, 08:00 to 16:00" in page
    readings = " ".join(
        picture["reading"] for picture in tieflow("plot", file, "--out", tmp_path / "p", "--json").json["pictures"]
    )
    peak = tieflow("kpis", file, "--json").json["kpis"]["peak_substation_kw"]
    assert f" at {peak['time']}; load factor" in readings
    assert readings.count("(at ") == 2, "stored energy"
    for text in (shown, page, readings):
        assert not BEFORE.search(text), BEFORE.search(text)


def test_pictures_have_an_axis_of_times(stored: tuple[Path, Path, float]) -> None:
    result = read_result(stored[1])
    for name in ("schedule", "voltages", "voltage_heat_map"):
        axes = next(axes for axes in api.plot(result, name).axes if axes.get_xlabel())
        assert axes.get_xlabel() == "time of day"
        assert axes.get_xlim() == (8.0, 16.0)
        labels = [label.get_text() for label in axes.get_xticklabels()]
        assert labels == [clock(hour) for hour in axes.get_xticks()] and len(labels) > 3


def test_indicators_have_the_time_beside_the_row_in_words_json_and_csv(
    stored: tuple[Path, Path, float], tieflow: Tieflow
) -> None:
    _, file, dt = stored
    text = tieflow("kpis", file).out
    found = tieflow("kpis", file, "--json").json["kpis"]
    lines = {line["name"]: line for line in csv.DictReader(tieflow("kpis", file, "--csv").out.splitlines())}
    for name in ("peak_substation_kw", "lowest_voltage_pu", "highest_voltage_pu"):
        at = found[name]
        assert at["time"] == clock(at["hour"] * dt) and at["time"] in times(dt)
        assert (lines[name]["hour"], lines[name]["time"]) == (str(at["hour"]), at["time"])
        assert f" at {at['time']}" in text
    assert not BEFORE.search(text)


def test_tables_and_exports_tell_hours_and_times_of_the_day(
    stored: tuple[Path, Path, float], tieflow: Tieflow, tmp_path: Path
) -> None:
    _, file, dt = stored
    table = api.table(read_result(file), "substation")
    assert table.index.name == "hour" and table.index.tolist() == [8 + k * dt for k in range(round(HOURS / dt))]
    assert tieflow("export", file, "--out", tmp_path / "out").code == 0
    for name in ("substation.csv", "pv.csv"):
        rows = list(csv.DictReader((tmp_path / "out" / name).open()))
        assert list(dict.fromkeys(row["time"] for row in rows)) == times(dt)
        assert all(clock(int(row["hour"]) * dt) == row["time"] for row in rows)
    assert next(csv.reader((tmp_path / "out" / "voltages.csv").open()))[1:] == times(dt)
    master = (tmp_path / "out" / "Master.dss").read_text()
    assert re.findall(r"^! (\d\d:\d\d)$", master, re.MULTILINE) == times(dt)


def test_what_cannot_be_kept_is_told_with_its_time(
    stored: tuple[Path, Path, float], tieflow: Tieflow, tmp_path: Path
) -> None:
    case, _, dt = stored
    ended = tieflow(
        "solve", case, "--method", "newton", "--set", "substation_peak_kw=20", "--output", tmp_path / "a.h5"
    )
    assert ended.code == 3
    assert re.search(r"needs [\d.]+ kW at \d\d:\d\d, and \d+ of \d+ periods are beyond it", ended.err)
    limits = ("--set", "v_max_pu=1.0", "--set", "v_min_pu=0.9")
    ended = tieflow("solve", case, "--method", "newton", *limits, "--output", tmp_path / "b.h5", "--json")
    told: dict[str, Any] = {}
    if load(case).is_balanced:
        assert ended.code == 3
        assert re.search(r" pu at \w+ at \d\d:\d\d, limit 1\.00000 pu", ended.err)
    else:
        assert ended.code == 5
        told = ended.json
        assert {overstep["time"] for overstep in told["oversteps"]} == set(times(dt))
        shown = tieflow("show", tmp_path / "b.h5").out
        assert re.search(r"expected: voltage at rg60\.\d, \d\d:\d\d: ", shown)
        assert not BEFORE.search(shown)
    assert not BEFORE.search(ended.err)
    both = (*told.get("oversteps", ()), *(told.get("checker") or {}).get("violations", ()))
    assert all(clock(found["hour"] * dt) == found["time"] for found in both)


def test_a_study_and_its_plain_rule_speak_of_times(
    stored: tuple[Path, Path, float], tieflow: Tieflow, tmp_path: Path
) -> None:
    case, _, dt = stored
    own = [f"{clock(k * dt)},{0.5 + 0.4 * (k * dt > 12)}" for k in range(round(24 / dt))]
    (tmp_path / "own.csv").write_text("\n".join(["time,load_pu", *own, ""]))
    bus = "d" if load(case).is_balanced else "675"
    head, devices = STUDY.format(case=case, bus=bus).split("[devices.sun]")
    study = tmp_path / "study.toml"
    study.write_text(f'{head}[profiles]\ncsv = "own.csv"\n[devices.sun]{devices}')
    assert "both: " in (planned := tieflow("study", study, "--dry-run").out) and "08:00 to 16:00, " in planned
    file = tmp_path / "study.h5"
    ended = tieflow("study", study, "--output", file, "--csv", tmp_path / "study.csv")
    assert ended.code in (0, 5), ended.err
    lines = [line for line in csv.DictReader((tmp_path / "study.csv").open()) if line["hour"]]
    assert lines and all(clock(int(line["hour"]) * dt) == line["time"] for line in lines)
    pictures = tieflow("plot", file, "--out", tmp_path / "p", "--json").json["pictures"]
    readings = {picture["file"]: picture["reading"] for picture in pictures}
    assert re.search(r" in both \(1[246]:\d\d\)", readings["study_substation.png"])
    assert re.search(r" % at \d\d:\d\d and most in both ", readings["study_battery_soc.png"])
    assert tieflow("report", file, "--out", tmp_path / "page.html").code == 0
    page = re.sub(r'src="[^"]*"', "", (tmp_path / "page.html").read_text())
    for text in (planned, ended.out, page, *readings.values()):
        assert not BEFORE.search(text), BEFORE.search(text)
    battery = api.table(api.read(file, "both", rule=True), "batteries")
    charging = battery["charge_kw"].sum(axis=1) > 0
    assert charging.index[charging].tolist() == [hour for hour in charging.index if hour < 12]
    discharging = battery["discharge_kw"].sum(axis=1) > 0
    assert discharging.index[discharging].tolist() == [hour for hour in charging.index if hour >= 12]
