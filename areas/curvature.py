"""The second derivative of what an area's network costs, at the prices of a point.

Voltages and powers at the root are smooth functions of the inputs. Weighted by what they cost, directly or by the
multipliers of the rows in which they stand, their second derivatives make up the Hessian of the Lagrangian (Nocedal and
Wright, "Numerical Optimization" (2006), chapter 18). With the equations of the power flow, linear in V and I but for
the legs' currents, it takes one solution of the transposed equations: the multipliers tell what a leg's current costs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from areas.network import Factors, Network, Point, direction, joined, leg_derivatives
from common.feeder import Complexes, Floats
from common.load_law import kink_curvature, leg_powers

SMALLEST_LOAD = 1e-3
"""apparent power, pu, below which its magnitude counts as no more curved: it is far from any limit"""


@dataclass(frozen=True)
class NetworkPrices:
    """What the network's quantities cost at a point."""

    voltage: Complexes
    """(node, T) of ln V: of its real part, and of its imaginary part"""
    power: Complexes
    """(root node, T) of real and reactive power drawn at the root"""
    losses: Floats
    """(T,) of losses, where they cost something by themselves"""
    load: Floats
    """(branch, T) of apparent power at the parent's end of each limited branch"""


class Curvature:
    """Quadratic forms of an area at a point: what changes of inputs cost beyond the linearization."""

    def __init__(
        self,
        network: Network,
        point: Point,
        prices: NetworkPrices,
        width: float,
        reach: Floats | None,
    ) -> None:
        """``reach`` (leg, T), per rated voltage: the kinks of loads that are counted."""
        self._network, self._point, self._prices = network, point, prices
        self._width, self._reach = width, reach
        flow, ends = network.flow, network.ends
        self._measured = joined(network.intake, ends.meters)
        # |S| moves by the real part of conj(S) / |S| times dS.
        load = ends.power(point.v, point.i)
        self._load, self._direction = np.abs(load), direction(load)
        self._power = np.concatenate([prices.power, ends.total.T @ (prices.load * self._direction)])
        self._of_v, self._of_i = self._gradient()
        self._v = network.across @ point.v
        s, slope, bend = leg_powers(flow.feeder.legs, self._v[: len(flow.feeder.legs)], flow.multipliers, width)
        given = np.concatenate([-(network.shares @ point.device_s), point.tie_s])
        none = np.zeros(given.shape)
        self._s = np.concatenate([s, given])
        self._slope, self._bend = np.concatenate([slope, none]), np.concatenate([bend, none])

    def form(self, t: int, dv: Complexes, di: Complexes, factors: Factors) -> Floats:
        """(input, input) in period t, whose inputs change V and I by ``dv`` and ``di`` (node, input)."""
        v, measured = self._point.v[:, t], self._measured
        of_voltage, of_power, at = np.conj(self._prices.voltage[:, t]), self._power[:, t], measured.at
        at_root, of_drawn = self.worth(t, factors)
        found = self._prices.losses[t] * self._network.lost.of_changes(dv, di)
        # Power is V conj(I), ln V bends by itself, and so does the root's voltage, given by its logarithm.
        current_moved = measured.from_v @ dv + measured.from_i @ di
        found = found + (dv[at].T @ (np.conj(of_power)[:, None] * np.conj(current_moved))).real
        priced = np.flatnonzero(of_voltage)
        moved = dv[priced] / v[priced, None]
        found -= (moved.T @ (of_voltage[priced, None] * moved)).real / 2
        roots = dv[: len(at_root)] / v[: len(at_root), None]
        found += (roots.T @ ((at_root * v[: len(at_root)])[:, None] * roots)).real / 2
        found += self._of_loads(t, dv, di)
        across = self._network.across
        return symmetric(found + self._of_legs(t, (across @ dv) / self._v[:, t, None], across @ of_drawn))

    def worth(self, t: int, factors: Factors) -> tuple[Complexes, Complexes]:
        """What changes of the root's voltage (root node,) and current drawn anywhere (node,) cost in period t."""
        return factors.worth(self._of_v[:, t], self._of_i[:, t])

    def _gradient(self) -> tuple[Complexes, Complexes]:
        """(node, T) each: costs move by the real part of their products with dV and dI."""
        v, i, measured = self._point.v, self._point.i, self._measured
        lost_v, lost_i = self._network.lost.gradient(v, i)
        drawn = self._power * np.conj(v[measured.at])
        of_v = np.conj(self._prices.voltage) / v + measured.from_v.T @ drawn + self._prices.losses * lost_v
        np.add.at(of_v, measured.at, np.conj(self._power * (measured.from_v @ v + measured.from_i @ i)))
        return of_v, measured.from_i.T @ drawn + self._prices.losses * lost_i

    def _of_loads(self, t: int, dv: Complexes, di: Complexes) -> Floats:
        """What the powers' magnitudes add: |S + dS| is |S| + Re d + (Im d)^2 / 2|S|, d = conj(S) / |S| dS."""
        ends = self._network.ends
        moved = ends.total @ ends.meters.change(self._point.v[:, [t]], self._point.i[:, [t]], dv, di)
        across = (np.conj(self._direction[:, [t]]) * moved).imag
        weight = self._prices.load[:, t] / (2 * np.maximum(self._load[:, t], SMALLEST_LOAD))
        found: Floats = across.T @ (weight[:, None] * across)
        return found

    def _of_legs(self, t: int, moved: Complexes, of_current: Complexes) -> Floats:
        """What the legs' currents conj(s / v) add, their voltages ``moved`` (leg, input) by that over themselves."""
        price = of_current / np.conj(self._v[:, t])
        s, slope, bend = (np.conj(values[:, t]) for values in (self._s, self._slope, self._bend))
        # In u = dv / v: s becomes s + slope Re(u - u^2 / 2) + bend Re(u)^2 / 2, and 1 / (1 + u) is 1 - u + u^2.
        by_real = (price * (bend / 2 - 1.5 * slope + s)).real
        by_imaginary = (price * (slope / 2 - s)).real
        by_both = (1j * price * (slope - 2 * s)).real
        flow = self._network.flow
        if self._reach is not None:
            count = len(flow.feeder.legs)
            by_real[:count] += kink_curvature(
                flow.feeder.legs,
                self._v[:count, [t]],
                flow.multipliers[:, [t]],
                self._width,
                self._reach[:, [t]],
                price[:count, None],
            )[:, 0]
        real, imaginary = moved.real, moved.imag
        found: Floats = real.T @ (by_real[:, None] * real + by_both[:, None] * imaginary)
        found += imaginary.T @ (by_imaginary[:, None] * imaginary)
        found -= ((price[:, None] * np.conj(self._network.drawn)).T @ np.conj(moved)).real
        return found


