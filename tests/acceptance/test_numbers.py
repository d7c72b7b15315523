"""The promised figures, row by row, through the command line: ``mpirun -n 5 tieflow solve ieee123 ... --json``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import h5py  # type: ignore[import-untyped]
import numpy as np
import pytest
from mpi_runs import mpirun, run
from numpy.typing import NDArray

OPTIMUM_035 = 576.2918
OPTIMUM_033 = 583.2506
OPTIMUM_AT_V_MIN = {"1.0070": 576.29187, "1.0088": 576.63637}
PUBLISHED_COST, PUBLISHED_LOSSES_KWH = 576.30, 76.12
LARGER_FRACTION = ("--periods", "5", "--set", "der_fraction=0.35")


@dataclass(frozen=True)
class Solved:
    """A run, as the command printed it and as the file tells it."""

    code: int
    printed: dict[str, Any]
    stored: dict[str, NDArray[Any]]
    """every dataset by its path"""

    @property
    def replayed_cost(self) -> float:
        return float(self.printed["checker"]["cost"])


Solve = Callable[..., Solved]


@pytest.fixture(scope="module")
def solve(tmp_path_factory: pytest.TempPathFactory) -> Solve:
    """Solve ieee123 with these arguments, once in this module."""
    known: dict[tuple[str, ...], Solved] = {}

    def solve(*arguments: str) -> Solved:
        if arguments not in known:
            folder = tmp_path_factory.mktemp("run")
            command = ["tieflow", "solve", "ieee123", *arguments, "--output", "run.h5", "--json"]
            # One area needs no ranks, and more of them would only wait.
            ended = run(command if "centralized" in arguments else mpirun(5, *command), folder)
            printed, stored = ended.json(), {}
            with h5py.File(folder / "run.h5") as file:

                def keep(name: str, item: Any) -> None:
                    if isinstance(item, h5py.Dataset):
                        stored[name] = item[()]

                file.visititems(keep)
            known[arguments] = Solved(ended.code, printed, stored)
        return known[arguments]

    return solve


def assert_confirmed(solved: Solved) -> None:
    assert solved.printed["converged"], solved.printed
    assert solved.printed["checker"]["passed"], solved.printed["checker"]
    assert solved.code == 0


@pytest.mark.parametrize(("fraction", "optimum"), [("0.35", OPTIMUM_035), ("0.33", OPTIMUM_033)])
def test_centralized_finds_the_known_optimum_with_a_tight_relaxation(
    solve: Solve, fraction: str, optimum: float
) -> None:
    solved = solve("--periods", "5", "--set", f"der_fraction={fraction}", "--method", "centralized")
    assert_confirmed(solved)
    assert solved.printed["cost"] == pytest.approx(optimum, rel=1e-6)
    assert solved.printed["relaxation_gap_pu"] <= 1e-6


def optimum_of(solve: Solve, periods: str) -> float:
    if periods == "5":
        fraction = ("--set", "der_fraction=0.33")
        return float(solve("--periods", "5", *fraction, "--method", "centralized").printed["cost"])
    return float(solve("--periods", periods, "--method", "centralized").printed["cost"])


@pytest.mark.parametrize("periods", ["5", "24"])
def test_dlmp_agrees_within_25_rounds(solve: Solve, periods: str) -> None:
    solved = solve("--periods", periods, "--method", "dlmp")
    assert_confirmed(solved)
    assert solved.printed["methods_used"] == ["dlmp"]
    assert (solved.printed["areas"], solved.printed["tolerance_pu"]) == (4, 1e-5)
    assert solved.printed["rounds"] <= 25


@pytest.mark.parametrize("periods", ["5", "24"])
def test_dlmp_is_at_the_optimum_from_round_12_on_and_stays_there(solve: Solve, periods: str) -> None:
    cost = solve("--periods", periods, "--method", "dlmp").stored["history/cost"]
    optimum = optimum_of(solve, periods)
    assert np.abs(np.append(cost[11:], cost[-1]) / optimum - 1).max() <= 1e-6, cost


@pytest.mark.parametrize("periods", ["5", "24"])
def test_admm_agrees_within_30_rounds_at_the_optimum_as_replayed(solve: Solve, periods: str) -> None:
    solved = solve("--periods", periods)
    assert_confirmed(solved)
    assert (solved.printed["method"], solved.printed["areas"]) == ("admm", 4)
    assert solved.printed["tolerance_pu"] == 1e-5
    assert solved.printed["rounds"] <= 30
    assert solved.replayed_cost == pytest.approx(optimum_of(solve, periods), rel=1e-5)


def test_the_shipped_case_is_confirmed_at_the_published_figures(solve: Solve) -> None:
    solved = solve("--periods", "5")
    assert_confirmed(solved)
    assert solved.printed["cost"] == pytest.approx(OPTIMUM_033, rel=1e-5)
    assert solved.printed["substation_energy_kwh"] == pytest.approx(4325.49, rel=1e-5)
    assert solved.printed["losses_kwh"] == pytest.approx(76.35, rel=1e-3)


def test_admm_agrees_within_45_rounds_where_voltage_limits_just_bind(solve: Solve) -> None:
    solved = solve(*LARGER_FRACTION, "--set", "v_min_pu=1.0070")
    assert_confirmed(solved)
    assert solved.printed["rounds"] <= 45
    assert solved.printed["cost"] == pytest.approx(OPTIMUM_AT_V_MIN["1.0070"], rel=1e-5)
    assert solved.replayed_cost == pytest.approx(OPTIMUM_AT_V_MIN["1.0070"], rel=1e-5)


def test_admm_converges_and_states_its_rounds_where_voltage_limits_bind_hard(solve: Solve) -> None:
    solved = solve(*LARGER_FRACTION, "--set", "v_min_pu=1.0088")
    assert_confirmed(solved)
    assert solved.printed["rounds"] == len(solved.stored["history/cost"]) > 0
    assert solved.printed["cost"] == pytest.approx(OPTIMUM_AT_V_MIN["1.0088"], rel=1e-5)
    assert solved.replayed_cost == pytest.approx(OPTIMUM_AT_V_MIN["1.0088"], rel=1e-5)


@pytest.mark.parametrize("v_min", OPTIMUM_AT_V_MIN)
def test_dlmp_ends_at_the_optimum_where_voltage_limits_bind(solve: Solve, v_min: str) -> None:
    solved = solve(*LARGER_FRACTION, "--set", f"v_min_pu={v_min}", "--method", "dlmp")
    assert_confirmed(solved)
    assert solved.printed["cost"] == pytest.approx(OPTIMUM_AT_V_MIN[v_min], rel=1e-5)
    assert solved.replayed_cost == pytest.approx(OPTIMUM_AT_V_MIN[v_min], rel=1e-5)


@pytest.mark.parametrize("v_min", OPTIMUM_AT_V_MIN)
def test_dlmp_hands_over_in_good_time_and_says_so_where_it_does_not_converge(solve: Solve, v_min: str) -> None:
    solved = solve(*LARGER_FRACTION, "--set", f"v_min_pu={v_min}", "--method", "dlmp")
    used = [name.decode() for name in solved.stored["history/method"]]
    # In good time: no later than a dlmp that converges would be done.
    assert used.count("dlmp") <= 25
    if solved.printed["methods_used"] != ["dlmp"]:
        assert solved.printed["methods_used"] == ["dlmp", "admm"]
        assert used == sorted(used, reverse=True), "once handed over, for good"
        assert any("dlmp" in note and "admm" in note for note in solved.printed["notes"]), solved.printed["notes"]


def test_enapp_comes_within_the_published_figures_in_5_rounds(solve: Solve) -> None:
    solved = solve(*LARGER_FRACTION, "--method", "enapp", "--tolerance", "1e-3")
    assert_confirmed(solved)
    assert solved.printed["rounds"] <= 5
    assert solved.printed["cost"] == pytest.approx(PUBLISHED_COST, rel=1e-4)
    assert solved.printed["losses_kwh"] == pytest.approx(PUBLISHED_LOSSES_KWH, rel=5e-3)


@pytest.mark.parametrize("method", ["admm", "dlmp"])
@pytest.mark.parametrize("periods", ["5", "24"])
def test_opendss_agrees_with_the_optimizer_in_every_hour(solve: Solve, periods: str, method: str) -> None:
    solved = solve("--periods", periods, *(() if method == "admm" else ("--method", method)))
    stored, checker = solved.stored, solved.printed["checker"]

    def error(name: str) -> float:
        return float(np.abs(stored[f"check/state/{name}"] - stored[f"state/{name}"]).max())

    capacity = stored["case/batteries/energy_kwh"][:, None]
    energy = np.abs(stored["check/battery_energy_kwh"] - stored["schedule/batteries/energy_kwh"]) / capacity
    assert stored["check/state/v_pu"].shape[1] == int(periods)
    assert error("v_pu") <= 2e-5
    assert error("substation_p_kw") <= 0.05
    assert error("losses_kw") <= 0.05
    assert energy.max() <= 1e-4
    # The figures that are printed are these, and not others.
    assert checker["max_voltage_error_pu"] == pytest.approx(error("v_pu"))
    assert checker["max_substation_error_kw"] == pytest.approx(error("substation_p_kw"))
    assert checker["max_loss_error_kw"] == pytest.approx(error("losses_kw"))
    assert checker["max_soc_error"] == pytest.approx(energy.max())
    assert checker["violations"] == []
