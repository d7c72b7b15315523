"""tieflow from Python: load a case, change it, solve it, look at the result; ``launch/example.py`` shows how.

The arrays of a result are described in ``common.results.result`` and ``common.results.schedule``. Errors meant for the
user are TieflowErrors; CaseError, InfeasibleError and SolverError of ``common.errors`` are kinds of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from pydantic import ValidationError

from tieflow.common.case import AreaRow, Case, check_devices, read_case
from tieflow.common.errors import CaseError, TieflowError, did_you_mean
from tieflow.common.feeder.branch_limits import BranchLimit
from tieflow.common.inputs.devices import DEVICE_KINDS, PV, Battery, Device, FlexibleLoad, Wind
from tieflow.common.inputs.tables import Row, explain
from tieflow.common.results.result import Result
from tieflow.common.results.store import write_result
from tieflow.common.results.study import StoredStudy
from tieflow.common.results.study_store import read_run
from tieflow.common.results.study_store import read_study as stored_study
from tieflow.common.ties.cutting import area_numbers
from tieflow.common.wire.transport import abort, dismiss, work
from tieflow.coordinator.record import Round
from tieflow.launch.plots.style import LIMIT, STYLES, library
from tieflow.launch.runs import solve as runs
from tieflow.launch.runs.partition import in_areas

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mpi4py.MPI import Comm
    from pandas import DataFrame

__all__ = ["PV", "Battery", "BranchLimit", "Case", "CaseError", "FlexibleLoad", "Result", "TieflowError", "Wind"]
__all__ += [
    "load",
    "plot",
    "read",
    "read_study",
    "save",
    "solve",
    "table",
    "with_areas",
    "with_batteries",
    "with_branch_limits",
    "with_flexible_loads",
    "with_pv",
    "with_wind",
]
AnyRow = TypeVar("AnyRow", bound=Row)
AnyDevice = TypeVar("AnyDevice", bound=Device)


def load(name_or_folder: str | Path, /, **settings: object) -> Case:
    """A shipped case or a case folder; keywords replace settings of case.toml (``periods=6``). Raises CaseError."""
    return read_case(str(name_or_folder), settings, "keyword argument")


def with_pv(case: Case, *systems: PV) -> Case:
    """The case with PV systems added or, at the same bus and phases, replaced. Raises CaseError for one that does not
    fit: unknown bus, phase or profile, or in some hour more kW than its inverter's kVA."""
    return _with(case, "pv", PV, systems)


def with_batteries(case: Case, *batteries: Battery) -> Case:
    """The case with batteries added or, at the same bus and phases, replaced. Raises CaseError as ``with_pv`` does."""
    return _with(case, "batteries", Battery, batteries)


def with_flexible_loads(case: Case, *loads: FlexibleLoad) -> Case:
    """The case with flexible loads added or, at the same bus and phases, replaced. Raises CaseError as ``with_pv``."""
    return _with(case, "flexible_loads", FlexibleLoad, loads)


def with_wind(case: Case, *turbines: Wind) -> Case:
    """The case with wind turbines added or, at the same bus and phases, replaced. Raises CaseError as ``with_pv``."""
    return _with(case, "wind", Wind, turbines)


def with_branch_limits(case: Case, *limits: BranchLimit) -> Case:
    """The multi-phase case with limits of branches added or, of the same name, replaced. Raises CaseError for a branch
    that the feeder lacks or that has a limit by another name, and for a model without such limits."""
    placed = {limit.place: limit for limit in (*case.branch_limits, *limits)}
    changed = replace(case, branch_limits=tuple(_row(BranchLimit, limit.model_dump()) for limit in placed.values()))
    check_devices(changed)
    return changed


def with_areas(case: Case, areas: int | Mapping[str, object]) -> Case:
    """The case cut into so many areas of even work, or as a mapping says: every bus's area, a number or a name.

    Raises CaseError when the feeder cannot be cut so: too many areas, a bus without one, an area in pieces.
    """
    if not isinstance(areas, Mapping):
        return in_areas(case, areas)
    cut = replace(case, areas=tuple(_row(AreaRow, {"bus": bus, "area": str(area)}) for bus, area in areas.items()))
    area_numbers(cut)  # for its errors
    return cut


