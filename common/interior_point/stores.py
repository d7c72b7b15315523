"""Stored energies over time: the one thing that couples the periods of a schedule.

The level of a store after each period is e_t = e_(t-1) + gains, at its end what it was at its start. In a Newton step,
with the multipliers nu of these equations, everything of a period but its levels eliminated (S), and the stiffness of
the levels' limits (sigma),

    S_t nu_t + e_t - e_(t-1) = g_t        nu_t - nu_(t+1) + sigma_t e_t = r_t

is solved forward and back in time, a Riccati recursion (Rao, Wright and Rawlings, "Application of interior-point
methods to model predictive control" (1998)): with N_1 = -S_1 and h_1 = g_1,

    M_t = (N_t^-1 + sigma_t)^-1,   N_(t+1) = M_t - S_(t+1),   h_(t+1) = g_(t+1) + h_t + M_t (r_t - sigma_t h_t)
    nu_t = (1 + sigma_t N_t)^-1 (nu_(t+1) + r_t - sigma_t h_t),   e_t = h_t + N_t nu_t

Where a battery is full or free to move at no cost, N and sigma span twenty orders of magnitude. So nothing is
subtracted: with N = L J L', J of signs, and W = J + L' sigma L, M is L W^-1 L', and y = J L' nu solves
W y = L' (nu_(t+1) + r_t - sigma_t h_t). N is positive definite where the problem is convex; the signs of J and of the
pivots of W tell how many eigenvalues are on the wrong side. In every period the stores that are held most come first,
those of the largest sigma N: W is then graded from large to small, where no pivot is a difference of larger numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from common.compiled import njit
from common.feeder import Floats, Ints


@njit
def signed_root(a: Floats, root: Floats, sign: Floats) -> int:
    """a = root diag(sign) root', root lower triangular; the number of negative signs, -1 where a pivot is zero or not
    finite."""
    n = a.shape[0]
    negatives = 0
    root[:] = 0.0
    for j in range(n):
        pivot = a[j, j]
        for k in range(j):
            pivot -= sign[k] * root[j, k] * root[j, k]
        if not abs(pivot) > 0.0 or not abs(pivot) < np.inf:
            return -1
        sign[j] = 1.0 if pivot > 0.0 else -1.0
        negatives += pivot < 0.0
        root[j, j] = np.sqrt(abs(pivot))
        for i in range(j + 1, n):
            total = a[i, j]
            for k in range(j):
                total -= sign[k] * root[i, k] * root[j, k]
            root[i, j] = sign[j] * total / root[j, j]
    return negatives


@njit
def lower_solve(root: Floats, x: Floats) -> None:
    """x becomes root^-1 x."""
    for i in range(len(x)):
        for k in range(i):
            x[i] -= root[i, k] * x[k]
        x[i] /= root[i, i]


@njit
def upper_solve(root: Floats, x: Floats) -> None:
    """x becomes root'^-1 x."""
    for i in range(len(x) - 1, -1, -1):
        for k in range(i + 1, len(x)):
            x[i] -= root[k, i] * x[k]
        x[i] /= root[i, i]


@njit
def factor_over_time(
    s: Floats,
    sigma: Floats,
    orders: Ints,
    roots: Floats,
    signs: Floats,
    inner: Floats,
    turns: Floats,
    m: Floats,
    wrong: Ints,
) -> None:
    """From S (T, store, store) and sigma (T, store): the orders in which stores are eliminated, the roots and signs of
    N and of W in these, M, and the number of eigenvalues on the wrong side in every period, -1: not known."""
    periods, n = sigma.shape
    nn = np.zeros((n, n))
    a = np.zeros((n, n))
    y = np.zeros((n, n))
    held = np.zeros(n)
    for t in range(periods):
        for i in range(n):
            for j in range(n):
                nn[i, j] = -s[t, i, j] + (m[t - 1, i, j] if t else 0.0)
            held[i] = -abs(sigma[t, i] * nn[i, i])
        order = orders[t]
        order[:] = np.argsort(held)
        for i in range(n):
            for j in range(n):
                a[i, j] = nn[order[i], order[j]]
        root = roots[t]
        negatives = signed_root(a, root, signs[t])
        if negatives < 0 or t == periods - 1:
            wrong[t] = negatives
            if negatives < 0:
                wrong[t:] = -1
            return
        for i in range(n):
            for j in range(i + 1):
                total = signs[t, i] if i == j else 0.0
                for k in range(i, n):
                    total += root[k, i] * sigma[t, order[k]] * root[k, j]
                a[i, j] = total
                a[j, i] = total
        turned = signed_root(a, inner[t], turns[t])
        if turned < 0:
            wrong[t:] = -1
            return
        wrong[t] = negatives - turned
        # Column i of y is inner^-1 times row i of the root.
        for i in range(n):
            for k in range(n):
                y[i, k] = root[i, k]
            lower_solve(inner[t], y[i])
        for i in range(n):
            for j in range(i + 1):
                total = 0.0
                for k in range(n):
                    total += y[i, k] * turns[t, k] * y[j, k]
                m[t, order[i], order[j]] = total
                m[t, order[j], order[i]] = total


