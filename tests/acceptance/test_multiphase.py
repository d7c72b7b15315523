"""Unbalanced feeders through the command line, with a real mpirun: what areas agree on is the centralized optimum, and
OpenDSS agrees with it to the fifth digit."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-untyped]
import pytest
from benchmarks import ieee8500
from mpi_runs import mpirun, run

MOST_ROUNDS = 20


def solve(folder: Path, ranks: int, *arguments: str, code: int = 0) -> dict[str, Any]:
    command = ["tieflow", "solve", *arguments, "--output", "run.h5", "--json"]
    ended = run(mpirun(ranks, *command) if ranks > 1 else command, folder)
    assert ended.code == code, ended.text
    printed: dict[str, Any] = ended.json()
    return printed


def assert_confirmed_to_the_fifth_digit(printed: dict[str, Any]) -> None:
    checker = printed["checker"]
    assert checker["passed"]
    assert not checker["violations"]
    assert checker["max_voltage_error_pu"] < 1e-5
    assert checker["max_substation_error_kw"] < 0.1
    assert checker["max_loss_error_kw"] < 0.1


@pytest.mark.parametrize("name", ["ieee13", "ieee123_unbalanced"])
def test_four_areas_agree_on_the_centralized_optimum(name: str, tmp_path: Path) -> None:
    centralized = solve(tmp_path, 1, name, "--method", "centralized")
    assert centralized["rounds"] <= MOST_ROUNDS
    assert_confirmed_to_the_fifth_digit(centralized)
    # Each on a rank of its own; then two and more ranks to an area, each with some of its hours.
    for ranks in (5, 10):
        agreed = solve(tmp_path, ranks, name)
        assert (agreed["method"], agreed["areas"], agreed["ranks"]) == ("newton", 4, ranks)
        # The joint steps are those of one area.
        assert agreed["rounds"] == centralized["rounds"]
        assert agreed["objective"] == pytest.approx(centralized["objective"], rel=1e-8)
        with h5py.File(tmp_path / "run.h5") as file:
            residuals = file["history/optimality"][()]
            assert len(residuals) == agreed["rounds"]
            assert file["summary"].attrs["optimality"] == residuals[-1] == agreed["optimality"] <= 1e-8
        assert_confirmed_to_the_fifth_digit(agreed)


def test_areas_of_the_ieee8500_feeder_agree_on_the_centralized_optimum(tmp_path: Path) -> None:
    master = os.environ.get("TIEFLOW_IEEE8500", "")
    if not master:
        pytest.skip("TIEFLOW_IEEE8500 does not name the Master-unbal.dss of the IEEE 8500-node feeder")
    ieee8500.main(Path(master), tmp_path / "my_8500")
    centralized = solve(tmp_path, 1, "my_8500", "--periods", "4", "--method", "centralized")
    # 6 areas, one of them in two halves of the four hours.
    agreed = solve(tmp_path, 8, "my_8500", "--periods", "4", "--areas", "6")
    assert (agreed["areas"], agreed["ranks"]) == (6, 8)
    assert agreed["rounds"] <= MOST_ROUNDS
    assert agreed["objective"] == pytest.approx(centralized["objective"], rel=1e-8)
    assert_confirmed_to_the_fifth_digit(agreed)


def test_prices_alone_lead_to_the_same_optimum_where_no_limit_binds(tmp_path: Path) -> None:
    centralized = solve(tmp_path, 1, "ieee13", "--method", "centralized", "--periods", "4")
    agreed = solve(tmp_path, 3, "ieee13", "--method", "dlmp", "--periods", "4")
    assert agreed["methods_used"] == ["dlmp"]
    assert agreed["objective"] == pytest.approx(centralized["objective"], rel=1e-5)
    assert_confirmed_to_the_fifth_digit(agreed)


def test_limits_that_no_setpoints_can_keep_are_listed_and_change_the_exit_code(tmp_path: Path) -> None:
    # The regulators' taps lift bus rg60 to 1.056 pu, and nothing is between them and the source.
    printed = solve(tmp_path, 3, "ieee13", "--periods", "2", "--set", "v_max_pu=1.05", code=5)
    assert {overstep["element"] for overstep in printed["oversteps"]} == {"rg60.1", "rg60.3"}
    assert {overstep["hour"] for overstep in printed["oversteps"]} == {11, 12}
    assert printed["checker"]["passed"]
    with h5py.File(tmp_path / "run.h5") as file:
        assert len(file["summary/oversteps/hour"]) == len(printed["oversteps"])


def test_an_imported_model_is_cut_solved_and_exported(tmp_path: Path) -> None:
    from tieflow.launch.commands.import_feeder import import_feeder

    cases = Path(__file__).parents[2] / "launch" / "cases"
    import_feeder(cases / "ieee13" / "circuit.dss", tmp_path / "mine")
    (tmp_path / "mine" / "batteries.csv").write_text(
        "bus,phases,p_rated_kw,s_rated_kva,energy_kwh\n675,,200,240,800\n646,2-3,50,60,200\n", encoding="utf-8"
    )
    cut = run(["tieflow", "partition", "mine", "--areas", "3", "--json"], tmp_path)
    assert len(json.loads(cut.stdout)["areas"]) == 3, cut.text
    printed = solve(tmp_path, 2, "mine", "--periods", "2", "--set", "v_max_pu=1.07")
    assert printed["areas"] == 3
    assert_confirmed_to_the_fifth_digit(printed)
    exported = run(["tieflow", "export", "run.h5", "--out", "exported"], tmp_path)
    assert exported.code == 0, exported.text
    assert (tmp_path / "exported" / "Master.dss").is_file()
