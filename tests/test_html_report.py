"""A run as one page: whole in itself, honest about what is wrong, and shown by a real browser without complaint."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
from html_pages import Browse, Page, assert_whole, shown_on_a_phone

from tieflow.common.case import read_case
from tieflow.common.results.result import Result, Violation
from tieflow.launch.plots.figures import pictures
from tieflow.launch.report import html_report as module
from tieflow.launch.report.html_report import html_report
from tieflow.launch.runs.solve import Options, solve


@pytest.fixture(scope="module")
def multiphase() -> Result:
    """Two hours of the unbalanced IEEE 13 bus feeder."""
    return solve(read_case("ieee13", {"periods": 2}), Options())


@pytest.fixture(scope="module")
def pages(small_result: Result, multiphase: Result) -> dict[str, str]:
    """A page of a balanced run, of a multi-phase one, and of one that nobody should use."""
    bad = replace(small_result, converged=False, check=None, notes=("it <did> not & will not",))
    bad = replace(bad, command=f"tieflow solve /{'far/' * 60}away")
    made = {"balanced": html_report(small_result), "multi": html_report(multiphase)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "pictures", lambda result: pictures(result)[:2])  # for speed
        return made | {"bad": html_report(bad)}


@pytest.fixture
def one_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages made in the test have one picture only, for speed."""
    monkeypatch.setattr(module, "pictures", lambda result: pictures(result)[:1])


def test_a_page_is_whole_in_itself_and_small(pages: dict[str, str]) -> None:
    for text in pages.values():
        assert_whole(text)


def test_pictures_within_the_page_load_nothing_either(pages: dict[str, str]) -> None:
    for data in re.findall(r"data:image/svg\+xml;base64,([^\"]*)", pages["multi"]):
        svg = base64.b64decode(data).decode()
        assert not re.search(r"href=\"(?!#|data:)", svg)
        assert "<script" not in svg


def test_every_picture_has_its_reading_as_caption_and_as_text_alternative(
    pages: dict[str, str], multiphase: Result
) -> None:
    images = Page(pages["multi"]).named("img")
    assert len(images) == len(pictures(multiphase))
    for image, picture in zip(images, pictures(multiphase), strict=True):
        assert image["alt"] == f"{picture.title}: {picture.read(multiphase)}"
    captions = [unescape(text) for text in re.findall(r"<figcaption>.*?</strong> (.*?)</figcaption>", pages["multi"])]
    assert captions == [picture.read(multiphase) for picture in pictures(multiphase)]


def test_a_page_is_made_for_phones(pages: dict[str, str]) -> None:
    for text in pages.values():
        page = Page(text)
        assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.named("meta")
        assert page.named("html") == [{"lang": "en"}]


def test_the_verdict_comes_first(pages: dict[str, str]) -> None:
    for text in pages.values():
        assert re.findall("<h2>(.*?)</h2>", text)[0] == "Verdict"
    good = pages["balanced"]
    for words in ("Converged in ", "Confirmed by OpenDSS.", "No limit violated in the replay."):
        assert f'<li class="good">{words}' in good
    assert 'class="bad"' not in good


def test_an_unconverged_and_unchecked_run_says_so_loudly(pages: dict[str, str]) -> None:
    bad = pages["bad"]
    assert '<li class="bad">NOT CONVERGED' in bad
    assert '<li class="bad">NOT CHECKED' in bad
    assert "<title>small, admm - NOT CONVERGED - NOT CHECKED IN OPENDSS</title>" in bad
    assert "Source: optimizer (not checked in OpenDSS); powers and energies per phase." in bad
    assert 'class="good"' not in bad


@pytest.mark.usefixtures("one_picture")
def test_refuted_schedules_overstepped_limits_and_unsolved_hours_are_told(small_result: Result) -> None:
    assert small_result.check is not None
    found = tuple(Violation("voltage", f"bus{i}", 11, 0.94 - i / 1000, 0.95, "pu", "11:00") for i in range(12))
    check = replace(small_result.check, passed=False, violations=found, failed_hours=(2,))
    text = html_report(replace(small_result, check=check, oversteps=found[:1], relaxation_gap_pu=1.0))
    for words in (
        "NOT CONFIRMED BY OPENDSS",
        "no power flow solution at 12:00.",
        "12 limits violated in the replay.",
        "1 voltage limit OVERSTEPPED",
        "CONE RELAXATION LOOSE",
        "<ul>\n<li>voltage at bus11, 11:00: 0.92900 pu, limit 0.95000 pu</li>",
        "and 2 more",
    ):
        assert words in text
    assert "bus1," not in text, "the mildest are not listed"


def test_key_figures_and_versions_are_in_tables(pages: dict[str, str]) -> None:
    for words in ("Load factor", "System efficiency", "Voltage performance index", "Battery cycles"):
        assert f'<th scope="row">{words}</th>' in pages["multi"]
    for library in ("numpy", "opendssdirect.py", "matplotlib (pictures)"):
        assert f'<th scope="row">{library}</th>' in pages["multi"]


@pytest.mark.usefixtures("one_picture")
def test_names_and_notes_are_escaped(small_result: Result, pages: dict[str, str]) -> None:
    assert "it &lt;did&gt; not &amp; will not" in pages["bad"]
    settings = small_result.case.settings.model_copy(update={"title": '<script>alert("x")</script> $title'})
    case = replace(small_result.case, name='a"<b>', settings=settings)
    text = html_report(replace(small_result, case=case, notes=("<img src=x onerror=y>",)))
    assert "<script" not in text
    assert "<b>" not in text
    assert "<img src=x" not in text
    assert "&lt;/script&gt; $title" in text
    assert not Page(text).open


@pytest.mark.usefixtures("one_picture")
def test_large_pictures_are_stored_as_dots(small_result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST_SVG", 0)
    data = re.search(r"data:image/png;base64,([^\"]*)", html_report(small_result))
    assert data is not None
    assert base64.b64decode(data[1]).startswith(b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize("name", ["balanced", "multi", "bad"])
def test_a_browser_shows_the_page_on_a_phone_without_overflow_or_complaint(
    pages: dict[str, str], name: str, browse: Browse
) -> None:
    assert set(shown_on_a_phone(browse, pages[name])["wide"]) == {0}, "tables need no scrolling either"


def test_a_browser_would_complain_if_there_were_reason(
    browse: Browse,
) -> None:
    run = browse("<!DOCTYPE html><title>x</title><script>nothing.here()</script>", "--dump-dom")
    assert ":CONSOLE" in run.stderr


def test_a_browser_paints_the_page(pages: dict[str, str], browse: Browse, tmp_path: Path) -> None:
    browse(pages["multi"], "--window-size=800,1200", f"--screenshot={tmp_path / 'page.png'}")
    from matplotlib.image import imread

    colours = {tuple(pixel) for pixel in (imread(tmp_path / "page.png")[::4, ::4, :3] * 255).astype(int).reshape(-1, 3)}
    assert (255, 255, 255) in colours
    assert (0, 0x9E, 0x73) in colours, "the green of a good verdict"
    assert (0, 0x72, 0xB2) in colours, "the blue of the first picture"
