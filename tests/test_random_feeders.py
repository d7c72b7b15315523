"""On random radial feeders, areas that agree have found the optimum of the whole."""

from __future__ import annotations

from feeders import agree, optimum, random_cases
from hypothesis import HealthCheck, given, settings

from tieflow.common.case import Case
from tieflow.common.ties.boundary import CHILD, PARENT


@given(case=random_cases())
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_areas_that_agree_have_found_the_optimum_by_either_method(case: Case) -> None:
    best = optimum(case)
    for method in ("admm", "dlmp"):
        outcome, boundary, response = agree(case, method)
        assert outcome.converged, method
        assert abs(outcome.objective - best) <= 1e-4 * abs(best) + 1e-6, method
        value = boundary.physical(response.value)
        assert abs(value[:, PARENT] - value[:, CHILD]).max() <= 1e-5, method
