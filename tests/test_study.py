"""A study from its file to the table: variants beside the plain rule, stored one by one, not run twice."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import h5py
import pytest
from stored_results import older
from studies import read, write_study

from tieflow.common.errors import TieflowError
from tieflow.common.results.result import Result
from tieflow.common.results.store import read_result, write_result
from tieflow.common.results.study import StudyHead, VariantRun
from tieflow.common.results.study_store import is_study, read_run, read_study, write_variant
from tieflow.launch import api
from tieflow.launch.figures.kpis import kpi_report
from tieflow.launch.figures.study import RunFigures, figures, newly_outside, worst_code
from tieflow.launch.report.study_console import remarks
from tieflow.launch.runs.plain_rule import PLAIN_RULE
from tieflow.launch.studies import run as study
from tieflow.launch.studies.variants import Unresolved, resolve

Run = Callable[..., tuple[int, str, str]]
TROUBLE = """
[[variants]]
name = "too much"
load_factor = 900

[[variants]]
name = "too few rounds"
devices = ["sun", "store"]

[[variants]]
name = "nowhere"
devices = ["sun"]
change = { sun = { bus = "z" } }
"""


class Told:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.kept: list[str] = []
        self.ran: list[str] = []

    def begin(self, count: int, kept: Sequence[str], groups: int, size: int) -> None:
        self.kept = list(kept)

    def started(self, name: str) -> None: ...

    def finished(self, run: VariantRun) -> None:
        self.ran.append(run.name)


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory, small_folder: Path) -> Path:
    """The small study, run, in a folder with its case."""
    folder = small_folder.parent
    file = read(folder)
    study.run_study(file, resolve(file), folder / "study.h5", Told())
    return folder / "study.h5"


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from conftest import write_small

    return write_small(tmp_path_factory.mktemp("study") / "small")


def test_every_variant_is_optimized_and_run_by_the_plain_rule_and_both_are_confirmed(done: Path) -> None:
    stored = read_study(done)
    assert list(stored.variants) == ["base", "with PV", "full"]
    for run in stored.variants.values():
        assert run.optimized is not None and run.optimized.check is not None and run.optimized.check.passed
        assert run.exit_code == 0 and not run.failure and not run.rule_failure
    rule = stored.variants["full"].rule
    assert rule is not None and rule.check is not None and rule.check.passed
    assert rule.method == PLAIN_RULE
    assert stored.variants["base"].rule is None
    assert stored.head.base == "base"
    assert "[devices.sun]" in stored.head.text


def test_the_saving_is_what_the_plain_rule_costs_more(done: Path) -> None:
    base, pv, full = figures(read_study(done))
    assert base.saving is None and not base.has_devices
    assert pv.optimized is not None and pv.rule is not None
    assert full.optimized is not None and full.rule is not None and full.saving is not None
    by_rule, own = (run.kpis.kpis.energy_cost for run in (full.rule, full.optimized))
    assert full.saving == pytest.approx(by_rule - own) and full.saving > 0
    assert full.saving_percent == pytest.approx(100 * full.saving / by_rule)
    assert (full.verdict, full.newly_outside) == ("confirmed", ())
    # What batteries lose of their power counts too, in the last digits.
    assert full.optimized.objective == pytest.approx(own, rel=1e-4)


def test_the_objective_is_told_of_both_runs_where_it_is_not_the_cost(run: Run, small: Path) -> None:
    weights = "[settings]\nweights = { energy = 0.5, losses = 0.5 }\nweights_bases = 'idle'\n\n[rule]"
    code, out, _ = run("study", write_study(small.parent, "[rule]", weights), "--json")
    assert code == 0
    full = json.loads(out)["variants"][2]
    assert full["optimized"]["minimizes"] == "weights"
    assert full["optimized"]["objective"] < full["rule"]["objective"]
    code, out, _ = run("study", small.parent / "study.toml")
    assert "objective" in out and f"{full['rule']['objective']:,.2f}" in out


def test_a_stored_run_is_read_like_any_result(done: Path) -> None:
    full = read_study(done).variants["full"]
    assert full.optimized is not None and full.rule is not None
    assert api.read(done, "full").cost == full.optimized.cost
    assert api.read(done, "full", rule=True).method == PLAIN_RULE
    assert api.read_study(done).head.title == "A small study"
    with pytest.raises(TieflowError, match=r'study\.h5: a study\. .*--variant base \| full \| "with PV"'):
        read_result(done)
    with pytest.raises(TieflowError, match="has no devices, so its run is the same without --rule"):
        read_run(done, "base", rule=True)
    with pytest.raises(TieflowError, match=r"no variant 'ful'\. Did you mean 'full'"):
        read_run(done, "ful")


def test_a_group_of_the_file_is_laid_out_as_a_result_file(done: Path, tmp_path: Path) -> None:
    result = read_run(done, "with PV")
    write_result(tmp_path / "one.h5", result)

    def layout(group: h5py.Group) -> list[str]:
        found: list[str] = sorted(group.attrs)
        group.visititems(lambda name, item: found.append(f"{name} {sorted(item.attrs)}"))
        return found

    with h5py.File(tmp_path / "one.h5") as one, h5py.File(done) as study_file:
        assert layout(study_file["variants/with PV/optimized"]) == layout(one)
    assert not is_study(tmp_path / "one.h5")
    with pytest.raises(TieflowError, match="one result, not a study. Leave --variant"):
        read_run(tmp_path / "one.h5", "full")
    with pytest.raises(TieflowError, match="not a tieflow study. Name a file that 'tieflow study' has made"):
        read_study(tmp_path / "one.h5")


def test_a_second_run_skips_what_is_stored_and_runs_what_has_changed(done: Path, tmp_path: Path) -> None:
    path = tmp_path / "copy.h5"
    path.write_bytes(done.read_bytes())
    folder = done.parent

    def again(old: str = "", new: str = "", force: bool = False) -> Told:
        told = Told()
        file = read(folder, old, new)
        study.run_study(file, resolve(file), path, told, force=force)
        return told

    told = again()
    assert (told.kept, told.ran) == (["base", "with PV", "full"], [])
    told = again("p_kw = 10", "p_kw = 11")
    assert (told.kept, told.ran) == (["base", "with PV"], ["full"])
    assert again(force=True).ran == ["base", "with PV", "full"]
    told = again("is not here", "is elsewhere")
    assert not told.ran
    assert read_study(path).variants["with PV"].placements[0].note == "the source's bus is elsewhere"


def test_a_slip_in_the_study_costs_no_stored_run_unless_it_is_forced(done: Path, tmp_path: Path) -> None:
    path = tmp_path / "copy.h5"
    path.write_bytes(done.read_bytes())
    file = read(done.parent, "p_kw = 10", "p_kw = 11")
    slipped = [*resolve(file)[:2], Unresolved("full", TieflowError("no bus 'z'."))]
    with pytest.raises(TieflowError, match=r"nothing was run, for variant 'full', .* lost: no bus 'z'\. Then"):
        study.run_study(file, slipped, path, Told())
    assert path.read_bytes() == done.read_bytes()
    study.run_study(file, slipped, path, Told(), force=True)
    assert read_study(path).variants["full"].failure == "no bus 'z'."


def test_a_killed_run_keeps_the_variants_that_were_done(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, file = tmp_path / "killed.h5", read(done.parent)
    solve = study.solve

    def killed(*arguments: object) -> Result:
        if path.exists() and "with PV" in read_study(path).variants:
            raise KeyboardInterrupt
        return solve(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(study, "solve", killed)
    with pytest.raises(KeyboardInterrupt):
        study.run_study(file, resolve(file), path, Told())
    monkeypatch.undo()
    told = Told()
    study.run_study(file, resolve(file), path, told)
    assert (told.kept, told.ran) == (["base", "with PV"], ["full"])
    assert [path.name for path in tmp_path.iterdir()] == ["killed.h5"]


def test_variants_that_fail_are_told_and_stored_and_the_others_finish(run: Run, small: Path) -> None:
    extra = TROUBLE.replace('devices = ["sun", "store"]', 'devices = ["sun", "store"]\nmethod = "dlmp"')
    path = write_study(small.parent, 'title = "A', 'max_rounds = 3\ntolerance = 1e-8\ntitle = "A', extra)
    code, out, err = run("study", path, "--json")
    assert code == 1
    found = {variant["name"]: variant for variant in json.loads(out)["variants"]}
    assert {name: variant["exit_code"] for name, variant in found.items()} == {
        **{"base": 2, "with PV": 2, "full": 2},
        **{"too much": 3, "too few rounds": 2, "nowhere": 1},
    }
    assert "too much FAILED: " in err and "nowhere FAILED: " in err
    assert "no bus 'z'" in found["nowhere"]["failure"]
    assert found["too few rounds"]["verdict"].startswith("not converged")
    reason = json.loads(out)["exit_reason"]
    assert reason.startswith("base: not converged") and "nowhere: FAILED: " in reason
    # Stored failures are told again, not run again.
    code, out, err = run("study", path)
    assert code == 1
    assert "too much: stored already" in out and "too much FAILED: " in out
    assert f"Exit code 1: {reason}\n" in out
    code, _, err = run("kpis", "study.h5", "--variant", "too much")
    assert code == 1 and "variant 'too much' failed" in err


def test_the_table_has_a_row_for_every_variant_and_the_csv_full_precision(run: Run, done: Path, tmp_path: Path) -> None:
    code, out, _ = run("study", done.parent / "study.toml", "--output", done, "--csv", "table.csv")
    assert code == 0
    lines = out.splitlines()
    top = next(i for i, line in enumerate(lines) if line.startswith("variant"))
    rows = {line.split("  ")[0]: line for line in lines[top : top + 4]}
    assert "confirmed" in rows["base"] and " = " in rows["base"]
    full = read_run(done, "full")
    assert f"{full.check.cost:,.2f}" in rows["full"]  # type: ignore[union-attr]
    table = list(csv.DictReader((tmp_path / "table.csv").open()))
    cost = [r for r in table if (r["variant"], r["run"], r["name"]) == ("full", "optimized", "energy_cost")]
    assert float(cost[0]["value"]) == kpi_report(full).kpis.energy_cost
    assert {r["run"] for r in table} == {"", "optimized", "rule"}
    assert {r["variant"] for r in table} == {"base", "with PV", "full"}


def test_limits_that_either_run_oversteps_are_counted_below_the_table(done: Path) -> None:
    full = figures(read_study(done))[2]
    assert remarks(full, "base") == []
    assert full.optimized is not None and full.rule is not None

    def with_violations(run: RunFigures, count: int) -> RunFigures:
        return replace(run, kpis=replace(run.kpis, kpis=replace(run.kpis.kpis, violations=count)))

    beyond = replace(full, optimized=with_violations(full.optimized, 1), rule=with_violations(full.rule, 12))
    assert [str(line) for line in remarks(beyond, "base")] == [
        "full: 1 limit overstepped",
        "full by the plain rule: 12 limits overstepped",
    ]


def test_a_dry_run_shows_variants_and_placements_and_writes_nothing(run: Run, small: Path) -> None:
    path = write_study(small.parent, extra=TROUBLE)
    code, out, _ = run("study", path, "--dry-run")
    assert code == 1
    assert "full: small, 06:00 to 18:00, admm in 4 areas, 1 PV system, 1 battery, 1 flexible load; to run" in out
    assert "nowhere: FAILS: " in out
    assert "the source's bus is not here" in out
    assert not (small.parent / "study.h5").exists()


@pytest.mark.parametrize("command", ["show", "kpis", "check"])
def test_commands_on_a_study_need_to_know_the_variant(run: Run, done: Path, command: str) -> None:
    code, _, err = run(command, done)
    assert code == 1 and "--variant base | full" in err


def test_a_run_by_the_rule_is_shown_as_one(run: Run, done: Path) -> None:
    code, out, _ = run("show", done, "--variant", "full", "--rule")
    assert code == 0
    assert "plain rule" in out and "rounds" not in out
    assert run("check", done, "--variant", "full", "--rule")[0] == 0


def test_the_study_file_is_never_written_over(run: Run, small: Path) -> None:
    path = write_study(small.parent)
    code, _, err = run("study", path, "--output", path)
    assert code == 1 and "that is the study file itself" in err
    result = small.parent / "result.h5"
    result.write_text("mine")
    code, _, err = run("study", path, "--output", result)
    assert code == 1 and "not an HDF5 file" in err
    assert result.read_text() == "mine"


def test_another_studys_file_is_not_written_over_unless_forced(run: Run, done: Path, tmp_path: Path) -> None:
    path = tmp_path / "stored.h5"
    path.write_bytes(done.read_bytes())
    other = done.parent / "other.toml"
    other.write_text(
        (done.parent / "study.toml").read_text().replace("A small study", "Another").split("[[variants")[0]
    )
    other.write_text(other.read_text() + '[[variants]]\nname = "base"\nload_factor = 1.1\n')
    for flags in ((), ("--dry-run",)):
        code, _, err = run("study", other, "--output", path, *flags)
        assert code == 1
        assert "holds the study 'study' (A small study), not 'other' (Another)" in err and "--force" in err
        assert path.read_bytes() == done.read_bytes()
    assert run("study", other, "--output", path, "--force")[0] == 0
    found = read_study(path)
    assert (found.head.name, list(found.variants)) == ("other", ["base"])
    assert found.variants["base"].digest != read_study(done).variants["base"].digest


def test_a_studys_file_of_an_older_version_has_no_name(done: Path, tmp_path: Path) -> None:
    path = tmp_path / "older.h5"
    path.write_bytes(done.read_bytes())
    with older(path) as file:
        del file.attrs["name"]
    told, own = Told(), read(done.parent)
    assert read_study(path).head.name == ""
    study.run_study(own, resolve(own), path, told)
    assert not told.ran and read_study(path).head.name == "study"


def test_a_voltage_counts_as_newly_outside_only_where_the_base_keeps_it_inside(small_result: Result) -> None:
    assert small_result.check is not None
    v = small_result.check.state.v_pu.copy()
    v[2, 1] = 1.2

    def with_v(array: object) -> Result:
        check = replace(small_result.check, state=replace(small_result.check.state, v_pu=array))
        return replace(small_result, check=check)

    bad = with_v(v)
    (found,) = newly_outside(bad, small_result)
    assert (found.element, found.hour, found.value) == (small_result.case.balanced_feeder.buses[2], 2, 1.2)
    assert newly_outside(bad, bad) == ()


def test_the_worst_code_is_an_error_then_infeasible_then_what_solve_ends_with() -> None:
    assert [worst_code(codes) for codes in ([0, 5, 4], [5, 2], [2, 3], [3, 1], [])] == [4, 2, 3, 1, 0]


def test_many_variants_with_odd_names_are_stored_and_read_back(tmp_path: Path) -> None:
    names = ("a/b", "ä = 1", "x" * 200, ".")
    head = StudyHead("s", "t", "c", "a/b", "", names, "text " * 50_000)
    for name in names:
        write_variant(tmp_path / "s.h5", head, VariantRun(name, "d", 1, "why", "", ()))
    stored = read_study(tmp_path / "s.h5")
    assert list(stored.variants) == list(names) and stored.head == head
    assert stored.variants["."].failure == "why"
