"""A compiled conic problem and its solver.

cvxpy canonicalizes an area's model once; afterwards only the linear cost, the curvature and the values of fixed columns
change, and Clarabel is driven directly.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import clarabel
import cvxpy as cp
import cvxpy.settings as cvxpy_names
import numpy as np
import scipy.sparse as sp

from areas.sensitivity import CONE, sensitivity
from common.errors import SolverError
from common.feeder import Floats, Ints

AIM = 1e-9
"""accuracy that the solver tries for"""
TOLERANCE = 1e-8
"""accuracy that counts as solved"""
SOLVED = ("Solved", "AlmostSolved")
"""Clarabel's words for having reached the aim, and the tolerance"""
NONE: tuple[Ints, Floats] = np.zeros(0, np.int64), np.zeros(0)
"""no columns, and their values"""


@dataclass(frozen=True)
class ConicProblem:
    """minimize 1/2 x'Px + c'x subject to A x + s = b, s in a product of cones."""

    p: sp.csc_matrix
    c: Floats
    a: sp.csc_matrix
    b: Floats
    counts: tuple[int, int, int]
    """equality rows, inequality rows, and second-order cones of four rows each that follow"""
    columns: Mapping[str, Ints]
    """columns of each named variable, in the variable's shape"""
    rows: Mapping[str, Ints] = field(default_factory=dict)
    """rows of each named equality, in its shape"""

    def cost(self, x: Floats) -> float:
        """The problem's own cost at x."""
        # P holds the upper triangle only.
        return float(self.c @ x + x @ (self.p @ x) - 0.5 * self.p.diagonal() @ x**2)


@dataclass(frozen=True)
class ConicSolution:
    """An answer with its certificate."""

    x: Floats
    objective: float
    """value of the whole cost"""
    dual_objective: float
    """a lower bound on it"""
    fixed_dual: Floats
    """derivative of the optimal value with respect to each fixed column's value"""
    dual: Floats
    """of the problem's own rows"""
    sensitivity: Floats
    """derivative of the wanted columns with respect to their linear cost; (0, 0) when none were wanted, zero
    where the problem was not solved"""
    status: str
    """one of SOLVED, ``PrimalInfeasible``, or what else Clarabel says"""
    iterations: int
    seconds: float


def compile_problem(
    problem: cp.Problem,
    variables: Mapping[str, cp.Variable],
    equalities: Mapping[str, cp.Constraint] | None = None,
) -> ConicProblem:
    """Canonicalize a cvxpy problem without parameters; ``variables`` are those whose values, ``equalities`` those whose
    duals are wanted later."""
    data, _, _ = problem.get_problem_data(cp.CLARABEL)
    offsets = data[cvxpy_names.PARAM_PROB].var_id_to_col
    constraints = data[cvxpy_names.PARAM_PROB].constraints
    ends = np.cumsum([constraint.size for constraint in constraints])
    row_of = {constraint.id: end - constraint.size for constraint, end in zip(constraints, ends, strict=True)}
    dims = data["dims"]
    if dims.exp or dims.psd or dims.p3d or any(rows != CONE for rows in dims.soc):
        raise SolverError(f"The model has cones other than linear ones and second-order ones of {CONE} rows.")
    # A variable of size zero has no place.
    columns = {
        name: offsets.get(variable.id, 0) + np.arange(variable.size).reshape(variable.shape, order="F")
        for name, variable in variables.items()
    }
    size = len(data["c"])
    return ConicProblem(
        p=sp.csc_matrix(sp.triu(data["P"])) if data.get("P") is not None else sp.csc_matrix((size, size)),
        c=np.asarray(data["c"], float),
        a=sp.csc_matrix(data["A"]),
        b=np.asarray(data["b"], float),
        counts=(dims.zero, dims.nonneg, len(dims.soc)),
        columns=columns,
        rows={
            name: row_of[equality.id] + np.arange(equality.size).reshape(equality.shape, order="F")
            for name, equality in (equalities or {}).items()
        },
    )


def solve_conic(
    problem: ConicProblem,
    linear: Floats | None = None,
    curvature: sp.csc_matrix | None = None,
    fixed: tuple[Ints, Floats] = NONE,
    wanted: Ints | None = None,
    careful: bool = False,
) -> ConicSolution:
    """Minimize the problem's cost plus ``linear``'x + 1/2 x' ``curvature`` x, columns ``fixed`` held at their values.

    ``curvature`` is symmetric, given by its upper triangle.

    ``wanted`` columns get their sensitivities. ``careful`` turns on what the fast settings leave out. A solver status
    other than SOLVED is returned, not raised: the caller knows what it means.
    """
    c = problem.c if linear is None else problem.c + linear
    p = problem.p if curvature is None else sp.csc_matrix(problem.p + curvature)
    held, (equalities, inequalities, second_order) = len(fixed[0]), problem.counts
    hold = sp.csc_matrix((np.ones(held), (np.arange(held), fixed[0])), shape=(held, len(c)))
    a, b = sp.vstack([hold, problem.a], format="csc"), np.append(fixed[1], problem.b)
    cones = [clarabel.ZeroConeT(held + equalities), clarabel.NonnegativeConeT(inequalities)]
    cones += [clarabel.SecondOrderConeT(CONE)] * second_order
    # One largest coefficient for the whole cost: Clarabel is twice as fast and better conditioned.
    scale = max(float(np.abs(c).max(initial=0.0)), float(abs(p).max()) if p.nnz else 0.0) or 1.0
    started = time.perf_counter()
    answer = clarabel.DefaultSolver(p / scale, c / scale, a, b, cones, _settings(careful)).solve()
    x, slack, dual = np.array(answer.x), np.array(answer.s), np.array(answer.z)
    moved = np.zeros((0, 0)) if wanted is None else np.zeros((len(wanted), len(wanted)))
    if wanted is not None and str(answer.status) in SOLVED:
        moved = sensitivity(p / scale, a, slack, dual, (held + equalities, inequalities), wanted) / scale
    return ConicSolution(
        x=x,
        objective=answer.obj_val * scale,
        dual_objective=answer.obj_val_dual * scale,
        fixed_dual=-dual[:held] * scale,
        dual=dual[held:] * scale,
        sensitivity=moved,
        status=str(answer.status),
        iterations=answer.iterations,
        seconds=time.perf_counter() - started,
    )


def _settings(careful: bool) -> clarabel.DefaultSettings:
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_threads = 1
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = AIM
    settings.reduced_tol_gap_abs = settings.reduced_tol_gap_rel = settings.reduced_tol_feas = TOLERANCE
    settings.iterative_refinement_enable = careful
    settings.presolve_enable = False
    return settings
