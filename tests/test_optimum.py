"""Centralized multi-phase schedules against an independent nonconvex solver, which starts from idle devices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from feeders import objective, with_settings
from hypothesis import given, settings
from ipopt import Optimum, ipopt_optimum
from multiphase_feeders import day, published, random_multiphase_cases, with_devices

from areas.multiphase_worker import MultiphaseWorker
from common.boundary import make_boundary
from common.case import Case
from common.circuit import import_circuit
from common.devices import PV, Battery
from common.extraction import compiled, load_shapes
from common.partition import one_area
from common.schedule import AreaSolution
from common.settings import Settings
from common.transport import InProcess
from common.weights import Terms
from coordinator.loop import Outcome, run
from launch.base_run import with_bases

CORRECTIONS = 3
"""of the model, after which it is exact"""
SMOOTH = "batchedit load..* vminpu=0.5 vmaxpu=1.5"


def published_case(master: str, commands: Sequence[str], pv: int, batteries: int) -> Case:
    circuit = import_circuit(published(master), [*commands, SMOOTH]).text
    case = Case(
        name=master,
        settings=Settings(model="multiphase", v_min_pu=0.95, v_max_pu=1.05),
        buses=(),
        branches=(),
        pv=(),
        batteries=(),
        horizon=day(0.9, load_shapes(compiled(circuit), range(24), 1.0)),
        areas=(),
        circuit=circuit,
    )
    return with_devices(case, pv, batteries)


def ieee13() -> Case:
    regulators = [f"edit regcontrol.reg{k} vreg=121 r=1 x=3" for k in (1, 2, 3)]
    return published_case("ieee13_dss/IEEE13Nodeckt.dss", [*regulators, "set loadmult=0.8"], 8, 4)


def ieee123() -> Case:
    commands = ["open line.sw7", "open line.sw8", "set loadmult=0.65"]
    return published_case("ieee123_dss/IEEE123Master.dss", commands, 30, 10)


def centralized(case: Case, tolerance: float = 1e-5) -> tuple[Outcome, AreaSolution]:
    parts = one_area(case)
    worker = MultiphaseWorker(parts.areas[0])
    outcome = run(make_boundary(parts), InProcess([worker]), ["all"], "admm", tolerance, 20)
    return outcome, worker.solution()


def assert_same_optimum(case: Case, tolerance: float = 1e-5) -> tuple[AreaSolution, Optimum]:
    outcome, solution = centralized(case, tolerance)
    assert outcome.converged
    assert outcome.rounds[-1].residuals.model_error <= tolerance
    assert len(outcome.rounds) <= CORRECTIONS + 1
    expected = ipopt_optimum(case)
    assert objective(outcome) == pytest.approx(expected.cost, rel=1e-7, abs=1e-6)
    np.testing.assert_allclose(solution.values["root_s"].real.sum(axis=0), expected.substation_p, atol=5e-4)
    return solution, expected


@pytest.mark.parametrize("make", [ieee13, ieee123])
def test_the_schedule_of_a_published_feeder_is_the_nonconvex_optimum(make) -> None:  # type: ignore[no-untyped-def]
    case = make()
    assert len(case.horizon) == 24
    assert_same_optimum(case)


@pytest.mark.parametrize("aim", ["losses", "voltage_deviation"])
def test_other_objectives_reach_their_nonconvex_optimum_too(aim: str) -> None:
    assert_same_optimum(with_settings(ieee13(), objective=aim))


def test_a_mix_of_terms_over_their_bases_reaches_its_nonconvex_optimum_too() -> None:
    mix = Terms(energy=0.2, losses=0.3, voltage_deviation=0.5, battery_use=0.01)
    assert_same_optimum(with_bases(with_settings(ieee13(), weights=mix, weights_bases=Terms())))


BINDING = """\
clear
new circuit.small bus1=a basekv=12.47 pu=1.03 r1=0.3 x1=1.5 r0=0.6 x0=4
new line.ab bus1=a bus2=b length=1 rmatrix=[1.2|0.3 1.1|0.2 0.4 1.3] xmatrix=[2.5|0.9 2.4|0.7 1 2.6]
~ cmatrix=[9|-2 9|-1 -2 9]
new line.bc bus1=b.1.3 bus2=c.1.3 phases=2 length=1 rmatrix=[1.5|0.3 1.6] xmatrix=[2.8|0.8 2.7] cmatrix=[9|-2 9]
new transformer.bd phases=3 windings=2 buses=(b d) conns=(delta wye) kvs=(12.47 0.48) kvas=(500 500) xhl=5
new load.b bus1=b phases=3 conn=delta kv=12.47 kw=1500 kvar=600 model=8 zipv=(0.3 0.3 0.4 0.5 0.3 0.2 0)
new load.c bus1=c.3.1 phases=1 conn=delta kv=12.47 kw=400 kvar=150 model=4 cvrwatts=0.8 cvrvars=2.6
new load.d bus1=d.2 phases=1 kv=0.277 kw=90 kvar=40 model=5
batchedit load..* vminpu=0.5 vmaxpu=1.5
set voltagebases=(12.47 0.48)
calcvoltagebases
"""


def binding_case(v_max: float) -> Case:
    return Case(
        name="binding",
        settings=Settings(model="multiphase", v_min_pu=0.95, v_max_pu=v_max),
        buses=(),
        branches=(),
        pv=(
            PV(bus="c", phases="1", p_rated_kw=1500, s_rated_kva=2000),
            PV(bus="c", phases="1-3", p_rated_kw=500, s_rated_kva=700),
            PV(bus="d", p_rated_kw=60, s_rated_kva=90),
        ),
        batteries=(
            Battery(bus="b", p_rated_kw=300, s_rated_kva=400, energy_kwh=1200),
            Battery(bus="d", phases="2.3", p_rated_kw=50, s_rated_kva=60, energy_kwh=150, eta_charge=0.9),
        ),
        horizon=day(0.9, {}),
        areas=(),
        circuit=BINDING,
    )


def test_a_schedule_at_its_voltage_limit_is_the_nonconvex_optimum() -> None:
    free, _ = centralized(binding_case(v_max=1.1))
    case = binding_case(v_max=1.04)
    solution, expected = assert_same_optimum(case)
    limited = case.network.limited
    for v in (solution.values["v"], expected.v):
        assert np.abs(v[limited]).max() == pytest.approx(1.04, abs=1e-6)
    assert expected.cost > objective(free) * (1 + 1e-6)


@given(case=random_multiphase_cases())
@settings(max_examples=10)
def test_schedules_of_random_circuits_are_nonconvex_optima(case: Case) -> None:
    # Their costs are so small that a stricter tolerance is needed for the same relative accuracy.
    assert_same_optimum(case, tolerance=1e-7)
