"""The shipped studies: every device is where the file says and why, their day is the documented one, and what is
optimized is better than the plain rule."""

from __future__ import annotations

import csv
import importlib.util
import math
import os
from pathlib import Path

import numpy as np
import pytest

from tieflow.common.case import Case, read_case
from tieflow.common.feeder.multiphase import MultiphaseFeeder, path_length
from tieflow.common.results.study import Placement, StoredStudy
from tieflow.launch.commands.import_feeder import import_feeder
from tieflow.launch.figures.study import figures
from tieflow.launch.plots import feeder as feeder_plots
from tieflow.launch.studies.file import StudyFile, read_study_file, shipped_studies
from tieflow.launch.studies.run import run_variant, study_head
from tieflow.launch.studies.variants import Asked, Resolved, case_folder, resolve, resolve_variant

STUDIES = shipped_studies()
IEEE123 = ("ieee123_scenarios", "ieee123_penetration", "ieee123_battery", "ieee123_mixed")
LARGEST = 3100
"""the largest bus number that the source of ieee8500 names"""


def places(study: StudyFile) -> list[Resolved]:
    """Variants, few, in which every device of the study is at every bus where it ever is."""
    seen: set[tuple[str, str]] = set()
    found = []
    for variant in reversed(study.variants):
        here = {(name, study.device(name, variant)["bus"]) for name in variant.devices}
        if here - seen:
            asked = Asked(settings={"periods": 4})
            found.append(resolve_variant(study, variant, case_folder(study, asked), asked))
        seen |= here
    return found


def three_phase_bus_above(feeder: MultiphaseFeeder, bus: str) -> str:
    """The bus itself, or the nearest one upstream with three phases."""
    at = feeder.buses.index(bus)
    while feeder.node_phase[feeder.node_bus == at].tolist() != [1, 2, 3]:
        at = int(feeder.parent[at - 1])
    return feeder.buses[at]


def assert_explained(case: Case, placement: Placement) -> None:
    if placement.named:
        assert placement.bus == three_phase_bus_above(case.multiphase_feeder, placement.named)
        assert placement.bus == placement.named or placement.named in placement.note


@pytest.mark.parametrize("name", IEEE123)
def test_every_device_is_at_the_sources_bus_or_the_nearest_upstream_with_three_phases(name: str) -> None:
    for variant in places(read_study_file(name)):
        for placement in variant.placements:
            assert placement.phases == "1.2.3"
            assert_explained(variant.case, placement)


def test_the_ieee8500_study_places_by_its_stated_fractions() -> None:
    study = read_study_file("ieee8500")
    assert len(study.variants) == 5
    for fields in study.devices.values():
        assert fields["place"]["distance"] == pytest.approx(int(fields["named"]) / LARGEST, abs=6e-4)


def test_the_ieee8500_study_fits_the_feeder(tmp_path: Path) -> None:
    master = os.environ.get("TIEFLOW_IEEE8500", "")
    if not master:
        pytest.skip("TIEFLOW_IEEE8500 does not name the Master-unbal.dss of the IEEE 8500-node feeder")
    import_feeder(Path(master), tmp_path / "my_8500", ("set loadmult=0.6",))
    study = read_study_file("ieee8500")
    full = resolve_variant(study, study.variants[-1], tmp_path / "my_8500", Asked(settings={"periods": 4}))
    assert len(full.case.devices) == len(full.placements) == len(study.devices)
    assert {placement.phases for placement in full.placements} == {"1.2.3"}


def bump(t: float, centre: float, width: float) -> float:
    """A bell about an hour of the day, of height 1."""
    away = min(abs(t - centre), 24 - abs(t - centre))
    return math.exp(-((away / width) ** 2) / 2)


def documented_day(hour: int) -> dict[str, float]:
    """The formulas of docs/reproduction.md."""
    t = hour + 0.5
    sun = math.sin(math.pi * (t - 6) / 12) ** 1.2 if 6 < t < 18 else 0.0
    return {
        "load_pu": 0.5 + 0.22 * bump(t, 8, 2) + 0.2 * bump(t, 13, 2.5) + 0.493 * bump(t, 19.5, 2.2),
        "irradiance_pu": sun,
        "cell_c": 20 + 6 * math.cos(2 * math.pi * (t - 15) / 24) + 25 * sun,
        "wind_mps": 5 + 5.5 * bump(t, 7, 2.5) + 6 * bump(t, 20, 2.5),
        "price_per_kwh": 0.08 + 0.03 * bump(t, 8, 1.5) - 0.02 * bump(t, 13, 2) + 0.12 * bump(t, 19.5, 2),
    }


@pytest.mark.parametrize(("file", "load"), [("day.csv", 1.0), ("day_8500.csv", 0.7)])
def test_the_day_is_that_of_the_documented_formulas(file: str, load: float) -> None:
    with (STUDIES["ieee123_scenarios"].parent / file).open() as lines:
        rows = list(csv.DictReader(lines))
    for hour, row in enumerate(rows):
        expected = documented_day(hour)
        expected |= {"load_pu": load * expected["load_pu"], "flexible_pu": expected["load_pu"], "hour": hour}
        for name, value in row.items():
            assert float(value) == pytest.approx(expected[name], abs=0.051 if name in ("cell_c", "wind_mps") else 6e-4)


def test_the_12_kv_circuit_is_the_shipped_one_at_another_voltage() -> None:
    path = Path(__file__).parent / "benchmarks" / "ieee123_12kv.py"
    spec = importlib.util.spec_from_file_location("ieee123_12kv", path)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    made = script.at_12_kv(read_case("ieee123_unbalanced").circuit)
    assert made == read_case("ieee123_12kv").circuit


@pytest.mark.parametrize("name", ["ieee13", "ieee123_unbalanced", "ieee123_12kv"])
def test_shipped_feeders_are_drawn_to_scale(name: str) -> None:
    case = read_case(name)
    assert feeder_plots.layout(case).from_coordinates
    known = np.isfinite(case.multiphase_feeder.coordinates).all(axis=1)
    assert {case.multiphase_feeder.buses[bus] for bus in np.flatnonzero(~known)} <= {"(source)", "substation"}
    assert np.isfinite(path_length(case.multiphase_feeder)).all()


def test_full_integration_costs_less_than_the_plain_rule_and_keeps_every_bus_that_the_base_keeps() -> None:
    study = read_study_file("ieee123_scenarios")
    variants = [variant for variant in study.variants if variant.name in ("base case", "full integration")]
    study = study.model_copy(update={"variants": tuple(variants)})
    # Rows 5 to 18: the rule's battery charges and discharges in them.
    found = resolve(study, Asked(settings={"periods": 14}))
    runs = {job.name: run_variant(job, None, lambda: None) for job in found if isinstance(job, Resolved)}
    base, full = figures(StoredStudy(study_head(study, found), runs))
    assert (base.verdict, full.verdict) == ("confirmed", "confirmed")
    assert full.optimized is not None and full.rule is not None and full.saving is not None
    assert full.saving > 0
    assert full.optimized.objective < full.rule.objective
    assert full.newly_outside == ()
    assert full.rule.kpis.kpis.battery_cycles
