"""What a prompt and a notebook show of results, cases and studies."""

from __future__ import annotations

import re
import sys
from dataclasses import replace

import pytest

import tieflow
from tieflow.common.case import read_case
from tieflow.common.results.result import Result, Violation
from tieflow.common.results.study import StoredStudy, StudyHead, VariantRun


def test_a_result_is_one_line_that_says_whether_it_may_be_used(small_result: Result) -> None:
    rounds = len(small_result.history.cost)
    start = f"<Result of small by admm: {small_result.cost:.2f} $, "
    assert repr(small_result) == f"{start}converged in {rounds} rounds, confirmed by OpenDSS>"
    check = small_result.check
    assert check is not None
    bad = replace(
        small_result,
        converged=False,
        check=replace(check, passed=False),
        oversteps=(Violation("voltage", "c", 1, 0.94, 0.95, "pu"),),
    )
    wrong = f"NOT CONVERGED in {rounds} rounds, NOT CONFIRMED BY OPENDSS, 1 limit OVERSTEPPED"
    assert repr(bad) == f"{start}{wrong}>"
    assert repr(replace(small_result, check=None)).endswith("not checked in OpenDSS>")


def test_a_case_is_one_line_that_says_what_is_in_it(small_result: Result) -> None:
    inside = "balanced, 4 areas, 2 periods of 6 h from 06:00, pv 1, batteries 1"
    assert repr(small_result.case) == f"<Case small: {inside}>"
    assert repr(tieflow.load("ieee13", periods=1)) == (
        "<Case ieee13: multiphase, 4 areas, 1 period of 1 h from 11:00, pv 6, batteries 3>"
    )
    bare = replace(small_result.case, pv=(), batteries=(), areas=())
    assert repr(bare) == "<Case small: balanced, 1 area, 2 periods of 6 h from 06:00>"


def test_a_study_is_one_line_that_says_how_much_of_it_was_run(small_result: Result) -> None:
    head = StudyHead("mine", "My study", "small", "a", "", ("a", "b", "c"), "")
    runs = {
        "a": VariantRun("a", "", 0, "", "", (), optimized=small_result),
        "b": VariantRun("b", "", 3, "it cannot be", "", ()),
    }
    assert repr(StoredStudy(head, runs)) == "<StoredStudy mine: 2 of 3 variants of small, 1 FAILED>"
    assert repr(StoredStudy(head, {"a": runs["a"]})) == "<StoredStudy mine: 1 of 3 variants of small>"


def test_a_notebook_shows_verdict_key_figures_and_a_picture_in_this_order(small_result: Result) -> None:
    shown = small_result._repr_html_()
    where = [shown.index(text) for text in ("Confirmed by OpenDSS.", "Energy cost", "data:image/svg+xml;base64,")]
    assert where == sorted(where)
    assert shown.count("<img") == 1 and "<script" not in shown and "<html" not in shown
    selectors = re.findall(r"^(.*) {", shown[shown.index("<style>") : shown.index("</style>")], flags=re.MULTILINE)
    assert selectors and all(part.strip().startswith(".tieflow") for one in selectors for part in one.split(","))


def test_a_notebook_shows_first_what_is_wrong_and_names_are_no_markup(small_result: Result) -> None:
    settings = small_result.case.settings.model_copy(update={"title": "<b>"})
    bad = replace(small_result, converged=False, case=replace(small_result.case, settings=settings))
    shown = bad._repr_html_()
    assert shown.index("NOT CONVERGED") < shown.index("Energy cost")
    assert "small: &lt;b&gt;" in shown and "<b>" not in shown


def test_a_notebook_without_matplotlib_shows_the_rest_and_says_so(
    small_result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    shown = small_result._repr_html_()
    assert "Confirmed by OpenDSS." in shown and "Energy cost" in shown and "<img" not in shown
    assert "No picture: matplotlib cannot be loaded" in shown and "tieflow[plot]" in shown


def test_a_case_is_told_without_making_its_feeder() -> None:
    case = replace(read_case("ieee13", {"periods": 1}), circuit="no circuit at all")
    assert repr(case).startswith("<Case ieee13: multiphase")
