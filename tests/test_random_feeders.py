"""On random radial feeders, areas that agree have found the optimum of the whole."""

from __future__ import annotations

import pytest
from feeders import agree, objective, optimum, random_cases
from hypothesis import HealthCheck, given, settings

from common.boundary import CHILD, PARENT, make_boundary
from common.case import Case


@pytest.mark.parametrize("method", ["admm", "dlmp"])
@given(case=random_cases())
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_areas_that_agree_have_found_the_optimum(method: str, case: Case) -> None:
    outcome, parts = agree(case, method)
    assert outcome.converged
    assert abs(objective(outcome) - optimum(case)) <= 1e-4 * abs(optimum(case)) + 1e-6
    value = make_boundary(parts).physical(outcome.response.value)
    assert abs(value[:, PARENT] - value[:, CHILD]).max() <= 1e-5
