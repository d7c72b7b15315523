"""The linearization of an area: its derivatives are those of the power flow, its losses those of currents alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multiphase_feeders import random_circuits, random_multiphase_cases

from areas.curvature import NetworkPrices
from areas.linearization import Linearization, linearize
from areas.multiphase import build_multiphase
from areas.network import Inputs, Point, area_network, power_legs
from common.case import Case
from common.extraction import compiled, extract_feeder
from common.feeder import Complexes, Floats
from common.multiphase import GROUND, MultiphaseFeeder, admittance, multipliers
from common.partition import AreaCase, partition
from common.power_flow import Injections, PowerFlow, two_port

STEP = 1e-3
"""pu, of finite differences of the fourth order"""
LOADED = 0.1
"""pu of a branch"""
UNLOADED = """\
clear
new circuit.small bus1=a basekv=12.47 pu=1 r1=0.3 x1=1.5 r0=0.6 x0=4
new line.ab bus1=a bus2=b length=1 rmatrix=[1.2|0.3 1.1|0.2 0.4 1.3] xmatrix=[2.5|0.9 2.4|0.7 1 2.6] cmatrix=[0]
new line.bc bus1=b.1.3 bus2=c.1.3 phases=2 length=1 rmatrix=[1.5|0.3 1.6] xmatrix=[2.8|0.8 2.7] cmatrix=[0]
set voltagebases=(12.47)
calcvoltagebases
"""


class Model:
    """The power flow of an area in one period as a function of its inputs, for any number of them at once.

    Inputs x are (input, n), or (input,) for one; outputs have n columns.
    """

    def __init__(self, feeder: MultiphaseFeeder, inputs: Inputs, multiplier: Floats) -> None:
        self.inputs = inputs
        self.flow = PowerFlow(feeder, multiplier)
        # As if every branch were limited.
        self.network = area_network(self.flow, inputs, np.arange(len(feeder.branches)))
        self.size = inputs.count(feeder.roots)

    def point(self, x: Floats) -> Point:
        feeder, inputs = self.flow.feeder, self.inputs
        roots = feeder.roots if inputs.root_varies else 0
        counts = [roots, roots, *2 * [len(inputs.device_legs)], *2 * [len(inputs.tie_nodes)]]
        parts = np.split(x if x.ndim == 2 else x[:, None], np.cumsum(counts)[:-1])
        w, device_s, tie_s = (parts[k] + 1j * parts[k + 1] for k in (0, 2, 4))
        factor = np.exp(w) if roots else np.ones((1, w.shape[1]))
        v_root = feeder.v_no_load[: feeder.roots, None] * factor
        a, b, shares = power_legs(inputs)
        injections = Injections(
            np.concatenate([a, inputs.tie_nodes]),
            np.concatenate([b, np.full(len(inputs.tie_nodes), GROUND)]),
            np.concatenate([shares @ device_s, -tie_s]),
        )
        v, i = self.flow.solve(v_root, injections)
        # Twice more, for the last digits.
        for _ in range(2):
            v, i = self.flow.solve(v_root, injections, v)
        return Point(v, i, device_s, tie_s)

    def linearization(self, x: Floats) -> Linearization:
        return linearize(self.network, self.point(x))

    def outputs(self, x: Floats) -> Complexes:
        """ln V of all nodes, then the powers at the root."""
        point = self.point(x)
        return np.concatenate([np.log(point.v), self.network.intake.power(point.v, point.i)])

    def loads(self, x: Floats) -> Floats:
        """Apparent power at the parent's ends of all branches."""
        point = self.point(x)
        return np.abs(self.network.ends.power(point.v, point.i))

    def losses(self, x: Floats) -> Floats:
        return self.lost(self.point(x).v)

    def lost(self, v: Complexes) -> Floats:
        """Real power that all elements but the source impedance take at voltages (node, n)."""
        feeder = self.flow.feeder
        elements = (*feeder.branches[0 if self.inputs.root_varies else 1 :], *feeder.shunts)
        lost = sum(
            ((np.conj(v[e.nodes]) * (e.y @ v[e.nodes])).sum(axis=0).real for e in elements), np.zeros(v.shape[1])
        )
        return np.asarray(lost)


def area_model(area: AreaCase[MultiphaseFeeder], period: int) -> Model:
    feeder, horizon = area.feeder, area.horizon
    inputs = build_multiphase(area).inputs
    return Model(feeder, inputs, multipliers(feeder.legs, horizon.load[[period]], horizon.shapes))


