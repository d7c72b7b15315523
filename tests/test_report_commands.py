"""The commands that look at a stored run: what they print and write, and that a refusal leaves nothing behind."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest
from study_results import solved_study

from tieflow.common.results.result import Result
from tieflow.common.results.store import write_result
from tieflow.common.results.study_store import write_variant
from tieflow.launch.commands import report as report_commands
from tieflow.launch.figures.kpis import Kpis, kpi_report
from tieflow.launch.figures.study import figures
from tieflow.launch.plots import study as study_plots
from tieflow.launch.report import study_page

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def stored(small_result: Result, tmp_path: Path) -> Path:
    path = tmp_path / "run.h5"
    write_result(path, small_result)
    return path


@pytest.fixture
def doubtful(small_result: Result, tmp_path: Path) -> Path:
    """Neither converged nor checked."""
    path = tmp_path / "bad.h5"
    write_result(path, replace(small_result, converged=False, check=None))
    return path


@pytest.fixture
def few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the first two pictures, for speed."""
    from tieflow.launch.plots import figures as plots
    from tieflow.launch.report import html_report

    known = plots.pictures
    for module in (plots, html_report):
        monkeypatch.setattr(module, "pictures", lambda result: known(result)[:2])


def test_kpis_prints_a_table_with_its_source(run: Run, stored: Path, small_result: Result) -> None:
    code, out, err = run("kpis", stored)
    assert (code, err) == (0, "")
    assert out.startswith("Source: OpenDSS replay; powers and energies per phase\n")
    assert f"{kpi_report(small_result).kpis.losses_kwh:,.2f} kWh" in out
    assert "Load flexibility" not in out


