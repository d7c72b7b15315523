"""Pictures over variants: each carries the data of every variant, tells them apart, and its sentence reads them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from study_results import solved_study

from tieflow.common.errors import TieflowError
from tieflow.common.results.result import Result
from tieflow.common.results.study import StoredStudy, VariantRun
from tieflow.launch.figures.kpis import kpi_report
from tieflow.launch.figures.study import figures, optimized
from tieflow.launch.plots import study as study_plots
from tieflow.launch.plots.study import monitored, study_image, study_pictures
from tieflow.launch.plots.study_bars import BARS
from tieflow.launch.plots.style import BASE, BLUE, LIMIT, VARIANT_STYLES, WIDTH_IN


@pytest.fixture(scope="module")
def study() -> StoredStudy:
    return solved_study()


def stairs(axes: Any) -> dict[str, Any]:
    return {patch.get_label(): patch for patch in axes.patches}


def values(axes: Any, label: str) -> list[float]:
    found: list[float] = stairs(axes)[label].get_data().values.tolist()
    return found


def texts(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.texts]


def bars(study: StoredStudy, name: str) -> tuple[Any, str]:
    (chosen,) = [kind for kind in BARS if kind.name == name]
    told = figures(study)
    return chosen.draw(study, told).axes[0], chosen.read(study, told)


def many(study: StoredStudy, count: int) -> dict[str, Result]:
    """The base, then variants that all are the full one."""
    results = optimized(study)
    return {"base": results["base"], **{f"full{k}": results["full"] for k in range(count - 1)}}


def replayed(result: Result) -> Any:
    assert result.check is not None
    return result.check.state


def test_every_picture_has_a_heading_and_a_reading_of_one_sentence(study: StoredStudy) -> None:
    found = study_pictures(study, figures(study))
    assert [picture.name.removeprefix("study_") for picture in found] == [
        *("cost", "losses", "saving", "substation", "voltage"),
        *("battery_power", "battery_soc", "flexible_loads", "generation"),
    ]
    for picture in found:
        figure = picture.draw()
        assert figure.get_suptitle().endswith(": ieee13")
        assert figure.get_size_inches()[0] == WIDTH_IN
        reading = picture.read()
        assert reading.endswith(".")
        assert ". " not in reading
        assert "nan" not in reading
    assert study_image(found[0], "png", 30).startswith(b"\x89PNG")


def test_a_study_without_devices_or_solved_variants_shows_what_there_is(study: StoredStudy) -> None:
    bare = replace(study, variants={"base": study.variants["base"]})
    names = [picture.name for picture in study_pictures(bare, figures(bare))]
    assert names == ["study_cost", "study_losses", "study_substation", "study_voltage"]
    failed = replace(study, variants={"too much": study.variants["too much"]})
    assert study_pictures(failed, figures(failed)) == []


def test_few_variants_are_drawn_together_with_the_base_in_black(study: StoredStudy) -> None:
    results = optimized(study)
    figure = study_plots.substation(results, "base")
    (axes,) = figure.axes
    for name, look in (("base", BASE), ("full", VARIANT_STYLES[0])):
        assert values(axes, name) == replayed(results[name]).substation_p_kw.tolist()
        assert (stairs(axes)[name].get_edgecolor(), stairs(axes)[name].get_linestyle()) == (
            pytest.approx(matplotlib_colour(look[0])),
            look[1],
        )
    peaks = {name: replayed(own).substation_p_kw.max() for name, own in results.items()}
    assert study_plots.read_substation(results, "base") == (
        f"Substation power peaks at {peaks['base']:.0f} kW in base (12:00); the lowest peak is that of full with "
        f"{peaks['full']:.0f} kW."
    )


def matplotlib_colour(name: str) -> Any:
    from matplotlib.colors import to_rgba

    return to_rgba(name)


def test_many_variants_get_a_panel_each_with_the_base_in_black(study: StoredStudy) -> None:
    results = many(study, 10)
    figure = study_plots.substation(results, "base")
    shown = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in shown] == [f"full{k}" for k in range(9)]
    for axes in shown:
        assert values(axes, "base") == replayed(results["base"]).substation_p_kw.tolist()
        assert values(axes, "the panel's variant") == replayed(results["full0"]).substation_p_kw.tolist()
        assert stairs(axes)["base"].get_edgecolor() == matplotlib_colour("black")
        assert stairs(axes)["the panel's variant"].get_edgecolor() == matplotlib_colour(BLUE)
        assert axes.get_ylim() == shown[0].get_ylim()
    assert [axes.get_xlabel() for axes in shown] == [""] * 7 + ["time of day"] * 2


def test_twenty_variants_look_different_and_neighbours_differ_in_colour_and_line() -> None:
    assert len({BASE, *VARIANT_STYLES}) == 21
    for one, other in zip(VARIANT_STYLES, VARIANT_STYLES[1:], strict=False):
        assert one[0] != other[0]
        assert one[1] != other[1]


def test_the_base_is_the_one_named_and_its_failure_leaves_the_first_to_compare_with(study: StoredStudy) -> None:
    results = optimized(study)
    assert stairs(study_plots.substation(results, "full").axes[0])["full"].get_edgecolor() == matplotlib_colour("black")
    only = {"full": results["full"]}
    assert "in full (10:00)" in study_plots.read_substation(only, "base")
    assert study_plots.substation(only, "base").axes


def test_the_voltage_at_a_bus_is_that_of_its_lowest_phase_with_the_limits(study: StoredStudy) -> None:
    results = optimized(study)
    node = monitored(results, "base", "675")
    names = list(results["base"].case.multiphase_feeder.node_names[results["base"].case.multiphase_feeder.roots :])
    own = {name: replayed(results["base"]).v_pu[names.index(name)] for name in names if name.startswith("675.")}
    assert node == min(own, key=lambda name: own[name].min())
    (axes,) = study_plots.voltage(results, "base", "675").axes
    assert values(axes, "base") == own[node].tolist()
    limits = [line.get_ydata()[0] for line in axes.get_lines() if line.get_color() == LIMIT]
    settings = results["base"].case.settings
    assert limits == [settings.v_min_pu, settings.v_max_pu]
    reading = study_plots.read_voltage(results, "base", "675")
    assert reading.startswith(f"The voltage at {node} is lowest in ")
    assert reading.endswith("its limits are kept in all variants.")


def test_without_a_bus_the_lowest_voltage_of_the_base_is_monitored(study: StoredStudy) -> None:
    lowest = kpi_report(study.variants["base"].optimized or pytest.fail()).kpis.lowest_voltage_pu
    assert monitored(optimized(study), "base", "") == lowest.place
    assert monitored(optimized(study), "base", "675.2") == "675.2"


def test_limits_that_are_passed_are_told(study: StoredStudy) -> None:
    results = optimized(study)
    case = results["full"].case
    narrow = replace(case, settings=case.settings.model_copy(update={"v_min_pu": 1.04}))
    passed = {**results, "full": replace(results["full"], case=narrow)}
    assert "passed in 1 of 2 variants" in study_plots.read_voltage(passed, "base", "675")


def test_a_bus_that_is_not_there_is_refused(study: StoredStudy) -> None:
    with pytest.raises(TieflowError, match=r"at a bus or node '6755'\. Did you mean '675"):
        monitored(optimized(study), "base", "6755")
    with pytest.raises(TieflowError, match="variant 'full' has no 'x'"):
        study_plots.voltage_at("full", optimized(study)["full"], "x")


def test_batteries_are_those_of_the_variants_that_have_some(study: StoredStudy) -> None:
    results = optimized(study)
    schedule = results["full"].schedule.batteries
    net = (schedule["discharge_kw"] - schedule["charge_kw"])[0]
    (power,) = study_plots.battery_power(results, "base").axes
    assert list(stairs(power)) == ["full"]
    assert values(power, "full") == net.tolist()
    (stored,) = study_plots.battery_soc(results, "base").axes
    (line,) = stored.get_lines()
    check = results["full"].check
    assert check is not None
    np.testing.assert_allclose(line.get_ydata()[1:], check.battery_energy_kwh[0] / 3)
    assert f"{max(net.max(), 0):.0f} kW." in study_plots.read_battery_power(results, "base")


def test_flexible_loads_stand_beside_their_nominal_demand(study: StoredStudy) -> None:
    results = optimized(study)
    (axes,) = study_plots.flexible_loads(results, "base").axes
    nominal = 60 * results["full"].case.horizon.load
    assert axes.get_title() == "full"
    assert values(axes, "nominal") == pytest.approx(nominal)
    actual = results["full"].schedule.flexible_loads["p_kw"][0]
    assert values(axes, "scheduled") == actual.tolist()
    assert f"by {np.abs(actual - nominal).max():.0f} kW." in study_plots.read_flexible_loads(results, "base")


def test_generation_shows_pv_wind_and_what_was_curtailed(study: StoredStudy) -> None:
    full = optimized(study)["full"]
    (axes,) = study_plots.generation({"full": full}, "base").axes
    assert values(axes, "PV") == full.schedule.pv["p_kw"][0].tolist()
    assert "Wind available" not in stairs(axes)
    less = replace(full, schedule=replace(full.schedule, wind={**full.schedule.wind, "p_kw": np.full((1, 4), 10.0)}))
    (axes,) = study_plots.generation({"less": less}, "base").axes
    assert values(axes, "Wind available") == pytest.approx([40.0, 72.0, 24.0, 16.0])
    assert study_plots.read_generation({"less": less}, "base").endswith("; wind gives 40 kWh in less.")
    alike = study_plots.read_generation({"full": full, "same": full}, "base")
    assert alike.endswith("; wind gives 152 kWh in every variant that has it.")
    reading = study_plots.read_generation({"less": less, "full": full}, "base")
    assert "; wind gives from 40 (less) to 152 kWh (full)." in reading


def test_doubts_are_told_by_the_names_of_their_variants(study: StoredStudy) -> None:
    results = optimized(study)
    doubted = {**results, "full": replace(results["full"], converged=False)}
    assert study_plots.substation(doubted, "base").get_suptitle() == "Substation power: ieee13\nNOT CONVERGED: full"


def test_bars_of_cost_are_those_of_the_replay_and_say_what_is_missing(study: StoredStudy) -> None:
    axes, reading = bars(study, "study_cost")
    ours, rule = ([bar.get_width() for bar in container] for container in axes.containers)
    costs = [kpi_report(run.optimized).kpis.energy_cost for run in study.variants.values() if run.optimized]
    assert ours == [*costs, 0.0]
    assert rule == pytest.approx([0.0, 1.1 * costs[1], 1.1 * costs[1]])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["base", "full", "too much"]
    assert texts(axes)[2] == "not solved"
    assert reading.endswith("in 1 of 1 variants they are below the plain rule's.")


def test_a_variant_that_costs_what_the_plain_rule_costs_is_not_below_it(study: StoredStudy) -> None:
    full = study.variants["full"]
    assert full.optimized is not None
    same = replace(study, variants={**study.variants, "full": replace(full, rule=full.optimized)})
    (costs, *_) = study_pictures(same, figures(same))
    assert costs.read().endswith("in 0 of 1 variants they are below the plain rule's.")


def test_the_saving_is_what_the_plain_rule_costs_more(study: StoredStudy) -> None:
    full = study.variants["full"]
    assert full.optimized is not None
    cost = kpi_report(full.optimized).kpis.energy_cost
    axes, reading = bars(study, "study_saving")
    assert texts(axes) == ["no devices", f"{0.1 * cost:,.2f} $ (9.1 %)", "not solved"]
    assert reading == f"Optimizing saves {0.1 * cost:,.2f} $ against the plain rule in full."


def test_a_schedule_that_costs_more_than_the_rules_stands_out(study: StoredStudy) -> None:
    full = study.variants["full"]
    swapped = VariantRun("swapped", "d", 0, "", "", (), full.rule, full.optimized)
    failed = replace(full, name="alone", rule=None, rule_failure="no power flow")
    axes, reading = bars(replace(study, variants={"full": full, "swapped": swapped, "alone": failed}), "study_saving")
    colours = [bar.get_facecolor() for container in axes.containers for bar in container]
    assert colours[1] == matplotlib_colour(LIMIT)
    assert texts(axes)[2] == "plain rule failed"
    assert "and least in swapped, -" in reading


def test_losses_are_compared_too(study: StoredStudy) -> None:
    axes, reading = bars(study, "study_losses")
    ours, rule = ([bar.get_width() for bar in container] for container in axes.containers)
    assert rule[1] == pytest.approx(2 * ours[1])
    assert reading.startswith("Losses of the optimized schedules lie between ")
