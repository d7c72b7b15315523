"""Stored files as others see them, and as they are when a disk or a hand has changed them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray
from stored_results import older
from test_store import assert_same, make_result, small_case

from tieflow.common.errors import TieflowError
from tieflow.common.results.result import Result
from tieflow.common.results.scales import is_scale
from tieflow.common.results.store import read_result, write_result
from tieflow.common.results.study import Placement, StudyHead, VariantRun
from tieflow.common.results.study_store import (
    is_study,
    read_run,
    read_study,
    stored_digests,
    stored_head,
    write_head,
    write_variant,
)
from tieflow.launch.figures.kpis import kpi_report
from tieflow.launch.figures.summary import summary
from tieflow.launch.report.html_report import html_report

FIRST_VERSION = Path(__file__).parent / "data" / "result_version_1.hdf5"
"""``make_result(small_case())`` as the first version has stored it"""
HEAD = StudyHead("s", "A study", "small", "base", "", ("base", "more"), "text")
PLACED = (Placement("roof", "pv", 300, "70", "671", "1.2.3", ""),)


@pytest.fixture(scope="module")
def result() -> Result:
    return make_result(small_case())


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory, result: Result) -> tuple[bytes, bytes]:
    """Of a result's file and a study's."""
    path = tmp_path_factory.mktemp("stored")
    run, study = path / "run.h5", path / "study.h5"
    write_result(run, result)
    write_variant(study, HEAD, VariantRun("base", "a", 0, "", "", (), result))
    write_variant(study, HEAD, VariantRun("more", "b", 0, "", "", PLACED, result, result))
    return run.read_bytes(), study.read_bytes()


@pytest.fixture
def stored(tmp_path: Path, contents: tuple[bytes, bytes]) -> Path:
    path = tmp_path / "run.h5"
    path.write_bytes(contents[0])
    return path


@pytest.fixture
def study(tmp_path: Path, contents: tuple[bytes, bytes]) -> Path:
    path = tmp_path / "study.h5"
    path.write_bytes(contents[1])
    return path


# As others see them


@pytest.mark.filterwarnings("error")
def test_xarray_shows_a_result_with_its_names_along_every_axis(stored: Path, result: Result) -> None:
    with xarray.open_datatree(stored, engine="h5netcdf") as tree:
        voltage = tree["state/v_pu"]
        assert voltage.dims == ("bus", "period")
        assert float(voltage.sel(bus="bus/2", period=12)) == result.state.v_pu[2, 1]
        charge = tree["schedule/batteries/charge_kw"]
        assert charge.sel(battery="bus/2").to_numpy().tolist() == result.schedule.batteries["charge_kw"][0].tolist()
        assert tree["state/i_a"].coords["branch"].to_numpy().tolist() == ["Süd-変電所", "変電所-bus/2"]
        assert tree["history/solve_s"].sel(round=2, area="Ost").to_numpy() == result.history.solve_s[1, 1]
        for kind, axis in (("pv", "pv"), ("wind", "wind"), ("flexible_loads", "flexible_load")):
            assert tree[f"schedule/{kind}/p_kw"].dims == (axis, "period")
        tree.load()


@pytest.mark.filterwarnings("error")
def test_xarray_shows_a_study_also_the_variants_that_were_copied(study: Path, result: Result) -> None:
    write_head(study, HEAD, {"base": PLACED})
    with xarray.open_datatree(study, engine="h5netcdf") as tree:
        for run in ("base/optimized", "more/optimized", "more/rule"):
            voltage = tree[f"variants/{run}/check/state/v_pu"]
            assert result.check is not None
            assert float(voltage.sel(bus="Süd", period=11)) == result.check.state.v_pu[0, 0]
        assert tree["variants/base/placements/bus"].to_numpy().tolist() == ["671"]
        tree.load()


def test_every_axis_has_a_scale_that_knows_its_datasets(study: Path) -> None:
    write_head(study, HEAD, {})
    with h5py.File(study) as file:

        def check(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if not isinstance(item, h5py.Dataset) or not item.ndim or is_scale(item):
                return
            for k, (dimension, axis) in enumerate(zip(item.dims, item.attrs["axes"].split(", "), strict=True)):
                (scale,) = dimension.values()
                assert scale.name.endswith(axis) and scale.shape == (item.shape[k],), name
                assert any(file[user] == item and at == k for user, at in scale.attrs["REFERENCE_LIST"]), name

        file.visititems(check)


# Of earlier versions


def test_a_result_of_the_first_version_is_read_and_goes_into_a_study(tmp_path: Path, result: Result) -> None:
    untold = {"date": "", "command": "", "loose_because": ""}
    case = replace(result.case, overrides=())
    result = replace(result, case=case, versions={**result.versions, "python": "3.11"}, **untold)
    assert_same(read_result(FIRST_VERSION), result)
    path = tmp_path / "study.h5"
    write_variant(path, HEAD, VariantRun("base", "a", 0, "", "", (), result))
    with older(path) as file, h5py.File(FIRST_VERSION) as first:
        del file["variants/base/optimized"]
        first.copy(first, file["variants/base"], "optimized")
    write_variant(path, HEAD, VariantRun("more", "b", 0, "", "", PLACED, result))
    for run in read_study(path).variants.values():
        assert_same(run.optimized, result)
    with xarray.open_datatree(path, engine="h5netcdf") as tree:
        assert float(tree["variants/base/optimized/state/v_pu"].sel(bus="bus/2", period=12)) == result.state.v_pu[2, 1]


# As they are when something has changed them


def complaint(act: Callable[[], Any]) -> str:
    """What a user is told; fails when it is more than a line, or nothing."""
    with pytest.raises(TieflowError) as caught:
        act()
    text = str(caught.value)
    assert "\n" not in text, text
    return text


def flipped(whole: bytes, flips: int, seed: int) -> Iterator[bytes]:
    random = np.random.default_rng(seed)
    for at in random.choice(len(whole), flips, replace=False):
        changed = bytearray(whole)
        changed[at] ^= 1 << int(random.integers(8))
        yield bytes(changed)


@pytest.mark.parametrize("seed", range(3))
def test_a_result_with_a_flipped_bit_is_refused_or_read_as_it_was(stored: Path, result: Result, seed: int) -> None:
    refused = 0
    for content in flipped(stored.read_bytes(), 40, seed):
        stored.write_bytes(content)
        try:
            found = read_result(stored)
        except TieflowError as error:
            refused += 1
            assert str(error).startswith(f"{stored}: ") and "\n" not in str(error)
            assert str(error).endswith(("Copy it again, or solve again.", "that 'tieflow solve' has made."))
        else:
            assert_same(found, result)
    assert refused > 10


def test_a_study_with_a_flipped_bit_is_refused_or_read_as_it_was(study: Path) -> None:
    expected, refused = read_study(study), 0
    for content in flipped(study.read_bytes(), 12, 1):
        study.write_bytes(content)
        try:
            found = read_study(study)
        except TieflowError as error:
            refused += 1
            assert str(error).startswith(f"{study}: ") and "\n" not in str(error)
        else:
            assert found.head == expected.head
            assert_same({**found.variants}, {**expected.variants})
    assert refused > 3


@pytest.mark.parametrize("first_version", [False, True])
def test_texts_that_a_disk_has_lost_do_not_keep_hdf5_busy_for_ever(stored: Path, first_version: bool) -> None:
    whole = FIRST_VERSION.read_bytes() if first_version else stored.read_bytes()
    heap = whole.index(b"GCOL") + 64
    stored.write_bytes(whole[:heap] + bytes(512) + whole[heap + 512 :])
    assert complaint(lambda: read_result(stored)).startswith(f"{stored}: truncated or damaged (its texts are damaged)")


def test_every_number_has_a_checksum_of_hdf5(stored: Path) -> None:
    with h5py.File(stored) as file:
        open_ones: list[str] = []

        def check(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if isinstance(item, h5py.Dataset) and item.size and item.dtype != object and not item.fletcher32:
                open_ones.append(name)

        file.visititems(check)
    # Axes without names hold nothing.
    assert {name.rpartition("/")[2].rpartition("_")[2] for name in open_ones} <= {"row", "period", "round"}


@pytest.mark.parametrize("place", ["case/settings", "summary", "case/branches/r_ohm"])
def test_an_attribute_that_has_been_changed_or_added_is_found(stored: Path, place: str) -> None:
    with h5py.File(stored, "r+") as file:
        file[place].attrs["title"] = "another"
    assert "checksum does not fit" in complaint(lambda: read_result(stored))


def test_a_checksum_that_is_gone_is_missed(stored: Path) -> None:
    with h5py.File(stored, "r+") as file:
        del file.attrs["checksum"]
    assert "run.h5: truncated or damaged (its checksum does not fit" in complaint(lambda: read_result(stored))


def test_a_number_that_hdf5_has_written_anew_is_read(stored: Path) -> None:
    with h5py.File(stored, "r+") as file:
        file["schedule/pv/q_kvar"][0, 1] = 5.0
    assert read_result(stored).schedule.pv["q_kvar"][0, 1] == 5.0


def test_a_run_that_is_damaged_costs_no_other_run_of_the_study(study: Path, result: Result) -> None:
    with h5py.File(study, "r+") as file:
        file["variants/more/rule/summary"].attrs["cost"] = 1.0
    assert "study.h5: truncated or damaged (its checksum" in complaint(lambda: read_run(study, "more", rule=True))
    assert_same(read_run(study, "base"), result)


def test_a_studys_file_with_another_head_is_refused_by_everything_that_reads_it(study: Path) -> None:
    with h5py.File(study, "r+") as file:
        file["variants/base"].attrs["digest"] = "other"
    run = VariantRun("base", "a", 0, "", "", ())
    for act in (
        lambda: read_study(study),
        lambda: read_run(study, "base"),
        lambda: stored_head(study),
        lambda: stored_digests(study),
        lambda: write_variant(study, HEAD, run),
    ):
        assert "study.h5: truncated or damaged (its checksum" in complaint(act)


def everything(path: Path) -> None:
    """What commands make of a result."""
    result = read_result(path)
    summary(result)
    kpi_report(result)
    html_report(result)


def put(name: str, value: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        home, last = file[name.rpartition("/")[0] or "/"], name.rpartition("/")[2]
        if last in home.attrs:
            home.attrs[last] = value
            return
        if last in home:
            del home[last]
        home[last] = value

    return change


CHANGES = {
    "state/v_pu": [np.zeros((2, 2)), np.zeros(2), np.zeros((3, 2), int), "text", np.zeros((3, 3))],
    "state/nodal_price": [np.zeros((3, 1))],
    "state/losses_kw": [np.zeros(3), 1.0],
    "check/state/i_a": [np.zeros((1, 2))],
    "check/battery_energy_kwh": [np.zeros((2, 2))],
    "check/failed_hours": [np.zeros(1), np.zeros((1, 1), int), 3],
    "check/passed": ["yes", 1.5, [True, False], h5py.Empty("f8")],
    "check": [1.0, h5py.Empty("f8")],
    "schedule/batteries/charge_kw": [np.zeros((1, 3)), np.zeros((2, 2)), [b"a"]],
    "schedule/batteries": [np.zeros(3)],
    "schedule": [3.0],
    "history/cost": [np.zeros(2), [b"a", b"b", b"c"]],
    "history/area_s": [np.zeros(3), np.zeros((3, 1))],
    "history/method": [np.zeros(3), ["a", "b"]],
    "case/horizon/hour": [np.zeros(0, int), ["a", "b"], np.arange(3)],
    "case/horizon/load": [np.zeros(3)],
    "case/horizon/wind": [np.zeros(0)],
    "case/horizon/dt": ["1", -1.0, 0.0],
    "case/buses/bus": [["a"], ["a", "b", "c"], np.zeros(3)],
    "case/batteries/p_rated_kw": [np.full(1, -1.0), np.full(1, np.nan), ["a"]],
    "case/settings/v_max_pu": ["high", 7.0, np.zeros(3)],
    "case/settings/model": ["linear", 3],
    "case/settings": [np.zeros(2)],
    "summary/cost": ["cheap", h5py.Empty("f8"), True],
    "summary/converged": [3.0],
    "summary/areas": [3.0, np.zeros(2)],
    "summary/oversteps": [np.zeros(2)],
    "summary": [np.zeros(2)],
    "versions": [np.zeros(2), "text"],
    "format_version": ["one", 1.5, [1, 2], h5py.Empty("f8")],
    "format": [3, h5py.Empty("f8"), "tieflow study"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in CHANGES.items() for value in values])
def test_a_part_of_another_type_or_length_is_told_in_a_line(stored: Path, name: str, value: Any) -> None:
    with older(stored) as file:
        if name == "check" and isinstance(value, h5py.Empty):
            # That there was no check.
            del file["check"]
            file.attrs["check"] = value
        else:
            put(name, value)(file)
    if name == "check" and isinstance(value, h5py.Empty):
        everything(stored)
        return
    assert complaint(lambda: everything(stored)).startswith(f"{stored}: ")


def parts(path: Path) -> list[tuple[str, str]]:
    """Group and name of all datasets, groups and attributes of groups in a file, but for names along axes."""
    with h5py.File(path) as file:
        found = [("/", name) for name in file.attrs]

        def see(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if not name.startswith("axes/") and not is_scale(item):
                found.append((item.parent.name, name.rpartition("/")[2]))
            if isinstance(item, h5py.Group):
                found.extend((item.name, attribute) for attribute in item.attrs)

        file.visititems(see)
    return found


@pytest.mark.parametrize("third", range(3))
def test_whatever_part_is_missing_it_is_told_in_a_line_or_not_needed(stored: Path, third: int) -> None:
    with older(stored):
        pass
    whole, needless = stored.read_bytes(), []
    for home, name in parts(stored)[third::3]:
        stored.write_bytes(whole)
        with h5py.File(stored, "r+") as file:
            del (file[home].attrs if name in file[home].attrs else file[home])[name]
        try:
            result = read_result(stored)
        except TieflowError as error:
            assert str(error).startswith(f"{stored}: ") and "\n" not in str(error)
        else:
            needless.append(name)
            summary(result)
            kpi_report(result)
    assert {"v_pu", "cost", "history", "p_rated_kw", "charge_kw", "converged"}.isdisjoint(needless)


@pytest.mark.parametrize(
    "change",
    [
        put("variants", 3.0),
        put("order", 3.0),
        put("text", [b"a", b"b"]),
        put("title", 3.0),
        put("variants/base", 3.0),
        put("variants/more/optimized", 3.0),
        put("variants/more/exit_code", "none"),
        put("variants/more/placements", 3.0),
        put("variants/more/placements/rated_kw", [b"a"]),
        lambda file: file.__delitem__("variants"),
        lambda file: file.__delitem__("order"),
        lambda file: file.attrs.__delitem__("title"),
        lambda file: file["variants/more"].attrs.__delitem__("digest"),
        lambda file: file["variants/more/optimized"].__delitem__("state"),
    ],
)
def test_a_damaged_study_is_told_in_a_line(study: Path, change: Callable[[h5py.File], None]) -> None:
    with older(study) as file:
        change(file)
    assert complaint(lambda: read_study(study)).startswith(f"{study}: truncated or damaged (")


def test_a_study_cut_anywhere_is_told_in_a_line(study: Path) -> None:
    whole = study.read_bytes()
    for size in (0, 8, 100, len(whole) // 2, len(whole) - 1):
        study.write_bytes(whole[:size])
        for act in (is_study, read_study, stored_head, stored_digests):
            assert complaint(lambda act=act: act(study)).startswith(f"{study}: ")


def test_a_result_that_lists_no_rounds_where_others_do_is_not_shown(stored: Path, result: Result) -> None:
    write_result(stored, replace(result, history=replace(result.history, cost=np.zeros(0))))
    assert "damaged (history/mismatch_pu has the shape (3,), not (0,))" in complaint(lambda: read_result(stored))