@njit
def solve_over_time(
    orders: Ints,
    roots: Floats,
    signs: Floats,
    inner: Floats,
    turns: Floats,
    m: Floats,
    sigma: Floats,
    g: Floats,
    r: Floats,
    nu: Floats,
    e: Floats,
) -> None:
    """``sigma``, ``g``, ``r`` and the found ``nu`` and ``e`` are (T, store); the last level does not move."""
    periods, n = g.shape
    h = np.zeros((periods, n))
    u = np.zeros(n)
    y = np.zeros(n)
    price = np.zeros(n)
    for t in range(periods):
        for i in range(n):
            h[t, i] = g[t, i]
            if t:
                total = h[t - 1, i]
                for k in range(n):
                    total += m[t - 1, i, k] * (r[t - 1, k] - sigma[t - 1, k] * h[t - 1, k])
                h[t, i] += total
    for t in range(periods - 1, -1, -1):
        root, order = roots[t], orders[t]
        if t == periods - 1:
            for i in range(n):
                y[i] = -h[t, order[i]]
            lower_solve(root, y)
        else:
            for i in range(n):
                u[i] = nu[t + 1, order[i]] + r[t, order[i]]
            for i in range(n):
                y[i] = 0.0
                for k in range(i, n):
                    y[i] += root[k, i] * (u[k] - sigma[t, order[k]] * h[t, order[k]])
            lower_solve(inner[t], y)
            for i in range(n):
                y[i] *= turns[t, i]
            upper_solve(inner[t], y)
        for i in range(n):
            price[i] = signs[t, i] * y[i]
        upper_solve(root, price)
        for i in range(n):
            nu[t, order[i]] = price[i]
        if t == periods - 1:
            continue
        for i in range(n):
            store = order[i]
            size = 0.0
            moved = 0.0
            for k in range(i + 1):
                size += root[i, k] * root[i, k]
                moved += root[i, k] * y[k]
            # Of the two equations the one in which fewer digits cancel.
            is_held = sigma[t, store] * size > 1.0
            e[t, store] = (u[i] - price[i]) / sigma[t, store] if is_held else h[t, store] + moved


@dataclass(frozen=True)
class TimeFactors:
    """The coupled periods, factorized."""

    orders: Ints
    roots: Floats
    signs: Floats
    inner: Floats
    turns: Floats
    m: Floats
    sigma: Floats
    wrong: Ints
    """(T,) eigenvalues on the wrong side; -1: not known"""

    @classmethod
    def of(cls, s: Floats, sigma: Floats) -> TimeFactors:
        """From S (T, store, store) and the levels' stiffness (T, store), that of the last period left out of
        account."""
        roots, inner, m = np.zeros((3, *s.shape))
        signs, turns = np.ones((2, *sigma.shape))
        wrong, orders = np.zeros(len(s), np.int64), np.zeros(sigma.shape, np.int64)
        factor_over_time(s, sigma, orders, roots, signs, inner, turns, m, wrong)
        return cls(orders, roots, signs, inner, turns, m, sigma, wrong)

    def solve(self, g: Floats, r: Floats) -> tuple[Floats, Floats]:
        """(store, T) multipliers and levels, from right-hand sides (store, T)."""
        nu, e = np.zeros((2, *g.T.shape))
        known = (self.orders, self.roots, self.signs, self.inner, self.turns, self.m, self.sigma)
        solve_over_time(*known, np.ascontiguousarray(g.T), np.ascontiguousarray(r.T), nu, e)
        return nu.T, e.T
