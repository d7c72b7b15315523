"""What a run ends with, and that console, page and JSON say so alike, whatever may be doubted about it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from itertools import product

import pytest
from rich.console import Console

from tieflow.common.case import read_case
from tieflow.common.results.result import LOOSE_PU, Check, Result, Violation
from tieflow.launch.figures.summary import doubts, exit_code, exit_reason, in_words, json_ready, summary
from tieflow.launch.report import html_report as page
from tieflow.launch.report.console import benchmark_table, print_result
from tieflow.launch.runs.solve import Options, solve

LOW = Violation("voltage", "b", 1, 0.94, 0.95, "pu", "06:00")
CHECKS = ("confirmed", "differs", "violated", "unsolved", "skipped")
BECAUSE = "v_max_pu = 1.05 binds at bus c"


def checks(check: Check) -> dict[str, Check | None]:
    """A check that has passed, and every way in which it may not have."""
    return {
        "confirmed": check,
        "differs": replace(check, passed=False, max_loss_error_kw=0.3),
        "violated": replace(check, passed=False, violations=(LOW,)),
        "unsolved": replace(check, passed=False, failed_hours=(2,)),
        "skipped": None,
    }


def doubted(result: Result) -> Iterator[tuple[Result, int]]:
    """Every combination of doubts, and the exit code that it should have."""
    assert result.check is not None
    kinds: tuple[tuple[Violation, ...], ...] = ((), (LOW,), (LOW, replace(LOW, kind="branch load", unit="kVA")))
    for converged, is_loose, oversteps, name in product((True, False), (False, True), kinds, CHECKS):
        refuted = name in ("differs", "violated", "unsolved")
        code = 2 if not converged else 4 if refuted or is_loose else 5 if oversteps else 0
        changed = replace(
            result,
            converged=converged,
            relaxation_gap_pu=2 * LOOSE_PU if is_loose else 0.0,
            loose_because=BECAUSE if is_loose else "",
            oversteps=oversteps,
            check=checks(result.check)[name],
        )
        yield changed, code


def printed(result: Result) -> str:
    console = Console(file=io.StringIO(), width=200)
    print_result(console, result)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_console_page_and_json_tell_the_same_doubts_and_no_schedule_is_called_confirmed_that_is_not(
    small_result: Result,
) -> None:
    found = list(doubted(small_result))
    assert len(found) == 60
    for result, code in found:
        text, html = printed(result), unescape(page.verdict(result))
        told = json.loads(json.dumps(json_ready(summary(result))))
        assert exit_code(result) == told["exit_code"] == code
        assert told["doubts"] == doubts(result)
        reason = exit_reason(result)
        assert told["exit_reason"] == reason
        is_confirmed = result.check is not None and result.check.passed and code in (0, 5)
        assert ("OpenDSS confirms" in text) == ("Confirmed by OpenDSS." in html) == is_confirmed
        assert (f"Exit code {code}" in html) == (f"Exit code {code}: {reason}\n" in text) == (code != 0)
        for doubt in doubts(result):
            assert doubt.lower().replace("limits", "limit") in reason.lower().replace("limits", "limit")
        for sentences in re.findall(r'<li class="bad">(.*?)</li>', page.verdict(result)):
            is_reason = unescape(sentences) in reason
            assert is_reason or re.match("Exit code|OpenDSS finds|1 limit violated", sentences)
        # Nothing good is said of what is doubted.
        assert not doubts(result) or html.count('class="bad"') >= len(doubts(result))
        assert (not doubts(result)) == ('class="bad"' not in html)


def test_a_refuted_schedule_says_by_what(small_result: Result) -> None:
    assert small_result.check is not None
    reasons = {name: exit_reason(replace(small_result, check=it)) for name, it in checks(small_result.check).items()}
    assert reasons["confirmed"] == "Converged, and confirmed by OpenDSS."
    assert reasons["differs"] == "NOT CONFIRMED BY OPENDSS: losses 3.0e-01 kW apart, 5.0e-02 kW allowed."
    assert reasons["violated"] == "NOT CONFIRMED BY OPENDSS: 1 limit violated in the replay."
    assert reasons["unsolved"] == "NOT CONFIRMED BY OPENDSS: no power flow solution at 12:00."
    differs = printed(replace(small_result, check=checks(small_result.check)["differs"]))
    assert re.search(r"^losses +3\.0e-01 kW +5\.0e-02 kW +TOO MUCH *$", differs, re.MULTILINE)
    assert differs.count("TOO MUCH") == 1


def test_a_loose_relaxation_says_what_loosens_it_and_the_way_out(small_result: Result) -> None:
    loose = replace(small_result, relaxation_gap_pu=2e-6, loose_because=BECAUSE)
    assert exit_reason(loose) == (
        "CONE RELAXATION LOOSE by 2.0e-06 pu, 1e-06 allowed, so flows and losses are not physical: v_max_pu = 1.05 "
        "binds at bus c. Use --method newton, whose equations are exact, or change that."
    )
    assert "confirmed by OpenDSS, CONE RELAXATION LOOSE" in repr(loose)
    console = Console(file=io.StringIO(), width=200)
    console.print(benchmark_table([summary(loose) | {"gap_to_optimum": 0.0, "critical_path_ratio": 1.0}]))
    assert "LOOSE" in console.file.getvalue()  # type: ignore[attr-defined]
    # Files of earlier versions do not tell.
    assert "see the notes" in exit_reason(replace(loose, loose_because=""))


def test_an_objective_below_its_bound_is_not_blamed_on_the_areas(small_result: Result) -> None:
    below = replace(small_result, converged=False, lower_bound=small_result.objective + 1)
    assert "is below the lower bound" in exit_reason(below)
    assert "areas still differ" not in exit_reason(below)
    assert "Lower --tolerance" in exit_reason(below)


def test_what_is_overstepped_by_little_is_shown_with_the_digits_that_tell() -> None:
    assert in_words(replace(LOW, value=0.949998)) == "voltage at b, 06:00: 0.949998 pu, limit 0.950000 pu"
    assert in_words(LOW) == "voltage at b, 06:00: 0.94000 pu, limit 0.95000 pu"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"price_high_per_kwh": 100}, "no limit binds there"),
        ({"v_max_pu": 1.0301, "v_min_pu": 0.9, "der_fraction": 3, "pv_percent": 100}, "v_max_pu = 1.0301 binds at bus"),
    ],
)
def test_a_method_that_keeps_its_loose_answer_names_the_limit(settings: dict[str, float], words: str) -> None:
    result = solve(read_case("ieee123", settings), Options("enapp", max_rounds=60))
    assert result.relaxation_gap_pu > LOOSE_PU
    assert words in exit_reason(result)
    assert exit_code(result) in (2, 4)


@pytest.mark.parametrize("method", ["admm", "enapp"])
def test_devices_of_a_few_watts_do_not_refute_a_schedule(method: str) -> None:
    result = solve(read_case("ieee123", {"der_fraction": 1e-4}), Options(method))
    assert 1e-3 < result.case.batteries[0].energy_kwh < 0.01
    assert (exit_code(result), doubts(result)) == (0, [])
