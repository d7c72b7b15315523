"""Prices at the nodes of a multi-phase feeder against the cost of a little more power drawn there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tieflow.common.case import Case, read_case
from tieflow.launch.runs.solve import CENTRALIZED, Options, solve

KW = 2.0
"""more and less drawn at a node: little enough for no limit to begin or to end to bind"""
NODES = {"675.1": 2.4, "611.3": 2.4, "634.2": 0.277}
"""in three areas, and their kV to ground"""


def with_load(case: Case, node: str, kw: float) -> Case:
    bus, phase = node.split(".")
    load = f"new load.one phases=1 bus1={bus}.{phase} kv={NODES[node]} kw={kw} kvar=0 model=1 vminpu=0.5 vmaxpu=1.5"
    lines = case.circuit.splitlines()
    at = max(k for k, line in enumerate(lines) if line.startswith("new load."))
    return replace(case, circuit="\n".join([*lines[: at + 1], load, *lines[at + 1 :], ""]))


@pytest.mark.parametrize("method", ["newton", CENTRALIZED])
@pytest.mark.parametrize("limit", [{}, {"v_min_pu": 0.985}], ids=["free", "bound"])
@pytest.mark.parametrize("node", NODES)
def test_the_price_at_a_node_is_what_one_more_kwh_drawn_there_costs(
    node: str, limit: dict[str, float], method: str
) -> None:
    given, options = read_case("ieee13", {"periods": 4, **limit}), Options(method, check=False)
    case = with_load(given, node, 60.0)
    result = solve(case, options)
    price = result.state.nodal_price
    assert result.converged and price is not None
    # Prices begin behind the source.
    at = case.multiphase_feeder.node_names[case.multiphase_feeder.roots :].index(node)
    more, less = (solve(with_load(given, node, 60.0 + kw), options).objective for kw in (KW, -KW))
    drawn = case.horizon.load * case.horizon.dt
    assert price[at] @ drawn == pytest.approx((more - less) / (2 * KW), rel=1e-6)
