"""Which voltage limits enter a problem: the answer must be that of all of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from areas import multiphase_worker
from areas.limits import COST, FAR, LEFT_OUT, LOAD_DISTANCE, NEAR, ROW, Limits, approached, revised
from common.boundary import make_boundary
from common.case import Case, read_case
from common.partition import one_area
from common.transport import InProcess
from coordinator.loop import run


def parts_of(*values: int) -> np.ndarray:
    """Parts of the upper limits of so many nodes in one period; the lower ones are left out."""
    return np.array([*values, *[LEFT_OUT] * len(values)], np.int8)[:, None]


def beyond_of(*values: float) -> np.ndarray:
    return np.array([*values, *[-1.0] * len(values)])[:, None]


def limits_of(*limited: bool, s_max: tuple[float, ...] = ()) -> Limits:
    """Of nodes, of which some are limited, and of branches."""
    count, loads = 2 * len(limited), np.array(s_max, float)
    return Limits(
        v_min=0.9,
        v_max=1.1,
        s_max=loads,
        exists=np.array([*limited, *limited, *[True] * len(loads)]),
        price=np.ones(count + len(loads)),
        distance=np.concatenate([np.ones(count), LOAD_DISTANCE / loads]),
    )


def test_an_overstep_is_measured_outwards_on_either_side_and_of_power_beyond_its_limit() -> None:
    v, load = np.array([[1.1], [0.9], [1.0]]), np.array([[2.0], [3.5]])
    found = limits_of(True, True, True, s_max=(3.0, 3.0)).beyond(v, load)[:, 0]
    np.testing.assert_allclose(found[:3], [0.0, np.log(0.9 / 1.1), np.log(1 / 1.1)], atol=1e-15)
    np.testing.assert_allclose(found[3:6], [np.log(0.9 / 1.1), 0.0, np.log(0.9)], atol=1e-15)
    np.testing.assert_array_equal(found[6:], [-1.0, 0.5])


def test_a_branch_is_as_near_to_its_limit_as_the_share_of_it_that_is_left_says() -> None:
    limits = limits_of(s_max=(2.0, 200.0, 200.0, 200.0))
    parts = np.zeros((4, 1), np.int8)
    # 30, 30, 50 % below and 60 % above.
    beyond = np.array([-0.6, -60.0, -100.0, 120.0])[:, None]
    assert approached(parts, beyond, limits)[:, 0].tolist() == [ROW, ROW, LEFT_OUT, COST]
    found = revised(parts, beyond, limits, 0)
    assert found is not None and found[:, 0].tolist() == [LEFT_OUT, LEFT_OUT, LEFT_OUT, COST]


def test_an_answer_within_all_limits_needs_no_revision() -> None:
    limits = limits_of(True, True, True)
    assert revised(parts_of(LEFT_OUT, ROW, COST), beyond_of(-0.1, 0.0, 0.3), limits, 0) is None


def test_a_revision_makes_rows_near_limits_and_costs_far_beyond() -> None:
    limits = limits_of(True, True, True, False)
    found = revised(parts_of(LEFT_OUT, LEFT_OUT, COST, LEFT_OUT), beyond_of(0.5 * FAR, 2 * FAR, -0.1, 1.0), limits, 0)
    assert found is not None
    assert found[:4, 0].tolist() == [ROW, COST, ROW, LEFT_OUT]
    assert (found[4:] == LEFT_OUT).all()


def test_softened_limits_become_rows_before_they_are_reached_and_stay() -> None:
    limits = limits_of(*[True] * 5)
    parts = parts_of(LEFT_OUT, LEFT_OUT, LEFT_OUT, COST, ROW)
    found = approached(parts, beyond_of(-2 * NEAR, -0.5 * NEAR, 2 * NEAR, -0.1, 5 * NEAR), limits)
    assert found[:5, 0].tolist() == [LEFT_OUT, ROW, COST, ROW, ROW]


@pytest.mark.parametrize("v_max", [1.01, 1.03])
def test_the_answer_is_the_same_when_every_limit_is_a_row(v_max: float, monkeypatch: pytest.MonkeyPatch) -> None:
    case = read_case("ieee13", {"periods": 3})
    case = replace(case, settings=case.settings.model_copy(update={"v_max_pu": v_max}))

    def cost(case: Case) -> float:
        parts = one_area(case)
        workers = InProcess([multiphase_worker.MultiphaseWorker(parts.areas[0])])
        outcome = run(make_boundary(parts), workers, ["all"], "admm", 1e-6, 15)
        assert outcome.converged
        return outcome.response.reports[0].objective

    few = cost(case)

    def all_rows(parts: np.ndarray, beyond: np.ndarray, limits: Limits, attempt: int) -> np.ndarray | None:
        found = np.where(limits.exists[:, None], ROW, parts).astype(np.int8)
        return None if (found == parts).all() else found

    monkeypatch.setattr(multiphase_worker, "revised", all_rows)
    assert cost(case) == pytest.approx(few, rel=1e-7)
