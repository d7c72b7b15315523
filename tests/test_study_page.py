"""A study as one page: whole in itself, honest about each variant, and shown by a real browser without complaint."""

from __future__ import annotations

import re
from dataclasses import replace
from html import escape, unescape

import pytest
from html_pages import LARGEST_BYTES, Browse, Page, assert_whole, shown_on_a_phone
from study_results import solved_study

from tieflow.common.results.result import Violation
from tieflow.common.results.study import StoredStudy
from tieflow.launch.figures.study import figures
from tieflow.launch.plots.figures import pictures
from tieflow.launch.plots.study import study_pictures
from tieflow.launch.report import study_page as module
from tieflow.launch.report.study_page import DAY_PICTURES, study_page, verdict_of_study

VARIANTS = 10


@pytest.fixture(scope="module")
def study() -> StoredStudy:
    return solved_study()


@pytest.fixture(scope="module")
def page(study: StoredStudy) -> str:
    return study_page(study)


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages made in the test have no pictures, for speed."""
    monkeypatch.setattr(module, "study_pictures", lambda *_: [])
    monkeypatch.setattr(module, "pictures", lambda _: [])


def cells(text: str, first: str) -> list[str]:
    """Of the line of a table that starts with a name."""
    line = re.search(rf'<tr><th scope="row">{first}</th>(.*?)</tr>', text)
    assert line is not None
    return [unescape(cell) for cell in re.findall("<td>(.*?)</td>", line[1])]


def test_a_page_is_whole_in_itself_and_small_with_ten_variants(page: str) -> None:
    assert_whole(page)
    folded = {match[1]: len(match[0]) for match in re.finditer("<summary>(.*?):.*?</details>", page, re.DOTALL)}
    assert len(page) + (VARIANTS - 2) * folded["full"] < LARGEST_BYTES


def test_pictures_over_variants_and_of_each_day_have_their_readings_as_text(page: str, study: StoredStudy) -> None:
    expected = [f"{picture.title}: {picture.read()}" for picture in study_pictures(study, figures(study))]
    for run in study.variants.values():
        result = run.optimized
        if result is not None:
            own = [picture for picture in pictures(result) if picture.name in DAY_PICTURES]
            expected += [f"{picture.title}: {picture.read(result)}" for picture in own]
    assert [image["alt"] for image in Page(page).named("img")] == expected
    assert len(expected) == 9 + 2 + 6
    identities = [figure["id"] for figure in Page(page).named("figure")]
    assert len(set(identities)) == len(identities)


def test_the_verdict_names_what_holds_what_failed_and_what_is_saved(page: str, study: StoredStudy) -> None:
    found = figures(study)[1].saving
    text = verdict_of_study(study, figures(study))
    assert text == (
        "2 of 3 variants converged, keep all limits and are confirmed by OpenDSS: base, full. "
        "too much: FAILED (area '1' <cannot> keep its limits). "
        f"Against the plain rule for the same devices, optimizing saves {found:,.2f} $ (9.1 %) in full."
    )
    assert f"<h2>Verdict</h2>\n<p>{escape(text)}</p>" in page
    assert "<title>DER &amp; demand - 1 OF 3 VARIANTS NOT TO BE RELIED ON</title>" in page


def test_variants_in_doubt_and_not_run_are_told(study: StoredStudy) -> None:
    full = study.variants["full"]
    assert full.optimized is not None
    assert full.optimized.check is not None
    violation = Violation("voltage", "675.3", 12, 0.9, 0.95, "pu")
    check = replace(full.optimized.check, passed=False, violations=(violation,))
    bad = replace(full.optimized, check=check)
    dear = replace(full, name="dear", optimized=full.rule, rule=bad)
    head = replace(study.head, order=("base", "bad", "dear", "later"))
    variants = {"base": study.variants["base"], "bad": replace(full, name="bad", optimized=bad), "dear": dear}
    doubtful = replace(study, head=head, variants=variants)
    text = verdict_of_study(doubtful, figures(doubtful))
    for words in (
        "2 of 4 variants converged, keep all limits and are confirmed by OpenDSS: base, dear.",
        "bad: NOT CONFIRMED BY OPENDSS. later: NOT RUN.",
        "It costs more than the plain rule in dear.",
        "The plain rule itself does not hold up, see below, in dear.",
    ):
        assert words in text


def test_voltages_that_leave_the_limits_where_the_base_keeps_them_are_doubts(study: StoredStudy) -> None:
    violation = Violation("voltage", "675.3", 12, 0.9, 0.95, "pu")
    base, full, failed = figures(study)
    told = (base, replace(full, newly_outside=(violation,)), failed)
    text = verdict_of_study(study, told)
    assert (
        "1 of 3 variants converged, keep all limits and are confirmed by OpenDSS: base. full: 1 VOLTAGE OUTSIDE "
        in text
    )


def test_savings_are_in_a_table(page: str, study: StoredStudy) -> None:
    found = figures(study)[1].saving
    row = cells(page, "full")
    assert row[:2] == [f"{found:,.2f}", "9.1"]
    assert row[-2:] == ["confirmed", "confirmed"]
    assert cells(page, "base")[-2:] == ["confirmed", "no devices"]
    assert cells(page, "too much")[:3] == ["-", "-", "-"]
    assert cells(page, "too much")[-2] == "failed"


def test_key_figures_of_all_runs_are_side_by_side(page: str) -> None:
    heads = re.findall('<th scope="col">(.*?)</th>', page)
    for name in ("base, optimized", "full, optimized", "full, plain rule", "too much, plain rule"):
        assert name in heads
    assert "base, plain rule" not in heads
    assert cells(page, "PV utilization")[0] == "-"
    assert len(cells(page, "Transformer losses")) == 4
    assert "Source: OpenDSS replay.</caption>" in page


def test_devices_are_told_with_the_sources_bus_and_ours(page: str) -> None:
    expected = ["pv", "300", "70", "671.1.2.3", "full, too much", "the feeder has no bus 70 <sic>"]
    assert cells(page, "roof") == expected


def test_each_variant_is_folded_with_its_own_verdict(page: str) -> None:
    summaries = re.findall("<summary>(.*?)</summary>", page)
    assert summaries == ["base: confirmed", "full: confirmed", "too much: failed"]
    assert "<p>area &#x27;1&#x27; &lt;cannot&gt; keep its limits.</p>" in page
    rule = page.split("The same devices by the plain rule")[1]
    assert "Converged" not in rule.split("</details>")[0], "a rule has no rounds"


@pytest.mark.usefixtures("no_pictures")
def test_a_study_in_which_nothing_was_solved_is_a_page_too(study: StoredStudy) -> None:
    failed = replace(study.variants["too much"], rule=None, placements=())
    text = study_page(replace(study, variants={"too much": failed}))
    assert "0 of 3 variants converged" in text
    assert text.count("None: no variant was solved.") == 2
    assert not Page(text).open


def test_a_browser_shows_the_page_on_a_phone_and_only_wide_tables_scroll(page: str, browse: Browse) -> None:
    wide = shown_on_a_phone(browse, page)["wide"]
    assert all(overflow > 0 for overflow in wide[:3]), "variants, key figures and devices scroll in their own boxes"
    assert set(wide[3:]) == {0}
