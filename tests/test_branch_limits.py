"""Limits on the apparent power of branches: kept by what devices can shift, else listed; OpenDSS looks at them too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from device_feeders import BOTH, confirmed, feeder
from ipopt import ipopt_optimum
from rich.console import Console

from tieflow.common.case import Case, read_case
from tieflow.common.errors import EXIT_OVERSTEPPED, CaseError, InfeasibleError
from tieflow.common.feeder.branch_limits import BranchLimit
from tieflow.common.inputs.devices import PV, FlexibleLoad
from tieflow.common.replay.multiphase import replay
from tieflow.common.results.result import Result
from tieflow.common.results.schedule import idle_schedule
from tieflow.common.results.store import read_result, write_result
from tieflow.common.results.terms import objective_value
from tieflow.launch import api
from tieflow.launch.figures.kpis import kpi_report
from tieflow.launch.figures.summary import doubts, exit_code
from tieflow.launch.report.console import print_result
from tieflow.launch.report.html_report import html_report
from tieflow.launch.runs.base_run import power_flow
from tieflow.launch.runs.solve import Options, checked, solve

Edit = Callable[[str, str, str], None]
FIRST = "line.650632"


def limited(s_max_kva: float, branch: str = FIRST, **settings: object) -> Case:
    return api.with_branch_limits(read_case("ieee13", settings), BranchLimit(branch=branch, s_max_kva=s_max_kva))


def every_branch(case: Case) -> Case:
    """With a limit of every branch that none comes near, each named by the last of its elements, in capitals."""
    names = [branch.name.split("+")[-1].upper() for branch in case.multiphase_feeder.branches[1:]]
    return api.with_branch_limits(case, *(BranchLimit(branch=name, s_max_kva=1e6) for name in names))


@pytest.mark.parametrize("name", ["ieee13", "ieee123_unbalanced"])
def test_branches_carry_what_opendss_says(name: str) -> None:
    case = every_branch(read_case(name, {"periods": 3}))
    schedule = idle_schedule(case)
    ours, theirs = power_flow(case, schedule).branch_kva, replay(case, schedule).state.branch_kva
    assert ours.shape == theirs.shape == (len(case.multiphase_feeder.branches) - 1, 3)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("by", ["newton", "admm"])
def test_a_line_at_its_limit_carries_the_nonconvex_optimum_in_one_area_and_four(by: str) -> None:
    case = limited(2170, periods=4)
    one, four = (solve(case, Options(method, 1e-6)) for method in ("centralized", by))
    for result in (one, four):
        assert result.converged and result.check is not None and result.check.passed
        assert result.check.violations == () and result.oversteps == ()
        # In two hours; without the limit it would be 2255 and 2181 kVA.
        np.testing.assert_allclose(result.check.state.branch_kva[0, :2], 2170, rtol=3e-6)
        assert result.check.state.branch_kva.max() < 2170 * (1 + 1e-4)
    assert four.objective == pytest.approx(one.objective, rel=1e-6)
    # Where limits bind, admm is slow.
    assert by == "admm" or len(four.history.cost) <= 25
    free = solve(replace(case, branch_limits=()), Options("centralized", 1e-6, check=False))
    assert one.objective > free.objective * (1 + 1e-5)
    expected = ipopt_optimum(case)
    assert one.objective == pytest.approx(expected.cost, rel=1e-7)


@pytest.mark.parametrize("by", ["newton", "admm"])
def test_flexible_loads_and_limits_in_every_area_settle_at_the_optimum_of_one(by: str) -> None:
    load = FlexibleLoad(bus="671", p_kw=300, q_kvar=100, down=0.5, up=0.5)
    case = api.with_flexible_loads(read_case("ieee13", {"periods": 3}), load)
    names = ("transformer.reg2", "line.632645", "line.670671", "line.692675")
    free = api.with_branch_limits(case, *(BranchLimit(branch=name, s_max_kva=1e5) for name in names))
    peaks = 0.97 * solve(free, Options("centralized", check=False)).state.branch_kva.max(axis=1)
    limits = (BranchLimit(branch=name, s_max_kva=peak) for name, peak in zip(names, peaks, strict=True))
    case = api.with_branch_limits(case, *limits)
    one, four = (solve(case, Options(method, 1e-6)) for method in ("centralized", by))
    for result in (one, four):
        assert result.converged and result.check is not None and result.check.passed
        assert result.check.violations == () and result.oversteps == ()
    assert four.objective == pytest.approx(one.objective, rel=1e-6)
    assert (four.state.branch_kva.max(axis=1) / peaks > 0.999).sum() >= 2


@pytest.fixture(scope="module")
def overloaded() -> Result:
    return solve(limited(1700, periods=3), Options("centralized", 1e-6))


def test_a_limit_that_cannot_be_kept_is_overstepped_as_little_as_it_can_and_listed(overloaded: Result) -> None:
    assert overloaded.converged and overloaded.check is not None and overloaded.check.passed
    assert exit_code(overloaded) == EXIT_OVERSTEPPED
    for found in (overloaded.oversteps, overloaded.check.violations):
        loads = [violation for violation in found if violation.kind == "branch load"]
        assert loads and {(violation.element, violation.limit, violation.unit) for violation in loads} == {
            (FIRST, 1700, "kVA")
        }
    # What an overload costs is steep: 1e-7 pu of power is worth that much.
    expected = objective_value(overloaded.case, overloaded.schedule, overloaded.state)
    assert overloaded.objective == pytest.approx(expected, rel=2e-6)


def test_what_cannot_be_kept_is_told_in_words(overloaded: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = tuple(violation for violation in overloaded.oversteps if violation.kind == "branch load")
    result = replace(overloaded, oversteps=loads)
    console = Console(width=200, file=StringIO(), record=True)
    print_result(console, result)
    text = console.export_text()
    hours = "branch limit" if len(loads) == 1 else "branch limits"
    assert f"LIMITS OVERSTEPPED: {len(loads)} {hours}, at 1 element, cannot be kept or would cost more than " in text
    worst = max(loads, key=lambda violation: violation.value)
    assert "overload_price_per_kvah" in text and f"expected: branch load at {FIRST}, {worst.time}: " in text
    assert doubts(result) == ["BRANCH LIMITS OVERSTEPPED"]
    monkeypatch.setattr("tieflow.launch.report.html_report.pictures", lambda *_: ())
    assert f"{len(loads)} {hours} OVERSTEPPED as the optimizer expects" in html_report(result)
    report = kpi_report(overloaded)
    assert report.optimizer.violations == len(overloaded.oversteps)
    largest = report.kpis.largest_branch_load_percent
    assert (largest.place, largest.hour, largest.time) == (FIRST, worst.hour, worst.time)
    assert largest.value == pytest.approx(100 * worst.value / 1700, rel=1e-6)


def test_a_limit_is_overstepped_where_that_is_cheaper() -> None:
    cheap = solve(limited(2170, periods=2, overload_price_per_kvah=1e-6), Options("centralized"))
    assert {(violation.kind, violation.element) for violation in cheap.oversteps} == {("branch load", FIRST)}
    assert exit_code(cheap) == EXIT_OVERSTEPPED


def test_a_result_is_stored_with_its_limits_and_what_the_branches_carry(overloaded: Result, tmp_path: Path) -> None:
    write_result(tmp_path / "run.h5", overloaded)
    read = read_result(tmp_path / "run.h5")
    assert read.case.branch_limits == overloaded.case.branch_limits
    np.testing.assert_array_equal(read.state.branch_kva, overloaded.state.branch_kva)
    assert read.oversteps == overloaded.oversteps


def fed_in(model: str, s_max_kva: float, curtailable: bool) -> Case:
    """Sun at bus b of a feeder with a limit of its branch a-b."""
    pv = (PV(bus="b", p_rated_kw=600, s_rated_kva=700, curtailable=curtailable),)
    case = feeder(model, sun=(0.0, 0.4, 0.8), given={"v_max_pu": 1.2}, pv=pv)
    if model != "balanced":
        return api.with_branch_limits(case, BranchLimit(branch="line.ab", s_max_kva=s_max_kva))
    last = case.branches[-1].model_copy(update={"s_max_kva": s_max_kva})
    return replace(case, branches=(case.branches[0], last))


@pytest.mark.parametrize(("model", "method"), BOTH)
def test_pv_is_curtailed_to_what_its_branch_may_carry(model: str, method: str) -> None:
    result = confirmed(fed_in(model, 300, curtailable=True), method)
    sent = result.schedule.pv["p_kw"][0]
    assert sent[1] == pytest.approx(240)
    if model == "balanced":
        assert sent[2] == pytest.approx(300, rel=1e-5)
    else:
        # There the limit is on what arrives at bus a, after the branch's losses.
        assert 300 < sent[2] < 310
        assert result.check.state.branch_kva[0, 2] == pytest.approx(300, rel=1e-5)


def test_a_balanced_limit_that_cannot_be_kept_is_to_blame() -> None:
    case = fed_in("balanced", 300, curtailable=False)
    with pytest.raises(InfeasibleError, match=r"branch power limits \(s_max_kva\)"):
        solve(case, Options("admm"))
    for method in ("newton", "centralized"):
        with pytest.raises(InfeasibleError, match=r"1 limit\(s\) .* branch load 480\.00000 kVA at a-b .*\(s_max_kva\)"):
            solve(case, Options(method))


def test_a_balanced_current_limit_that_cannot_be_kept_is_to_blame() -> None:
    case = fed_in("balanced", 1e5, curtailable=False)
    last = case.branches[-1].model_copy(update={"s_max_kva": None, "i_max_a": 100.0})
    case = replace(case, branches=(case.branches[0], last))
    with pytest.raises(InfeasibleError, match=r"branch current limits \(i_max_a\)"):
        solve(case, Options("admm"))
    for method in ("newton", "centralized"):
        with pytest.raises(InfeasibleError, match=r"limit\(s\) cannot be kept: .* current .* A at a-b .*\(i_max_a\)"):
            solve(case, Options(method))


def test_a_balanced_schedule_beyond_a_limit_is_a_violation() -> None:
    case = fed_in("balanced", 1e5, curtailable=False)
    result = confirmed(case)
    check = checked(replace(result, case=fed_in("balanced", 470, curtailable=False))).check
    assert not check.passed
    assert [(violation.kind, violation.element, violation.hour) for violation in check.violations] == [
        ("branch load", "a-b", 2)
    ]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("line.650623,100", "unknown branch 'line.650623'. Did you mean 'line.650632'?"),
        ("vsource.source,100", "unknown branch 'vsource.source'."),
        ("line.650632,0", "line 2: s_max_kva: must be greater than 0"),
        ("line.650632,100\nLine.650632,90", "'Line.650632' is the same branch as 'line.650632', which has a limit."),
        ("transformer.reg1,9\ntransformer.reg3,9", "'transformer.reg3' is the same branch as 'transformer.reg1'"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, rows: str, words: str) -> None:
    for name in ("case.toml", "circuit.dss", "profiles.csv"):
        (tmp_path / name).write_text((Path("launch/cases/ieee13") / name).read_text())
    (tmp_path / "branch_limits.csv").write_text(f"branch,s_max_kva\n{rows}\n")
    with pytest.raises(CaseError) as error:
        read_case(str(tmp_path))
    assert "branch_limits.csv" in str(error.value) and words in str(error.value)


def test_a_balanced_case_refuses_such_a_table(small: Path) -> None:
    (small / "branch_limits.csv").write_text("branch,s_max_kva\nline.ab,100\n")
    with pytest.raises(CaseError, match=r"branch_limits\.csv: the case is balanced\. Put s_max_kva into branches\.csv"):
        read_case(str(small))


def test_a_balanced_limit_is_read_with_its_branch(small: Path, edit: Edit) -> None:
    lines = (small / "branches.csv").read_text().splitlines()
    table = [f"{lines[0]},s_max_kva", f"{lines[1]},150", *(f"{line}," for line in lines[2:])]
    (small / "branches.csv").write_text("\n".join(table) + "\n")
    case = read_case(str(small))
    assert sorted(case.balanced_feeder.s_max * case.settings.base_kva)[:2] == [150, np.inf]