def solve(
    case: Case,
    method: str | None = None,
    *,
    comm: Comm | None = None,
    tolerance_pu: float = 1e-5,
    max_rounds: int = 200,
    certify: bool = False,
    check: bool = True,
    on_round: Callable[[Round], None] | None = None,
) -> Result | None:
    """Solve in this process or, called by every rank of an mpi4py communicator, on its ranks: rank 0 coordinates and
    gets the result, the others have the areas and get None. Only the arguments of rank 0 count.

    Not converged is a result, not an error (``result.converged``), as is one that OpenDSS refutes (``result.check``).
    Raises, on rank 0 only, CaseError for wrong arguments, InfeasibleError, SolverError, TieflowError for more ranks
    than areas + 1, and what ``on_round`` raises; the other ranks return None all the same. Run a script that goes on
    with MPI as ``mpirun -n 3 python -m mpi4py script.py``: it ends all ranks when nobody catches an error of rank 0.
    An unexpected error of another rank ends all ranks (MPI_Abort), since rank 0 would wait forever.
    """
    own = comm.Dup() if comm is not None and comm.size > 1 else None  # apart from the user's messages
    if own is not None and own.rank > 0:
        try:
            work(own, runs.make_solver)
        except Exception:
            abort(own)
        own.Free()
        return None
    try:
        if method is not None:
            _check_word("method", method, runs.METHODS)
        if not (1e-9 <= tolerance_pu <= 1 and max_rounds >= 1):
            raise CaseError(f"tolerance_pu = {tolerance_pu}, max_rounds = {max_rounds}: from 1e-9 to 1, and 1 or more.")
        options = runs.Options(method, tolerance_pu, max_rounds, certify, check)
        return runs.solve(case, options, own, on_round or (lambda _: None))
    finally:
        dismiss(own)
        if own is not None:
            own.Free()


def save(result: Result, path: str | Path) -> None:
    """Store a result as HDF5, whole or not at all. Raises TieflowError when it cannot be written."""
    write_result(Path(path), result)


def read(path: str | Path, variant: str | None = None, rule: bool = False) -> Result:
    """A stored result, or that of a study's variant: optimized, or by the plain ``rule``. Raises TieflowError when it
    is not there, not ours or not whole."""
    return read_run(Path(path), variant, rule)


def read_study(path: str | Path) -> StoredStudy:
    """All variants of a study's file, in the order of the study; ``common.results.study`` describes them. Raises
    TieflowError as ``read`` does."""
    return stored_study(Path(path))


def table(result: Result, what: str) -> DataFrame:
    """A part of the result as a pandas table, a row for each hour (row of profiles.csv); names end in their unit.

    ``voltages``: pu, by bus or node. ``substation``: powers, losses, price. ``flows`` and every kind of device (``pv``,
    ``batteries``, ``flexible_loads``, ``wind``): columns (quantity, branch, node or place), so that
    ``["energy_kwh"]`` has a column for each battery. ``rounds``: a row for each round. Powers of a balanced case are
    per phase. Raises TieflowError for another word, or without pandas.
    """
    _check_word("table", what, ("voltages", "flows", "substation", *DEVICE_KINDS, "rounds"))
    pandas, case, state, past = library("pandas", "pandas"), result.case, result.state, result.history
    index, columns = pandas.Index(case.horizon.hour, name="hour"), None
    data: Any
    if what == "rounds":
        # Times by area stay behind; an older file lacks the model error.
        data = {name: x if len(x) else np.nan for name, x in vars(past).items() if np.ndim(x) == 1}
        index = pandas.RangeIndex(1, len(past.cost) + 1, name="round")
    elif what == "substation":
        data = {"p_kw": state.substation_p_kw, "q_kvar": state.substation_q_kvar}
        data |= {"losses_kw": state.losses_kw, "price_per_kwh": case.horizon.price}
    else:
        quantities = ({"voltages": ("v_pu",), "flows": ("p_kw", "q_kvar", "i_a")} | DEVICE_KINDS)[what]
        arrays = getattr(result.schedule, what) if what in DEVICE_KINDS else vars(state)
        kind, names = _places(case, what)
        columns = pandas.MultiIndex.from_product([quantities, names], names=["quantity", kind])
        data = np.concatenate([arrays[name] for name in quantities]).T
    made: DataFrame = pandas.DataFrame(data, index, columns)
    return made["v_pu"] if what == "voltages" else made