def slopes(output: Callable[[Floats], Any], x: Floats) -> Any:
    """Finite differences of the fourth order at x, one in each input, along the last axis."""
    steps = STEP * np.eye(len(x))
    around = np.concatenate([x[:, None] + n * steps for n in (1, -1, 2, -2)], axis=1)
    above, below, far_above, far_below = np.split(output(around), 4, axis=-1)
    return (8 * (above - below) - (far_above - far_below)) / (12 * STEP)


def operating_point(model: Model, rng: np.random.Generator) -> Floats:
    return rng.uniform(-0.01, 0.01, model.size)


@given(case=random_multiphase_cases(max_areas=4), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_derivatives_are_finite_differences_of_the_power_flow(case: Case, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for area in partition(case).areas:
        model = area_model(area, period=0)
        x = operating_point(model, rng)
        at = model.linearization(x)
        expected = np.concatenate([at.voltage[0], at.root_s[0]])
        assert expected.shape[1] == model.size
        slope = slopes(model.outputs, x)
        assert (np.abs(expected - slope) <= 1e-6 * np.abs(slope).max(axis=0)).all()


@given(case=random_multiphase_cases(max_areas=3), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15)
def test_the_slope_of_a_branches_power_is_a_finite_difference_of_it(case: Case, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for area in partition(case).areas:
        model = area_model(area, period=0)
        x = operating_point(model, rng)
        at, loads = model.linearization(x), model.loads(x)
        np.testing.assert_array_equal(at.load_here, loads)
        loaded = loads[:, 0] > LOADED
        atol = 1e-6 * np.abs(at.load[0]).max(initial=1.0)
        np.testing.assert_allclose(slopes(model.loads, x)[loaded], at.load[0, loaded], rtol=0, atol=atol)


@given(case=random_multiphase_cases(max_areas=3), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15)
def test_the_slope_of_losses_is_a_finite_difference_of_them(case: Case, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for area in partition(case).areas:
        model = area_model(area, period=0)
        x = operating_point(model, rng)
        at = model.linearization(x)
        expected = at.losses_slope[0]
        assert at.losses_here == pytest.approx(model.losses(x), abs=1e-8)
        atol = 1e-6 * max([1.0, *np.abs(expected)])
        np.testing.assert_allclose(slopes(model.losses, x), expected, rtol=0, atol=atol)


@given(case=random_multiphase_cases(max_areas=4), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15)
def test_losses_of_an_area_are_what_goes_in_and_does_not_come_out(case: Case, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for area in partition(case).areas:
        model = area_model(area, period=0)
        feeder = replace(area.feeder, legs=area.feeder.legs.pick(np.zeros(0, np.int64), np.arange(1)))
        unloaded = Model(feeder, model.inputs, np.zeros((0, 1)))
        at = unloaded.linearization(operating_point(unloaded, rng))
        point = at.point
        balance = at.root_s_here.sum() + point.device_s.sum() - point.tie_s.sum()
        assert at.losses_here[0] == pytest.approx(balance.real, abs=1e-8)


@given(case=random_multiphase_cases(max_areas=4), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_the_losses_form_is_symmetric_and_never_negative(case: Case, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for area in partition(case).areas:
        model = area_model(area, period=0)
        form = model.linearization(operating_point(model, rng)).losses[0]
        if not model.size:
            continue
        np.testing.assert_array_equal(form, form.T)
        assert np.linalg.eigvalsh(form)[0] >= -1e-9 * max(1.0, np.abs(form).max())


@given(circuit=random_circuits(smooth=True), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_the_losses_form_is_the_losses_of_the_changed_currents(circuit: str, seed: int) -> None:
    # Without loads a device's power changes its own current only, to the first order.
    rng = np.random.default_rng(seed)
    feeder = extract_feeder(compiled(circuit), 1000.0)
    nodes = rng.choice(np.arange(feeder.roots, len(feeder.node_bus)), 3, replace=False)
    legs = tuple((np.array([n]), np.array([GROUND])) for n in nodes)
    inputs = Inputs(legs, np.zeros(0, np.int64), False, np.zeros(0, complex))
    model = Model(feeder, inputs, np.zeros((len(feeder.legs), 1)))
    at = model.linearization(np.zeros(model.size))
    x = rng.uniform(-1, 1, model.size)
    current = np.conj((x[:3] + 1j * x[3:]) / at.point.v[nodes, 0])
    drawn = np.zeros((len(feeder.node_bus), 1), complex)
    drawn[nodes, 0] = -current
    v, i = model.flow.linear(np.zeros((feeder.roots, 1), complex), drawn)
    through_source = i[feeder.node_bus == 1, 0]
    lost = (v[nodes, 0] @ np.conj(current)).real
    lost -= (through_source @ two_port(feeder, 0).z @ np.conj(through_source)).real
    assert x @ at.losses[0] @ x == pytest.approx(lost, rel=1e-6, abs=1e-9)


@given(case=random_multiphase_cases(max_areas=3), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15)
def test_the_losses_form_is_that_of_the_voltages_found_by_differences(case: Case, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for area in partition(case).areas:
        model = area_model(area, period=0)
        x, way = operating_point(model, rng), rng.uniform(-1, 1, model.size)
        near, far = (model.point(x + n * STEP * way).v - model.point(x - n * STEP * way).v for n in (1, 2))
        dv = (8 * near - far) / (12 * STEP)
        form = model.linearization(x).losses[0]
        assert way @ form @ way == pytest.approx(model.lost(dv)[0], rel=1e-4, abs=1e-6)


def test_where_no_current_flows_the_losses_form_is_all_of_their_second_order() -> None:
    feeder = extract_feeder(compiled(UNLOADED), 1000.0)
    assert np.abs(admittance(feeder) @ feeder.v_no_load)[feeder.roots :].max() <= 1e-6
    legs = tuple((feeder.nodes_of(bus)[:2], np.array([GROUND, GROUND])) for bus in "bc")
    model = Model(
        feeder,
        Inputs(legs, feeder.nodes_of("c"), False, np.zeros(len(feeder.nodes_of("c")), complex)),
        np.zeros((0, 1)),
    )
    zero = np.zeros(model.size)
    form = model.linearization(zero).losses[0]
    for direction in (*np.eye(model.size), np.linspace(-1, 1, model.size)):
        h = STEP * direction
        second = (model.losses(zero + h) + model.losses(zero - h) - 2 * model.losses(zero))[0]
        assert second / STEP**2 == pytest.approx(2 * direction @ form @ direction, rel=1e-3, abs=1e-5)
        assert direction @ form @ direction > 0


def test_an_area_without_inputs_has_an_empty_linearization() -> None:
    feeder = extract_feeder(compiled(UNLOADED), 1000.0)
    model = Model(feeder, Inputs((), np.zeros(0, np.int64), False, np.zeros(0, complex)), np.zeros((0, 1)))
    at = model.linearization(np.zeros(0))
    assert at.voltage.shape == (1, len(feeder.node_bus), 0)
    assert at.losses_here[0] == pytest.approx(0.0, abs=1e-9)


@given(case=random_multiphase_cases(max_areas=3), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_the_curvature_is_the_second_difference_of_what_the_network_costs(case: Case, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for area in partition(case).areas:
        model = area_model(area, period=0)
        if not model.size:
            continue
        x, way = operating_point(model, rng), rng.uniform(-1, 1, model.size)
        nodes, roots = len(area.feeder.node_bus), len(model.network.intake.at)
        voltage, power = (rng.normal(size=(n, 1)) + 1j * rng.normal(size=(n, 1)) for n in (nodes, roots))
        # A power's magnitude has no derivative where it is zero.
        loads = rng.uniform(0, 1, (len(area.feeder.branches), 1)) * (model.loads(x) > LOADED)
        prices = NetworkPrices(voltage, power, rng.uniform(0, 1, 1), loads)

        def cost(x: Floats, area_model: Model = model, at: NetworkPrices = prices) -> Floats:
            outputs = np.concatenate([np.conj(at.voltage), np.conj(at.power)]) * area_model.outputs(x)
            loaded = (at.load * area_model.loads(x)).sum(axis=0)
            return np.asarray(outputs.real.sum(axis=0) + at.losses * area_model.losses(x) + loaded)

        around = cost(x[:, None] + STEP * way[:, None] * np.arange(-2, 3))
        second = around @ np.array([-1, 16, -30, 16, -1]) / (12 * STEP**2)
        form = linearize(model.network, model.point(x), prices).curvature[0]
        scale = max(1.0, np.abs(form).max())
        assert 2 * way @ form @ way == pytest.approx(second, rel=1e-4, abs=1e-4 * scale)
