"""Variants as cases: devices where the study puts them, never moved in silence; loads, ratings and profiles changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from studies import STUDY, read, write_study

from tieflow.common.case import Case, read_case
from tieflow.common.errors import CaseError
from tieflow.common.feeder.multiphase import path_impedance
from tieflow.common.results.study import digest
from tieflow.launch.studies.file import Place, read_study_file
from tieflow.launch.studies.placement import placed_bus, three_phase_primary
from tieflow.launch.studies.variants import Asked, Resolved, Unresolved, peak_load_kw, resolve, scaled

IEEE13 = read_case("ieee13", {"periods": 4}, with_devices=False)


def resolved(folder: Path, old: str = "", new: str = "", extra: str = "", asked: Asked | None = None) -> list[Resolved]:
    found = resolve(read(folder, old, new, extra), asked)
    good = [variant for variant in found if isinstance(variant, Resolved)]
    assert len(good) == len(found), found
    return good


def refusal(folder: Path, old: str, new: str) -> str:
    """Why the last variant cannot be."""
    found = resolve(read(folder, old, new))[-1]
    assert isinstance(found, Unresolved)
    return str(found.error)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "load_factor = 1e9",
            "variant 'full': load_factor = 1e+09: bus 'a': p_load_kw: must be -1e+09 to 1e+09 (got 1000",
        ),
        (
            "pv_penetration = 1e9",
            "variant 'full': pv_penetration = 1e+09: bus 'c': p_rated_kw: must be 1e-06 to 1e+09",
        ),
    ],
)
def test_a_factor_that_takes_a_power_out_of_its_range_is_refused_with_its_bus(
    small: Path, line: str, words: str
) -> None:
    assert words in refusal(small.parent, 'name = "full"', f'name = "full"\n{line}')


def test_a_factor_that_takes_a_circuits_load_out_of_its_range_is_refused_with_its_variant(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match=r"thirteen\.toml, variant 'v': load\.671: kw must be -1e\+09 to 1e\+09"):
        thirteen(tmp_path, "load_factor = 1e9")


def thirteen(folder: Path, variant: str, devices: str = "") -> Resolved:
    """A variant of the multi-phase case with one PV system at bus 675."""
    pv = '[devices.sun]\nkind = "pv"\nbus = 675\np_rated_kw = 300\ns_rated_kva = 360\n'
    path = folder / "thirteen.toml"
    path.write_text(
        f'case = "ieee13"\nsettings = {{ periods = 4 }}\n{pv}{devices}\n[[variants]]\nname = "v"\n{variant}'
    )
    (found,) = resolve(read_study_file(str(path)))
    if isinstance(found, Unresolved):
        raise found.error
    return found


def test_a_variant_has_the_devices_of_the_study_only_unless_the_case_keeps_its_own(small: Path) -> None:
    base, _, full = resolved(small.parent)
    assert not base.case.devices
    assert [len(units) for units in (full.case.pv, full.case.batteries, full.case.flexible_loads)] == [1, 1, 1]
    kept = resolved(small.parent, 'name = "base"', 'name = "base"\nkeep_devices = true')[0]
    assert [unit.bus for unit in kept.case.devices] == ["c", "d"]


def test_what_was_put_where_is_told_with_the_sources_word(small: Path) -> None:
    (placement,) = resolved(small.parent)[1].placements
    assert (placement.device, placement.kind, placement.named, placement.bus) == ("sun", "pv", "70", "c")
    assert (placement.note, placement.phases, placement.rated_kw) == ("the source's bus is not here", "", 30)


def test_a_bus_that_the_feeder_lacks_is_refused_by_name(small: Path) -> None:
    said = refusal(small.parent, 'bus = "b"', 'bus = "160"')
    assert "study.toml, variant 'full', device 'flex': the feeder of case small has no bus '160'" in said
    assert "Did you mean 'C'" not in said
    assert "Did you mean 'd'?" in refusal(small.parent, 'bus = "d"', 'bus = "D"')


def test_a_monitored_bus_that_the_feeder_lacks_is_refused(small: Path) -> None:
    assert "monitored_bus: the feeder of case small has no bus 'x'" in refusal(
        small.parent, 'case = "small"', 'case = "small"\nmonitored_bus = "x"'
    )


def test_phases_that_a_bus_lacks_are_refused_and_those_it_has_are_told(tmp_path: Path) -> None:
    assert thirteen(tmp_path, 'devices = ["sun"]').placements[0].phases == "1.2.3"
    two = thirteen(tmp_path, 'devices = ["sun"]\nchange = { sun = { bus = "646", phases = "2-3" } }')
    assert (two.placements[0].phases, two.case.pv[0].phases) == ("2-3", "2-3")
    with pytest.raises(CaseError, match=r"device 'sun': a device at bus '646' asks for phase 1, but the bus has"):
        thirteen(tmp_path, 'devices = ["sun"]\nchange = { sun = { bus = "646", phases = 1 } }')


def test_a_factor_scales_every_load_and_the_studys_flexible_ones(small: Path) -> None:
    plain = resolved(small.parent)[2].case
    more = resolved(small.parent, 'name = "full"', 'name = "full"\nload_factor = 1.5')[2]
    assert more.case.balanced_feeder.p_load == pytest.approx(1.5 * plain.feeder.p_load)
    assert more.case.balanced_feeder.q_load == pytest.approx(1.5 * plain.feeder.q_load)
    assert more.case.flexible_loads[0].p_kw == 15
    assert [p.rated_kw for p in more.placements] == [30, 20, 15]
    assert [p.note.rpartition("; ")[2] for p in more.placements] == [
        "the source's bus is not here", "", "10 kW times 1.5: load_factor = 1.5"
    ]  # fmt: skip
    assert more.case.horizon.load.tolist() == plain.horizon.load.tolist()


def test_a_factor_scales_the_loads_of_an_opendss_circuit_and_nothing_else() -> None:
    generator = "new generator.g bus1=680 phases=3 kv=4.16 kw=50 kvar=10 model=1\n"
    case = replace(IEEE13, circuit=IEEE13.circuit + generator)
    more = scaled(case, 1.25)
    before, after = case.multiphase_feeder.legs, more.multiphase_feeder.legs
    assert before.name == after.name
    factor = [1.0 if name == "generator.g" else 1.25 for name in before.name]
    assert after.s == pytest.approx(before.s * factor)
    assert peak_load_kw(more) == pytest.approx(1.25 * peak_load_kw(case))
    assert scaled(case, 1.0) is case


def test_penetration_rates_all_pv_at_a_share_of_the_peak_load(tmp_path: Path) -> None:
    second = '[devices.more]\nkind = "pv"\nbus = "671"\np_rated_kw = 100\ns_rated_kva = 110\n'
    found = thirteen(tmp_path, 'devices = ["sun", "more"]\npv_penetration = 20', second)
    rated = [unit.p_rated_kw for unit in found.case.pv]
    assert sum(rated) == pytest.approx(0.2 * peak_load_kw(IEEE13))
    assert rated[0] == pytest.approx(3 * rated[1])
    assert [unit.s_rated_kva / unit.p_rated_kw for unit in found.case.pv] == pytest.approx([1.2, 1.1])
    assert [p.rated_kw for p in found.placements] == pytest.approx(rated)
    factor = rated[0] / 300
    assert found.placements[0].note == f"300 kW times {factor:.4g}: pv_penetration = 20"
    # What the circuit's loads draw at rated voltage, times the profile.
    assert peak_load_kw(IEEE13) == pytest.approx(3466 * IEEE13.horizon.load.max())
    with pytest.raises(CaseError, match="pv_penetration, but the variant has no PV"):
        thirteen(tmp_path, "pv_penetration = 20")


def test_a_rule_places_at_three_phase_buses_of_the_primary_in_the_order_of_distance() -> None:
    buses = three_phase_primary(IEEE13)
    # Neither the 115 kV side, nor 634 at 480 V, nor laterals of fewer phases.
    assert set(buses) == {"650", "rg60", "632", "670", "671", "680", "692", "675", "633"}
    away = np.abs(path_impedance(IEEE13.multiphase_feeder))
    order = [away[IEEE13.multiphase_feeder.index[bus]] for bus in buses]
    assert order == sorted(order)
    ends = [placed_bus(IEEE13, Place(rule="three_phase_primary", distance=d))[0] for d in (0, 0.5, 1)]
    assert ends == [buses[0], buses[4], buses[8]]
    assert "5 of 9 three-phase buses" in placed_bus(IEEE13, Place(rule="three_phase_primary", distance=0.5))[1]


def test_the_impedance_of_a_path_is_that_of_its_lines(small: Path) -> None:
    # 0.05 + 0.1j to a; 0.2 + 0.1j more to d; 0.1 + 0.2j more to b, then 0.1 + 0.1j to c.
    assert three_phase_primary(read_case(str(small))) == ["a", "d", "b", "c"]
    feeder = IEEE13.multiphase_feeder
    z = path_impedance(feeder)
    ohm = (z[feeder.index["680"]] - z[feeder.index["671"]]) * (4.16**2 / 3) / (IEEE13.settings.base_kva / 1000)
    # Line 671680 of circuit.dss: means of the diagonals less those of the rest.
    r = np.mean([0.065625, 0.063920, 0.064602]) - np.mean([0.029545, 0.029924, 0.029072])
    x = np.mean([0.192784, 0.198447, 0.195985]) - np.mean([0.095019, 0.080227, 0.072898])
    assert (ohm.real, ohm.imag) == pytest.approx((r, x), rel=2e-3)


def test_columns_of_the_studys_table_come_before_the_cases_and_others_are_shapes(small: Path) -> None:
    rows = "".join(f"{i},{i / 10},25,{1 + i}\n" for i in range(4))
    (small.parent / "own.csv").write_text("hour,irradiance_pu,cell_c,gusts\n" + rows)
    own = '[profiles]\ncsv = "own.csv"\n\n[rule]'
    wind = '[devices.w]\nkind = "wind"\nbus = "a"\np_rated_kw = 2\ns_rated_kva = 9\nprofile = "gusts"\n\n[[variants]]'
    text = STUDY.replace("[rule]", own, 1).replace("[[variants]]", wind, 1).replace('"flex"]', '"flex", "w"]', 1)
    (small.parent / "study.toml").write_text(text)
    found = resolve(read_study_file(str(small.parent / "study.toml")))[2]
    assert isinstance(found, Resolved)
    horizon = found.case.horizon
    assert horizon.pv == pytest.approx([0.1, 0.2])
    assert horizon.idle(found.case.wind[0]) == pytest.approx([4, 6])
    assert horizon.load.tolist() == [0.8, 1.0]


def test_prices_of_the_studys_table_replace_those_of_the_case_but_not_the_studys_own(small: Path) -> None:
    (small.parent / "own.csv").write_text("hour,price_per_kwh\n0,1\n1,2\n2,3\n3,4\n")
    own = '[profiles]\ncsv = "own.csv"\n\n[rule]'
    assert resolved(small.parent, "[rule]", own)[0].case.horizon.price.tolist() == [2, 3]
    said = refusal(small.parent, "[rule]", f"[settings]\nprice_low_per_kwh = 1\n\n{own}")
    assert "price_low_per_kwh, but" in said and "has the column price_per_kwh" in said


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("hour,pv_pu\n0,1\n", "own.csv: 1 rows, but a day of 6 h periods (dt_hours) needs 4: hour = 0..3"),
        ("pv_pu\n1\n", "own.csv: missing column 'hour'"),
        ("hour,pv_p\n0,1\n1,1\n2,1\n3,1\n", "own.csv: column 'pv_p' is no profile of a case, and no device follows"),
        ("hour,gusts\n0,a\n", "own.csv, line 2: gusts: must be a valid number"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_by_name(small: Path, table: str, message: str) -> None:
    (small.parent / "own.csv").write_text(table)
    assert message in refusal(small.parent, "[rule]", '[profiles]\ncsv = "own.csv"\n\n[rule]')


def test_settings_go_from_the_case_over_study_and_variant_to_the_command_line(small: Path) -> None:
    study = "[settings]\nperiods = 1\nv_min_pu = 0.9\nv_max_pu = 1.1\n\n[rule]"
    write_study(small.parent, "[rule]", study)
    text = (small.parent / "study.toml").read_text()
    text = text.replace('name = "full"', 'name = "full"\nsettings = { periods = 3, v_max_pu = 1.2 }')
    (small.parent / "study.toml").write_text(text)
    found = resolve(read_study_file(str(small.parent / "study.toml")), Asked(settings={"v_max_pu": 1.3}))[2]
    assert isinstance(found, Resolved)
    settings = found.case.settings
    assert (settings.periods, settings.v_min_pu, settings.v_max_pu, settings.dt_hours) == (3, 0.9, 1.3, 6.0)
    assert "variant 'full': v_min_pu" in refusal(small.parent, 'name = "full"', 'name = "full"\nsettings.v_min_pu = 3')


def test_a_study_without_a_case_says_how_to_get_one(small: Path) -> None:
    study = read(small.parent, 'case = "small"', 'case_hint = "OpenDSS is circulated with this feeder"')
    with pytest.raises(CaseError, match=r"circulated with this feeder\. Name your copy with --case .*tieflow import"):
        resolve(study)
    assert isinstance(resolve(study, Asked(case=str(small)))[0], Resolved)


def test_areas_are_the_cases_or_as_many_as_asked_for(small: Path) -> None:
    assert [variant.areas for variant in resolved(small.parent)] == [4, 4, 4]
    two = resolved(small.parent, 'name = "full"', 'name = "full"\nareas = 2')
    assert [variant.areas for variant in two] == [4, 4, 2]
    assert {variant.areas for variant in resolved(small.parent, asked=Asked(areas="3"))} == {3}
    one = resolved(small.parent, 'name = "full"', 'name = "full"\nmethod = "centralized"')
    assert one[2].areas == 1


def test_a_variant_without_a_method_is_solved_by_the_cases_own(small: Path, tmp_path: Path) -> None:
    def methods(folder: Path, **settings: object) -> set[str | None]:
        return {variant.options.method for variant in resolved(folder, asked=Asked(settings=settings))}

    write_study(small.parent)
    assert methods(small.parent) == {"admm"}
    assert methods(small.parent, method="newton") == {"newton"}
    assert {
        variant.options.method for variant in resolved(small.parent, 'title = "', 'method = "dlmp"\ntitle = "')
    } == {"dlmp"}
    assert thirteen(tmp_path, "").options.method == "newton"


def test_a_digest_tells_all_inputs_apart_and_nothing_else(small: Path) -> None:
    plain = [variant.digest for variant in resolved(small.parent)]
    assert plain == [variant.digest for variant in resolved(small.parent)]
    assert len(set(plain)) == 3
    rule = [variant.digest for variant in resolved(small.parent, "charge_hours = [6", "charge_hours = [5")]
    # Without devices no rule matters.
    assert [one == other for one, other in zip(plain, rule, strict=True)] == [True, False, False]
    words = [variant.digest for variant in resolved(small.parent, "is not here", "is elsewhere")]
    assert words == plain
    limits = resolved(small.parent, 'name = "full"', 'name = "full"\nsettings = { v_max_pu = 1.06 }')
    assert limits[2].digest != plain[2]


def test_a_digest_feels_a_single_bit_and_where_lists_end() -> None:
    case: Case = IEEE13
    load = case.horizon.load.copy()
    load[0] = np.nextafter(load[0], 2)
    assert digest(case) == digest(replace(case)) != digest(replace(case, horizon=replace(case.horizon, load=load)))
    assert digest(("a", "b"), ()) != digest(("a",), ("b",))
    assert digest("1") != digest(1)


def test_commands_change_the_circuit_and_those_that_do_nothing_are_refused(tmp_path: Path, small: Path) -> None:
    def study(commands: str, case: str = "ieee13") -> Resolved:
        path = tmp_path / "commands.toml"
        path.write_text(f'case = "{case}"\ncommands = ["{commands}"]\n[[variants]]\nname = "v"\n')
        (found,) = resolve(read_study_file(str(path)))
        if isinstance(found, Unresolved):
            raise found.error
        return found

    def lifted(case: Case) -> float:
        return float(abs(case.multiphase_feeder.v_no_load[case.multiphase_feeder.node_names.index("rg60.1")]))

    assert lifted(IEEE13) / lifted(study("edit transformer.reg1 taps=(1 1)").case) == pytest.approx(1.05625, abs=2e-3)
    for commands, message in (
        ("edit transformer.reg9 taps=(1 1)", "commands: the circuit has no 'transformer.reg9' to edit"),
        ("edit transformer.reg1 tops=1", "commands: OpenDSS refuses 'edit transformer.reg1 tops=1'"),
    ):
        with pytest.raises(CaseError, match=message):
            study(commands)
    with pytest.raises(CaseError, match="commands: case small is balanced and has no circuit"):
        study("solve", str(small))