def plot(result: Result, what: str = "schedule") -> Figure:
    """A matplotlib figure: ``schedule``, totals of substation, batteries and PV by hour; ``voltages``, their range
    where limits hold; ``convergence``, by round. Raises TieflowError for another word, or without matplotlib."""
    _check_word("plot", what, ("schedule", "voltages", "convergence"))
    case, state, past = result.case, result.state, result.history
    x = (case.horizon.hour[0] + np.arange(len(case.horizon) + 1.0)) * case.horizon.dt
    # By panel and name: a limit, a line by hour (or at the ends of hours, or by round), or an area between two.
    panels: dict[str, dict[str, Any]]
    found: dict[str, Any]
    if what == "schedule":
        battery = {name: array.sum(axis=0) for name, array in result.schedule.batteries.items()}
        shares = ("soc_initial", "soc_max", "soc_min")
        kwh = [sum((getattr(unit, share) * unit.energy_kwh for unit in case.batteries), 0.0) for share in shares]
        limits = {"upper limit": kwh[1], "lower limit": kwh[2]}
        panels = {
            "substation\nkW, kvar": {"real": state.substation_p_kw, "reactive": state.substation_q_kvar},
            "batteries\nkW": {"discharge": (0.0, battery["discharge_kw"]), "charge": (0.0, -battery["charge_kw"])},
            "stored energy\nkWh": {"stored": [kwh[0], *battery["energy_kwh"]]} | limits,
            "PV reactive power\nkvar": {"into the feeder": result.schedule.pv["q_kvar"].sum(axis=0)},
        }
    elif what == "voltages":
        v = state.v_pu[1:] if case.is_balanced else state.v_pu[case.network.limited[case.network.roots :]]
        found = {"range": (v.min(axis=0), v.max(axis=0)), "median": np.median(v, axis=0)}
        limits = {"upper limit": case.settings.v_max_pu, "lower limit": case.settings.v_min_pu}
        panels = {"voltage, pu": found | limits}
    else:
        x = np.arange(1.0, len(past.cost) + 1)
        found = {"mismatch": past.mismatch_pu, "change": past.change_pu, "model error": past.model_error_pu}
        found["first-order residual"] = past.optimality
        # Zero, as the mismatch of a single area, has no place on a logarithmic axis.
        found = {name: np.where(y > 0, y, np.nan) for name, y in found.items() if (y > 0).any()}
        panels = {"largest difference, pu": {**found, "tolerance": result.tolerance_pu}}
    figures = library("matplotlib.figure", "'tieflow[plot]'")
    figure: Figure = figures.Figure((8, 2 + 2 * len(panels)), layout="constrained")
    remarks = ["powers per phase"] * (case.is_balanced and what == "schedule") + ["NOT CONVERGED"] * (
        not result.converged
    )
    figure.suptitle(", ".join([case.name, result.method, *remarks]))
    rows = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for axes, (label, lines) in zip(rows, panels.items(), strict=True):
        styles = iter(STYLES)
        for name, y in lines.items():
            if isinstance(y, float):
                axes.axhline(y, color=LIMIT, linestyle=":" if name == "lower limit" else "--", label=name)
                continue
            color, style = next(styles)
            if isinstance(y, tuple):
                axes.stairs(y[1], x, baseline=y[0], fill=True, color=color, alpha=0.5, label=name)
            elif len(y) == len(x):
                axes.plot(x, y, style, marker="o", color=color, label=name)
            else:
                axes.stairs(y, x, baseline=None, color=color, linestyle=style, linewidth=2, label=name)
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    by_round = what == "convergence"
    axes.set(xlabel="round" if by_round else "hour of the day", yscale="log" if by_round else "linear")
    axes.xaxis.get_major_locator().set_params(integer=True)
    return figure


def _places(case: Case, what: str) -> tuple[str, Sequence[str]]:
    """What stands along the columns of a table, and its names."""
    if what in DEVICE_KINDS:
        return "place", [unit.place for unit in getattr(case, what)]
    if not case.is_balanced:
        return "node", case.network.node_names[case.network.roots :]
    if what == "flows":
        return "branch", [case.feeder.branch_name(k) for k in range(len(case.feeder.parent))]
    return "bus", case.feeder.buses


def _with(case: Case, kind: str, row: type[AnyDevice], units: Sequence[AnyDevice]) -> Case:
    # Checked again, for model_copy(update=...), the easy way to change a device, checks nothing.
    units = [_row(row, unit.model_dump()) for unit in units]
    twice = [place for place, count in Counter(unit.place for unit in units).items() if count > 1]
    if twice:
        raise CaseError(f"{kind}: duplicate device at bus '{twice[0]}'. Add the ratings up in one.")
    placed: Any = tuple({unit.place: unit for unit in (*getattr(case, kind), *units)}.values())
    changed = replace(case, **{kind: placed})
    check_devices(changed)
    return changed


def _row(kind: type[AnyRow], values: Mapping[str, object]) -> AnyRow:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise CaseError(f"{kind.__name__}: {explain(error)}") from None


def _check_word(what: str, word: str, known: Iterable[str]) -> None:
    if word not in known:
        raise CaseError(f"{what} '{word}' is unknown.{did_you_mean(word, known)}")