def test_kpis_as_json_and_as_csv_tell_the_same(run: Run, stored: Path, small_result: Result) -> None:
    code, out, _ = run("kpis", stored, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["source"] == "OpenDSS replay"
    assert found["doubts"] == []
    expected = kpi_report(small_result).kpis
    assert found["kpis"]["losses_kwh"] == expected.losses_kwh
    assert found["kpis"]["lowest_voltage_pu"]["place"] == expected.lowest_voltage_pu.place
    assert found["kpis"]["load_flexibility_percent"] is None
    table = list(csv.DictReader(run("kpis", stored, "--csv")[1].splitlines()))
    assert [line["name"] for line in table] == [item.name for item in fields(Kpis)]
    assert {line["name"]: line["value"] for line in table}["losses_kwh"] == repr(expected.losses_kwh)


def test_kpis_of_a_run_not_to_be_used_say_so(run: Run, doubtful: Path) -> None:
    code, out, _ = run("kpis", doubtful)
    assert code == 0
    assert "optimizer (not checked in OpenDSS)" in out
    assert "NOT CONVERGED\nNOT CHECKED IN OPENDSS" in out
    assert json.loads(run("kpis", doubtful, "--json")[1])["doubts"] == ["NOT CONVERGED", "NOT CHECKED IN OPENDSS"]


@pytest.mark.usefixtures("few_pictures")
def test_plot_makes_a_folder_beside_and_prints_the_readings(run: Run, stored: Path, tmp_path: Path) -> None:
    code, out, err = run("plot", stored)
    assert (code, err) == (0, "")
    assert sorted(path.name for path in (tmp_path / "run_plots").iterdir()) == ["batteries.png", "substation.png"]
    assert "substation.png: Substation power peaks at " in out
    (tmp_path / "empty").mkdir()
    code, out, _ = run("plot", stored, "--out", "empty", "--format", "svg", "--json")
    found = json.loads(out)
    assert (code, found["folder"]) == (0, str(tmp_path / "empty"))
    assert [picture["file"] for picture in found["pictures"]] == ["substation.svg", "batteries.svg"]
    assert (tmp_path / "empty" / "substation.svg").read_text().startswith("<?xml")


@pytest.mark.usefixtures("few_pictures")
def test_report_writes_a_page_and_replaces_one_only_when_told(run: Run, doubtful: Path, tmp_path: Path) -> None:
    code, out, err = run("report", doubtful)
    assert (code, err) == (0, "")
    assert out.startswith("NOT CONVERGED\nNOT CHECKED IN OPENDSS\nReport: ")
    page = tmp_path / "bad.html"
    whole = page.read_text()
    assert whole.startswith("<!DOCTYPE html>")
    page.write_text("mine")
    code, _, err = run("report", doubtful)
    assert (code, page.read_text()) == (1, "mine")
    assert "bad.html: is there already. Add --force to replace it" in err
    assert run("report", doubtful, "--force")[0] == 0
    assert page.read_text() == whole, "the same run gives the same page"


def test_a_study_is_drawn_and_told_over_its_variants(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = solved_study()
    for variant in study.variants.values():
        write_variant(tmp_path / "der.h5", study.head, variant)
    few = study_plots.study_pictures(study, figures(study))[:2]
    monkeypatch.setattr(study_plots, "study_pictures", lambda *_: few)
    monkeypatch.setattr(study_page, "pictures", lambda _: [])
    monkeypatch.setattr(study_page, "study_pictures", lambda *_: [])
    code, out, err = run("plot", "der.h5")
    assert (code, err) == (0, "")
    assert "study_losses.png: Losses of the optimized schedules lie between " in out
    assert "too much: FAILED (area '1' <cannot> keep its limits)" in out
    assert (tmp_path / "der_plots" / "study_cost.png").exists()
    code, out, err = run("report", "der.h5")
    assert (code, err) == (0, "")
    assert "too much: FAILED (area '1' <cannot> keep its limits)\nReport: " in out
    assert "<summary>full: confirmed</summary>" in (tmp_path / "der.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("kpis", "none.h5"), "no such file"),
        (("plot", "none.h5"), "no such file"),
        (("report", "none.h5"), "no such file"),
        (("report", "text.h5"), "not an HDF5 file"),
        (("plot", "text.h5"), "not an HDF5 file"),
        (("kpis", "run.h5", "--json", "--csv"), "contradict each other"),
        (("plot", "run.h5", "--out", "full"), "exists and is not an empty folder"),
        (("plot", "run.h5", "--out", "text.h5"), "exists and is not an empty folder"),
        (("plot", "run.h5", "--out", "no/where"), "Make the folder above it first"),
        (("plot", "run.h5", "--format", "gif"), "'gif' is not one of"),
        (("report", "run.h5", "--out", "run.h5", "--force"), "that is the result itself"),
        (("report", "run.h5", "--out", "no/where.html"), "there is no folder no"),
        (("report", "run.h5", "--out", "full", "--force"), "a folder or device"),
    ],
)
@pytest.mark.usefixtures("stored", "few_pictures")
def test_a_refusal_ends_with_1_says_why_and_changes_nothing(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    (tmp_path / "text.h5").write_text("no result")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")

    def content() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    before = content()
    code, out, err = run(*arguments)
    assert code == 1
    assert json.loads(out)["exit_code"] == 1 if "--json" in arguments else out == ""
    assert words in " ".join(err.split())
    assert content() == before


@pytest.mark.parametrize("command", ["plot", "report"])
@pytest.mark.usefixtures("few_pictures")
def test_without_matplotlib_nothing_is_written_and_the_extra_is_named(
    run: Run, stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, out, err = run(command, stored)
    assert (code, out) == (1, "")
    assert "pip install 'tieflow[plot]'" in err
    assert list(tmp_path.iterdir()) == [stored]
    assert run("kpis", stored)[0] == 0


def test_a_page_that_cannot_be_made_leaves_the_old_one(
    run: Run, stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run.html").write_text("old")

    def fails(result: Result) -> str:
        raise RuntimeError("no picture")

    monkeypatch.setattr(report_commands, "html_report", fails)
    assert run("report", stored, "--force")[0] == 1
    assert (tmp_path / "run.html").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.h5", "run.html"]
