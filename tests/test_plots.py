"""Pictures of a balanced and a multi-phase run: each carries the data that it shows, and its sentence reads them."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest

from tieflow.common.case import read_case
from tieflow.common.errors import TieflowError
from tieflow.common.inputs.devices import FlexibleLoad
from tieflow.common.results.result import Result
from tieflow.launch.figures.kpis import limited_voltages
from tieflow.launch.plots import day as day_plots
from tieflow.launch.plots import feeder as feeder_plots
from tieflow.launch.plots import figures as plots
from tieflow.launch.plots.figures import PICTURES, image, pictures, write_pictures
from tieflow.launch.plots.style import LIMIT, WIDTH_IN
from tieflow.launch.runs.solve import Options, solve

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def multiphase() -> Result:
    """Two hours of the unbalanced IEEE 13 bus feeder."""
    return solve(read_case("ieee13", {"periods": 2}), Options())


@pytest.fixture(params=["balanced", "multiphase"])
def result(request: pytest.FixtureRequest, small_result: Result, multiphase: Result) -> Result:
    return small_result if request.param == "balanced" else multiphase


def replayed(result: Result) -> Any:
    assert result.check is not None
    return result.check.state


def stairs(axes: Any) -> dict[str, list[float]]:
    return {patch.get_label(): patch.get_data().values.tolist() for patch in axes.patches}


def lines(axes: Any) -> dict[str, Any]:
    return {line.get_label(): line for line in axes.get_lines()}


def test_every_picture_of_a_run_has_a_heading_and_a_reading_of_one_sentence(result: Result) -> None:
    names = [picture.name for picture in pictures(result)]
    assert set(names) == {picture.name for picture in PICTURES} - {"flexible_loads", "wind"}
    for picture in pictures(result):
        figure = picture.draw(result)
        assert figure.get_suptitle().endswith(f": {result.case.name}, {result.method}")
        assert figure.get_size_inches()[0] == WIDTH_IN
        reading = picture.read(result)
        assert reading.endswith(".")
        assert ". " not in reading
        assert "nan" not in reading


def test_the_substation_is_drawn_as_opendss_finds_it(result: Result) -> None:
    axes = day_plots.substation(result).axes[0]
    state = replayed(result)
    assert stairs(axes) == {
        "real, kW": state.substation_p_kw.tolist(),
        "reactive, kvar": state.substation_q_kvar.tolist(),
    }
    assert lines(axes)["mean real"].get_ydata()[0] == state.substation_p_kw.mean()
    assert axes.get_ylabel() == ("kW, kvar per phase" if result.case.is_balanced else "kW, kvar")
    assert axes.get_xlabel() == "time of day"
    peak = state.substation_p_kw.max()
    time = result.case.horizon.times[state.substation_p_kw.argmax()]
    factor = state.substation_p_kw.mean() / peak
    unit = "kW per phase" if result.case.is_balanced else "kW"
    expected = f"Substation power peaks at {peak:.0f} {unit} at {time}; load factor {factor:.2f}."
    assert day_plots.read_substation(result) == expected


def test_hours_are_those_of_the_day(small_result: Result) -> None:
    axes = day_plots.substation(small_result).axes[0]
    assert axes.patches[0].get_data().edges.tolist() == [6.0, 12.0, 18.0], "rows 1 and 2 of a day of four 6 h periods"
    assert [label.get_text() for label in axes.get_xticklabels()] == [f"{hour:02d}:00" for hour in range(6, 19, 2)]


def test_a_cap_on_substation_power_is_drawn(small_result: Result) -> None:
    case = small_result.case
    capped = replace(case, settings=case.settings.model_copy(update={"substation_peak_kw": 300.0}))
    cap = lines(day_plots.substation(replace(small_result, case=capped)).axes[0])["cap"]
    assert (cap.get_ydata()[0], cap.get_color()) == (300.0, LIMIT)


def test_batteries_show_power_and_stored_energy_with_its_limits(result: Result) -> None:
    power, stored = day_plots.batteries(result).axes
    schedule, units = result.schedule.batteries, result.case.batteries
    assert stairs(power)["discharge"] == schedule["discharge_kw"].sum(axis=0).tolist()
    assert stairs(power)["charge"] == (-schedule["charge_kw"].sum(axis=0)).tolist()
    assert result.check is not None
    energy = result.check.battery_energy_kwh.sum(axis=0)
    capacity = sum(unit.energy_kwh for unit in units)
    together = lines(stored)["all together"].get_ydata()
    np.testing.assert_allclose(together[1:], 100 * energy / capacity)
    assert together[0] == pytest.approx(100 * sum(u.soc_initial * u.energy_kwh for u in units) / capacity)
    drawn = [line.get_ydata()[0] for line in stored.get_lines() if line.get_color() == LIMIT]
    assert drawn == pytest.approx([30.0, 95.0])
    assert f"{together.max():.1f} %" in day_plots.read_batteries(result)


def test_batteries_that_idle_do_not_fill_their_picture_with_noise(small_result: Result) -> None:
    schedule = small_result.schedule
    noise = {**schedule.batteries, "charge_kw": np.full((1, 2), 1e-9), "discharge_kw": np.full((1, 2), 1e-9)}
    idle = replace(small_result, schedule=replace(schedule, batteries=noise))
    assert day_plots.batteries(idle).axes[0].get_ylim() == (-2.0, 2.0), "a tenth of 20 kW"


def test_pv_shows_real_and_reactive_power_and_what_was_curtailed(small_result: Result) -> None:
    full = stairs(day_plots.weather(small_result, "pv").axes[0])
    assert list(full) == ["real, kW", "reactive into the feeder, kvar"]
    assert full["real, kW"] == [30.0, 15.0]
    assert "PV gives 270 kWh per phase, 100 % of what it could" in day_plots.read_weather(small_result, "pv")
    schedule = small_result.schedule
    less = replace(schedule, pv={**schedule.pv, "p_kw": np.array([[20.0, 15.0]])})
    curtailed = replace(small_result, schedule=less)
    shown = stairs(day_plots.weather(curtailed, "pv").axes[0])
    assert (shown["available, kW"], shown["real, kW"]) == ([30.0, 15.0], [20.0, 15.0])
    assert "PV gives 210 kWh per phase, 78 % of what it could" in day_plots.read_weather(curtailed, "pv")


def test_flexible_loads_are_drawn_beside_their_nominal_where_there_are_any(small_result: Result) -> None:
    load = FlexibleLoad(bus=small_result.case.balanced_feeder.buses[1], p_kw=10, q_kvar=0, down=0.5, up=0.5)
    horizon = replace(small_result.case.horizon, load=np.ones(2))
    flexible = replace(
        small_result,
        case=replace(small_result.case, flexible_loads=(load,), horizon=horizon),
        schedule=replace(small_result.schedule, flexible_loads={"p_kw": np.array([[8.0, 12.0]])}),
    )
    assert "flexible_loads" in [picture.name for picture in pictures(flexible)]
    shown = stairs(day_plots.flexible_loads(flexible).axes[0])
    assert shown == {"nominal": [10.0, 10.0], "scheduled": [8.0, 12.0]}
    assert "differ most, by 2 kW, at 06:00" in day_plots.read_flexible_loads(flexible)


def test_the_profile_shows_each_places_range_over_the_day_and_the_limits(result: Result) -> None:
    figure = feeder_plots.profile(result)
    axes = figure.axes[0]
    names, v = limited_voltages(result.case, replayed(result))
    segments = np.concatenate([np.array(found.get_segments()) for found in axes.collections])
    assert len(segments) == len(names)
    drawn = segments[np.lexsort(segments[:, :, 1].T)][:, :, 1]
    expected = np.column_stack([v.min(axis=1), v.max(axis=1)])
    np.testing.assert_array_equal(drawn, expected[np.lexsort(expected.T)])
    limits = [line.get_ydata()[0] for line in axes.get_lines() if line.get_color() == LIMIT]
    settings = result.case.settings
    assert limits == [settings.v_min_pu, settings.v_max_pu]
    labels = {text.get_text() for text in figure.legends[0].get_texts()}
    assert labels == {"limits"} | (
        {"range over the day"} if result.case.is_balanced else {"phase 1", "phase 2", "phase 3"}
    )


def test_the_profile_says_where_voltages_lie_and_whether_limits_are_kept(small_result: Result) -> None:
    assert "the limits 0.95 and 1.05 pu are kept everywhere" in feeder_plots.read_profile(small_result)
    case = small_result.case
    lowest = np.sort(replayed(small_result).v_pu[1:].min(axis=1))
    tight = replace(case, settings=case.settings.model_copy(update={"v_min_pu": lowest[1:3].mean()}))
    assert "passed at 2 of 4 buses" in feeder_plots.read_profile(replace(small_result, case=tight))


def test_distance_is_the_paths_impedance_its_length_or_the_number_of_branches(
    small_result: Result, multiphase: Result
) -> None:
    ohm, _, away_in = feeder_plots.distance(small_result.case)
    assert away_in == "impedance from the substation, ohm"
    # a; behind it b (0.15 + 0.3j) and d (0.25 + 0.2j); behind b then c (0.25 + 0.4j).
    expected = {"a": 0.05 + 0.1j, "b": 0.15 + 0.3j, "c": 0.25 + 0.4j, "d": 0.25 + 0.2j}
    buses = small_result.case.balanced_feeder.buses[1:]
    np.testing.assert_allclose(ohm, [abs(expected[bus]) for bus in buses], rtol=1e-12)
    case = multiphase.case
    names, _ = limited_voltages(case, multiphase.state)
    km, phase, away_in = feeder_plots.distance(case)
    assert (km[names.index("650.2")], away_in) == (0, "distance from the substation, km")
    assert km[names.index("652.1")] == pytest.approx(5100 * 0.3048e-3, rel=0.005), "phases stand side by side"
    assert {int(name.rpartition(".")[2]) for name in names} == set(phase.tolist())
    away, _, away_in = feeder_plots.distance(replace(case, circuit=case.circuit.replace("units=ft", "")))
    assert (round(away[names.index("650.2")]), away_in) == (1, "branches from the substation"), "the transformer"


def test_the_heat_map_has_every_place_and_time(result: Result) -> None:
    axes = feeder_plots.heat_map(result).axes[0]
    names, v = limited_voltages(result.case, replayed(result))
    np.testing.assert_array_equal(axes.images[0].get_array(), v)
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    time = result.case.horizon.times[v.mean(axis=0).argmin()]
    assert f"lowest at {time} ({v.mean(axis=0).min():.4f} pu)" in feeder_plots.read_heat_map(result)


def test_the_voltage_map_colours_buses_by_their_voltage_farthest_from_one(result: Result) -> None:
    figure = feeder_plots.voltage_map(result)
    dots = next(found for found in figure.axes[0].collections if found.get_array() is not None)
    names, v = limited_voltages(result.case, replayed(result))
    expected: dict[str, float] = {}
    for name, values in zip(names, v, strict=True):
        bus = name if result.case.is_balanced else name.rpartition(".")[0]
        every = [*values, expected.get(bus, 1.0)]
        expected[bus] = max(every, key=lambda value: abs(value - 1))
    assert sorted(dots.get_array()) == sorted(expected.values())
    worst = max(expected, key=lambda bus: abs(expected[bus] - 1))
    assert f"Bus {worst} is farthest from 1 pu, with {expected[worst]:.4f} pu" in feeder_plots.read_voltage_map(result)


def test_prices_are_told_in_dollars_of_energy_only_where_that_is_minimized(small_result: Result) -> None:
    def told(**settings: object) -> tuple[str, str]:
        case = replace(small_result.case, settings=small_result.case.settings.model_copy(update=settings))
        result = replace(small_result, case=case)
        return feeder_plots.read_price_map(result), feeder_plots.price_map(result).axes[1].get_xlabel()

    for objective in ("cost", "peak"):
        said, label = told(objective=objective)
        assert f"the mean price of energy is {small_result.case.horizon.price.mean():.4f} $." in said
        assert label == "mean over the day, $/kWh"
    said, label = told(objective="losses")
    assert "raises the objective, which is not the cost of energy alone" in said and said.endswith(" kWh.")
    assert "price" not in said and label == "mean over the day, objective per kWh drawn"
    assert told(weights={"energy": 1.0, "losses": 2.0})[0].endswith(" $.")


def test_the_area_map_has_every_area_tie_and_bus(result: Result) -> None:
    figure = feeder_plots.area_map(result)
    axes = figure.axes[0]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    names = list(dict.fromkeys(row.area for row in result.case.areas))
    assert set(labels) == {"tie", "substation"} | {f"area {name}" if name.isdecimal() else name for name in names}
    ties = next(found for found in axes.collections if found.get_label() == "tie")
    assert len(ties.get_segments()) == len(names) - 1
    drawn = sum(len(line.get_xdata()) for line in axes.get_lines() if line.get_label() != "substation")
    assert drawn == len(feeder_plots.areas(result)[0])
    assert f"in {len(names)} areas" in feeder_plots.read_area_map(result)


def test_a_centralized_run_has_one_area(small_result: Result) -> None:
    central = replace(small_result, method="centralized", areas=("all",))
    assert feeder_plots.areas(central)[1] == ["one area"]
    assert feeder_plots.read_area_map(central) == "The feeder is one area of 5 buses."
    legend = feeder_plots.area_map(central).legends[0].get_texts()
    assert [text.get_text() for text in legend] == ["substation", "one area"]
    alone = replace(central, model_error_pu=2e-9)
    rounds = len(alone.history.cost)
    expected = f"After {rounds} rounds converged: the model error is 2.0e-09 pu, the tolerance is 1e-05 pu."
    assert day_plots.read_convergence(alone) == expected
    told = day_plots.read_convergence(replace(alone, optimality=3e-10))
    assert told == expected.replace(" pu, the tolerance", " pu, the first-order residual is 3.0e-10, the tolerance")


def test_the_map_uses_coordinates_and_fills_in_a_neighbours(multiphase: Result) -> None:
    case = multiphase.case
    where = feeder_plots.layout(case)
    assert where.from_coordinates
    feeder = case.multiphase_feeder
    given, parent = feeder.own_coordinates, feeder.own_parent
    known = np.isfinite(given).all(axis=1)
    np.testing.assert_array_equal(where.xy[known], given[known])
    lost = feeder.coordinates.copy()
    lost[5 + 1] = np.nan
    gappy = replace(case)
    gappy.__dict__["multiphase_feeder"] = replace(feeder, coordinates=lost)
    filled = feeder_plots.layout(gappy).xy
    assert np.isfinite(filled).all()
    neighbours = [int(parent[4]), *(np.flatnonzero(parent == 5) + 1).tolist()]
    assert any((filled[5] == filled[k]).all() for k in neighbours)
    gappy.__dict__["multiphase_feeder"] = replace(feeder, coordinates=np.full_like(lost, np.nan))
    assert not feeder_plots.layout(gappy).from_coordinates


def test_without_coordinates_the_tree_is_laid_out_without_a_bus_on_another() -> None:
    parent = np.array([0, 1, 1, 3, 0])
    xy = feeder_plots.tree_layout(parent)
    assert xy[:, 0].tolist() == [0, 1, 2, 2, 3, 1]
    assert len({tuple(place) for place in xy.tolist()}) == 6
    assert xy[1, 1] == (xy[2, 1] + xy[3, 1]) / 2


def test_convergence_is_drawn_by_round_on_a_logarithmic_axis(multiphase: Result, small_result: Result) -> None:
    axes = day_plots.convergence(multiphase).axes[0]
    past = multiphase.history
    drawn = lines(axes)
    assert axes.get_yscale() == "log"
    assert list(drawn) == ["mismatch", "change", "first-order residual", "tolerance"]
    assert drawn["first-order residual"].get_ydata().tolist() == past.optimality.tolist()
    assert drawn["mismatch"].get_xdata().tolist() == list(range(1, len(past.cost) + 1))
    assert drawn["mismatch"].get_ydata().tolist() == past.mismatch_pu.tolist()
    assert np.isnan(drawn["change"].get_ydata()[0]), "the first round has nothing to differ from"
    assert list(day_plots.residuals(small_result)) == ["mismatch", "change"]


def test_a_run_of_one_area_without_residuals_has_no_picture_of_convergence(small_result: Result) -> None:
    zero = np.zeros(1)
    past = replace(small_result.history, mismatch_pu=zero, change_pu=zero + np.inf, optimality=zero + np.nan)
    names = [picture.name for picture in pictures(replace(small_result, history=past))]
    assert "convergence" not in names


def test_a_run_without_devices_has_no_pictures_of_them(small_result: Result) -> None:
    bare = replace(small_result, case=replace(small_result.case, pv=()))
    names = [picture.name for picture in pictures(bare)]
    assert "pv" not in names
    assert "batteries" in names


def test_a_run_not_to_be_used_says_so_in_red_on_every_picture(small_result: Result) -> None:
    bad = replace(small_result, converged=False, check=None)
    for picture in pictures(bad):
        figure = picture.draw(bad)
        assert "NOT CONVERGED\nNOT CHECKED IN OPENDSS" in figure.get_suptitle()
        heading = next(text for text in figure.texts if text.get_text() == figure.get_suptitle())
        assert heading.get_color() == LIMIT
    assert "NOT CONVERGED" in day_plots.read_convergence(bad)


def test_the_same_picture_gives_the_same_bytes_without_touching_the_users_style(small_result: Result) -> None:
    before = dict(matplotlib.rcParams)
    first, second = (image(PICTURES[0], small_result, "svg") for _ in range(2))
    assert first == second
    assert b"DejaVuSans" in first
    assert PICTURES[0].read(small_result).encode() in first, "the reading goes with the file"
    assert dict(matplotlib.rcParams) == before


def test_pictures_are_written_as_files_of_300_dpi_or_not_at_all(
    small_result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots, "pictures", lambda result: pictures(result)[:2])
    folder = tmp_path / "pictures"
    readings = write_pictures(small_result, folder, "png")
    assert sorted(readings) == sorted(path.name for path in folder.iterdir())
    substation = (folder / "substation.png").read_bytes()
    assert substation.startswith(PNG)
    assert int.from_bytes(substation[16:20], "big") == WIDTH_IN * 300
    with pytest.raises(TieflowError, match="not an empty folder"):
        write_pictures(small_result, folder, "png")
    with pytest.raises(TieflowError, match="Make the folder above it first"):
        write_pictures(small_result, tmp_path / "no" / "folder", "png")
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


def test_without_matplotlib_nothing_is_left_and_the_extra_is_named(
    small_result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(TieflowError, match=r"^matplotlib cannot be loaded .*pip install 'tieflow\[plot\]'$"):
        write_pictures(small_result, tmp_path / "pictures", "png")
    assert not list(tmp_path.iterdir())
