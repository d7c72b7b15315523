"""What was solved: a result tells when and how it was made, of which settings, devices and frozen controls."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from datetime import datetime
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from commands import Tieflow
from stored_results import older
from studies import read, write_study

from tieflow.common.case import Case, read_case
from tieflow.common.results.result import Result
from tieflow.common.results.store import read_result, write_result
from tieflow.launch.commands.import_feeder import import_feeder
from tieflow.launch.figures.solved import PYTHON, UNKNOWN, frozen_words, in_short, what_was_solved
from tieflow.launch.figures.summary import summary
from tieflow.launch.report.html_report import origin
from tieflow.launch.runs.solve import Options, solve
from tieflow.launch.studies.variants import Asked, Resolved, commanded, resolve

MODEL = """\
clear
new circuit.m basekv=12.47 pu=1 bus1=s
new line.l bus1=s bus2=a length=1 r1=0.3 x1=0.6
new transformer.reg phases=3 windings=2 buses=(a r) kvs=(12.47 12.47) kvas=(5000 5000) xhl=0.1 %loadloss=0.01
new transformer.off phases=3 windings=2 buses=(r o) kvs=(12.47 0.48) kvas=(500 500) taps=(1 1.025)
new capacitor.switched bus1=r kv=12.47 kvar=300
new capacitor.fixed bus1=r kv=12.47 kvar=100
new load.big bus1=r kv=12.47 kw=3000 kvar=1200
new load.small bus1=o kv=0.48 kw=100 kvar=20
"""
CONTROLS = """\
new regcontrol.rc transformer=reg winding=2 vreg=124 band=2 ptratio=60
new capcontrol.cc capacitor=switched element=line.l type=kvar on=900 off=400
"""
END = "set voltagebases=[12.47 0.48]\ncalcvoltagebases\nsolve\n"


def imported(folder: Path, controls: str = CONTROLS) -> Case:
    """A case made of the model."""
    master = folder / "Master.dss"
    master.write_text(MODEL + controls + END)
    import_feeder(master, folder / "case")
    return read_case(str(folder / "case"), {"periods": 2, "v_min_pu": 0.8, "v_max_pu": 1.2})


def test_an_imported_case_knows_the_controls_that_were_frozen_and_where_they_stand(tmp_path: Path) -> None:
    case = imported(tmp_path)
    found = {item.element: item for item in case.multiphase_feeder.frozen}
    # A transformer off its nominal tap and a capacitor that is on have no control.
    assert set(found) == {"transformer.reg", "capacitor.switched"}
    assert found["transformer.reg"].control == "regcontrol.rc"
    assert found["transformer.reg"].state.startswith("taps (1 1.0") and found["transformer.reg"].state != "taps (1 1)"
    assert (found["capacitor.switched"].control, found["capacitor.switched"].state) == ("capcontrol.cc", "states (1)")
    words = frozen_words(case.multiphase_feeder.frozen)
    assert words.startswith("1 regulator frozen at transformer.reg taps (1 1.0")
    assert words.endswith("; 1 capacitor frozen at capacitor.switched states (1)")


def test_states_are_those_that_are_solved_also_after_a_change_of_the_circuit(tmp_path: Path) -> None:
    case = commanded(imported(tmp_path), ["edit transformer.reg taps=(1 0.95)", "edit capacitor.fixed states=(0)"], "x")
    assert {item.element: item.state for item in case.multiphase_feeder.frozen} == {
        "transformer.reg": "taps (1 0.95)",
        "capacitor.switched": "states (1)",
        "capacitor.fixed": "states (0)",
    }


def test_a_model_without_controls_has_none_frozen(tmp_path: Path) -> None:
    case = imported(tmp_path, "")
    assert case.multiphase_feeder.frozen == ()
    assert frozen_words(()) == "none"


def test_a_circuit_without_notes_on_controls_tells_what_they_could_have_moved() -> None:
    found = read_case("ieee13").multiphase_feeder.frozen
    assert [item.element for item in found] == [
        *("transformer.reg1", "transformer.reg2", "transformer.reg3", "capacitor.cap1", "capacitor.cap2"),
    ]
    assert {item.control for item in found} == {""}
    assert frozen_words(found).startswith("3 transformers frozen at transformer.reg1 taps (1 1.05625), ")
    assert "2 capacitors" in frozen_words(found)


@pytest.fixture(scope="module")
def result() -> Result:
    """Two hours of the IEEE 13 bus feeder."""
    return solve(read_case("ieee13", {"periods": 2, "v_max_pu": 1.08}), Options())


def test_settings_off_their_defaults_are_told_with_whether_they_were_given_for_the_run(result: Result) -> None:
    settings = {setting.name: setting for setting in what_was_solved(result).settings}
    assert set(settings) == {"model", "v_max_pu", "periods"}
    assert (settings["v_max_pu"].value, settings["v_max_pu"].default, settings["v_max_pu"].is_override) == (
        *("1.08", "1.05"),
        True,
    )
    assert not settings["model"].is_override
    # One that is given its default is told too: case.toml may have another.
    kept = what_was_solved(replace(result, case=read_case("ieee13", {"v_max_pu": 1.05}))).settings
    assert [(item.name, item.value) for item in kept if item.is_override] == [("v_max_pu", "1.05")]


def test_terminal_page_and_json_tell_the_same(result: Result) -> None:
    told = replace(result, command="tieflow solve ieee13 --set 'a=<b>'")
    short, page, json = dict(in_short(told)), unescape(origin(told)), summary(told)["solved"]
    assert short["devices"] == "6 PV systems (1,090 kW), 3 batteries (450 kW, 1,800 kWh)"
    assert short["changed settings"] == "v_max_pu = 1.08, periods = 2"
    for words in (told.date, told.command, "6 PV systems (1,090 kW)", "3 batteries (450 kW, 1,800 kWh)"):
        assert words in page
    assert "1.08 (default 1.05; in place of case.toml)" in page
    assert "<td>taps (1 1.05625)</td>" in page
    assert "<b>" not in origin(told)
    assert json == {**asdict(what_was_solved(told)), "versions": dict(told.versions)}
    assert (json["date"], json["command"]) == (told.date, told.command)
    assert json["frozen"][0] == {"element": "transformer.reg1", "control": "", "state": "taps (1 1.05625)"}
    assert json["devices"][1]["energy_kwh"] == 1800


def test_the_date_has_its_zone_and_python_makes_no_command(result: Result) -> None:
    assert datetime.fromisoformat(result.date).tzinfo is not None
    assert abs((datetime.now().astimezone() - datetime.fromisoformat(result.date)).total_seconds()) < 3600
    assert dict(in_short(result))["command"] == PYTHON


def test_the_command_is_stored_as_a_shell_reads_it_and_shown_again(tieflow: Tieflow, small: Path) -> None:
    folder = small.rename(small.with_name("a case"))
    assert tieflow("solve", folder, "--set", "v_max_pu=1.06", "--output", "run.h5").code == 0
    shown = tieflow("show", "run.h5")
    command = f"tieflow solve '{folder}' --set v_max_pu=1.06 --output run.h5"
    assert command in shown.out
    assert "changed settings: v_max_pu = 1.06\n" in shown.out
    assert tieflow("show", "run.h5", "--json").json["solved"]["command"] == command


def test_a_file_of_an_earlier_version_says_what_it_lacks(result: Result, tmp_path: Path) -> None:
    path = tmp_path / "old.h5"
    write_result(path, result)
    with older(path) as file:
        for name in ("date", "command", "loose_because"):
            del file["summary"].attrs[name]
        del file["case/overrides"]
        for name in ("energy_kwh", "device_kw"):
            del file["check/tolerances"].attrs[name]
    old = read_result(path)
    short = dict(in_short(old))
    assert short["date"] == short["command"] == short["changed settings"] == UNKNOWN
    assert short["devices"].startswith("6 PV systems") and "3 transformers" in short["frozen controls"]
    assert origin(old).count(UNKNOWN) == 3
    assert old.check is not None
    assert (old.check.tolerances.energy_kwh, old.check.tolerances.device_kw) == (0, 0)


def test_the_same_inputs_give_the_same_result_but_for_date_and_times(result: Result) -> None:
    again = solve(read_case("ieee13", {"periods": 2, "v_max_pu": 1.08}), Options())
    timed = {"elapsed_s", "coordinator_s", "communication_s", "solve_s", "area_s", "cpu_s"}
    for one, other, skipped in (
        (result, again, {"date", "total_s", "case", "schedule", "state", "history", "check"}),
        (result.history, again.history, timed),
        (result.state, again.state, set()),
        (result.check, again.check, {"state", "battery_energy_kwh"}),
    ):
        for field in fields(one):  # type: ignore[arg-type]
            if field.name not in skipped:
                np.testing.assert_equal(getattr(one, field.name), getattr(other, field.name), field.name)
    np.testing.assert_equal(dict(result.schedule.batteries), dict(again.schedule.batteries))


def test_a_study_keeps_its_command_with_every_run_and_settings_of_its_file_count_as_given(
    tieflow: Tieflow, small: Path
) -> None:
    path = write_study(small.parent, 'name = "with PV"', 'name = "with PV"\nsettings = { v_max_pu = 1.06 }')
    assert tieflow("study", path).code == 0
    for extra in ((), ("--rule",)):
        solved = tieflow("show", "study.h5", "--variant", "with PV", *extra, "--json").json["solved"]
        assert solved["command"] == f"tieflow study {path}"
        assert [item["name"] for item in solved["settings"] if item["is_override"]] == ["v_max_pu"]


def test_a_variant_is_the_same_run_wherever_its_settings_come_from(small: Path) -> None:
    file = read(small.parent)
    (first, *_), (other, *_) = resolve(file), resolve(file, Asked(settings={"scd_weight": 1e-3}))
    assert isinstance(first, Resolved) and isinstance(other, Resolved)
    assert (first.case.overrides, other.case.overrides) == ((), ("scd_weight",))
    assert first.digest == other.digest
