"""Which voltage limits enter a problem: the answer must be that of all of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from areas import multiphase_worker
from areas.limits import COST, FAR, LEFT_OUT, NEAR, ROW, approached, overstep, revised
from common.boundary import make_boundary
from common.case import Case, read_case
from common.partition import one_area
from common.settings import Settings
from common.transport import InProcess
from coordinator.loop import run


def parts_of(*values: int) -> np.ndarray:
    """Parts of the upper limits of so many nodes in one period; the lower ones are left out."""
    return np.array([values, [LEFT_OUT] * len(values)], np.int8)[..., None]


def beyond_of(*values: float) -> np.ndarray:
    return np.array([values, [-1.0] * len(values)])[..., None]


def test_an_overstep_is_measured_outwards_on_either_side() -> None:
    settings = Settings(model="multiphase", v_min_pu=0.9, v_max_pu=1.1)
    found = overstep(settings, np.log([[1.1], [0.9], [1.0]]))
    np.testing.assert_allclose(found[0, :, 0], [0.0, np.log(0.9 / 1.1), np.log(1 / 1.1)], atol=1e-15)
    np.testing.assert_allclose(found[1, :, 0], [np.log(0.9 / 1.1), 0.0, np.log(0.9)], atol=1e-15)


def test_an_answer_within_all_limits_needs_no_revision() -> None:
    limited = np.ones(3, bool)
    assert revised(parts_of(LEFT_OUT, ROW, COST), beyond_of(-0.1, 0.0, 0.3), limited, 0) is None


def test_a_revision_makes_rows_near_limits_and_costs_far_beyond() -> None:
    limited = np.array([True, True, True, False])
    found = revised(parts_of(LEFT_OUT, LEFT_OUT, COST, LEFT_OUT), beyond_of(0.5 * FAR, 2 * FAR, -0.1, 1.0), limited, 0)
    assert found is not None
    assert found[0, :, 0].tolist() == [ROW, COST, ROW, LEFT_OUT]
    assert (found[1] == LEFT_OUT).all()


def test_softened_limits_become_rows_before_they_are_reached_and_stay() -> None:
    limited = np.ones(5, bool)
    parts = parts_of(LEFT_OUT, LEFT_OUT, LEFT_OUT, COST, ROW)
    found = approached(parts, beyond_of(-2 * NEAR, -0.5 * NEAR, 2 * NEAR, -0.1, 5 * NEAR), limited)
    assert found[0, :, 0].tolist() == [LEFT_OUT, ROW, COST, ROW, ROW]


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
    rows = np.ones((), bool)

    def all_rows(parts: np.ndarray, beyond: np.ndarray, limited: np.ndarray, attempt: int) -> np.ndarray | None:
        found = np.where(limited[None, :, None] & rows, ROW, parts).astype(np.int8)
        return None if (found == parts).all() else found

    monkeypatch.setattr(multiphase_worker, "revised", all_rows)
    assert cost(case) == pytest.approx(few, rel=1e-7)