def nodal_prices(network: Network, point: Point, prices: NetworkPrices) -> Complexes:
    """(node, T) what a unit of real, and as imaginary part of reactive, power drawn at a node costs at an optimum: the
    distribution locational marginal price. Nothing at a child area's own root, which the parent prices."""
    costs = Curvature(network, point, prices, 0.0, None)
    by_v, by_conjugate = leg_derivatives(network, point, 0.0)
    factors = (network.system.at(by_v[:, t], by_conjugate[:, t]) for t in range(point.v.shape[1]))
    of_drawn = [costs.worth(t, at)[1] for t, at in enumerate(factors)]
    found: Complexes = np.array(of_drawn).T / np.conj(point.v)
    return found


def convex(form: Floats, least: Floats, scale: Floats) -> Floats:
    """(T, n, n) symmetric forms made at least as large as ``least``, positive semidefinite, in every direction.

    The change is the smallest where inputs are measured by their ``scale`` (n,). Without a common measure of voltages
    and powers a product of the two, of no weight along any way that the feeder can go, becomes a large curvature.
    """
    cross = scale[:, None] * scale
    values, vectors = np.linalg.eigh((form - least) * cross)
    added = (vectors * np.maximum(values, 0.0)[..., None, :]) @ np.swapaxes(vectors, -1, -2)
    found: Floats = least + symmetric(added / cross)
    return found


def symmetric(form: Floats) -> Floats:
    """(..., n, n) the symmetric parts of matrices."""
    halves: Floats = (form + np.swapaxes(form, -1, -2)) / 2
    return halves
