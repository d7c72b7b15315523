"""tieflow from Python: load a case, change it, solve it, look at the result; ``launch/example.py`` shows how.

The arrays of a result are described in ``common.results.result`` and ``common.results.schedule``. Errors meant for the
user are TieflowErrors; CaseError, InfeasibleError and SolverError of ``common.errors`` are kinds of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from pydantic import ValidationError

from tieflow.common.case import AreaRow, Case, check_devices, read_case
from tieflow.common.errors import CaseError, TieflowError, did_you_mean
from tieflow.common.feeder.branch_limits import BranchLimit
from tieflow.common.inputs.devices import DEVICE_KINDS, PV, Battery, Device, FlexibleLoad, Wind, labelled
from tieflow.common.inputs.tables import Row, explain
from tieflow.common.results.result import Result
from tieflow.common.results.store import write_result
from tieflow.common.results.study import StoredStudy
from tieflow.common.results.study_store import read_run
from tieflow.common.results.study_store import read_study as stored_study
from tieflow.common.ties.cutting import area_numbers
from tieflow.common.wire.transport import abort, dismiss, work
from tieflow.coordinator.methods import find_method
from tieflow.coordinator.record import Round
from tieflow.launch.figures.comparison import Comparison, Difference, compare
from tieflow.launch.figures.kpis import Extreme, Kpis, kpi_report
from tieflow.launch.plots.figures import figure_of
from tieflow.launch.plots.style import library
from tieflow.launch.runs import solve as runs
from tieflow.launch.runs.branch_limits import with_limits
from tieflow.launch.runs.partition import in_areas
from tieflow.launch.studies import benchmark as benchmarks

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mpi4py.MPI import Comm
    from pandas import DataFrame

__all__ = ["PV", "Battery", "BranchLimit", "Case", "CaseError", "FlexibleLoad", "Result", "TieflowError", "Wind"]
__all__ += ["Comparison", "Difference", "Extreme", "Kpis"]
__all__ += [
    "benchmark",
    "compare",
    "kpis",
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
Answer = TypeVar("Answer")
AnyRow = TypeVar("AnyRow", bound=Row)
AnyDevice = TypeVar("AnyDevice", bound=Device)


def load(name_or_folder: str | Path, /, **settings: object) -> Case:
    """A shipped case or a case folder; keywords replace settings of case.toml (``periods=6``). Raises CaseError."""
    case = read_case(str(name_or_folder), settings, "keyword argument")
    where = "keyword argument" if "method" in settings else "case.toml"
    find_method(case.settings.default_method, where)  # for its errors
    return case


def with_pv(case: Case, *systems: PV) -> Case:
    """The case with PV systems added or, of the same label (name, else bus and phases), replaced. Raises CaseError for
    one that does not fit: unknown bus, phase or profile, or in some period more kW than its inverter's kVA."""
    return _with(case, "pv", PV, systems)


def with_batteries(case: Case, *batteries: Battery) -> Case:
    """The case with batteries added or, of the same label, replaced. Raises CaseError as ``with_pv`` does."""
    return _with(case, "batteries", Battery, batteries)


def with_flexible_loads(case: Case, *loads: FlexibleLoad) -> Case:
    """The case with flexible loads added or, of the same label, replaced. Raises CaseError as ``with_pv``."""
    return _with(case, "flexible_loads", FlexibleLoad, loads)


def with_wind(case: Case, *turbines: Wind) -> Case:
    """The case with wind turbines added or, of the same label, replaced. Raises CaseError as ``with_pv``."""
    return _with(case, "wind", Wind, turbines)


def with_branch_limits(case: Case, *limits: BranchLimit) -> Case:
    """The case with limits of branches added, or put in place of those that its branches have; one of a balanced case
    is named by its buses, such as ``a-b``. Raises CaseError for a branch that the feeder lacks, and for two limits of
    the same branch."""
    return with_limits(case, [_row(BranchLimit, limit.model_dump()) for limit in limits], "branch limits")


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

    def solved(own: Comm | None) -> Result:
        options = _options(tolerance_pu, max_rounds, method=method, certify=certify, check=check)
        return runs.solve(case, options, own, on_round or (lambda _: None))

    return _coordinated(comm, solved)


def benchmark(
    case: Case,
    methods: Sequence[str] = ("newton", "admm", "dlmp", "enapp"),
    *,
    comm: Comm | None = None,
    tolerance_pu: float = 1e-5,
    max_rounds: int = 200,
    cpu: bool = False,
) -> list[dict[str, Any]] | None:
    """The centralized baseline and then each method, as ``tieflow benchmark --json`` tells them: ``method``, ``cost``,
    ``objective``, ``gap_to_optimum`` (of the objective, relative), ``rounds``, ``converged``, ``checker``, ``time``,
    ``critical_path_ratio`` (over the baseline's; ``cpu``: of threads' CPU time) and more; a table of them is
    ``pandas.DataFrame(benchmark(case))``.

    Ranks, ``comm`` and errors are as in ``solve``. Raises TieflowError also when the baseline does not solve.
    """

    def compared(own: Comm | None) -> list[dict[str, Any]]:
        for method in methods:
            find_method(method)  # for its errors, before anything is solved
        return benchmarks.benchmark(case, methods, _options(tolerance_pu, max_rounds), own, cpu=cpu)

    return _coordinated(comm, compared)


def kpis(result: Result) -> Kpis:
    """The key performance indicators of a run as a data class, by OpenDSS's replay where there is one, else by the
    optimizer (``result.check`` tells); docs/kpis.md defines them. ``dataclasses.asdict`` makes them a dict."""
    return kpi_report(result).kpis


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
    """A part of the result as a pandas table, a row for each period; names end in their unit.

    The index ``hour`` is the hours of the day at which periods begin: 19.25 is 19:15.

    ``voltages``: pu, by bus or node. ``substation``: powers, losses, price. ``flows`` and every kind of device (``pv``,
    ``batteries``, ``flexible_loads``, ``wind``): columns (quantity, branch, node or place), so that
    ``["energy_kwh"]`` has a column for each battery. ``rounds``: a row for each round. Powers of a balanced case are
    per phase. Raises TieflowError for another word, or without pandas.
    """
    _check_word("table", what, ("voltages", "flows", "substation", *DEVICE_KINDS, "rounds"))
    pandas, case, state, past = library("pandas", "pandas"), result.case, result.state, result.history
    hours = case.horizon.edges[:-1]
    hours = hours.astype(int) if case.horizon.dt.is_integer() else hours
    index, columns = pandas.Index(hours, name="hour"), None
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
    """A matplotlib figure: ``schedule``, everything that was decided; ``voltages``, their range over the day where
    limits hold; or a picture that ``tieflow plot`` draws, by the name of its file: ``substation``, ``batteries``,
    ``pv``, ``wind``, ``flexible_loads``, ``voltage_profile``, ``voltage_heat_map``, ``voltage_map``, ``price_map``,
    ``area_map``, ``convergence``. All show OpenDSS's replay where there is one. Raises TieflowError for another word,
    for a picture in which the run has nothing to show, or without matplotlib."""
    return figure_of(result, what)


def _options(tolerance_pu: float, max_rounds: int, **others: Any) -> runs.Options:
    if not (1e-9 <= tolerance_pu <= 1 and max_rounds >= 1):
        raise CaseError(f"tolerance_pu = {tolerance_pu}, max_rounds = {max_rounds}: from 1e-9 to 1, and 1 or more.")
    options = runs.Options(tolerance_pu=tolerance_pu, max_rounds=max_rounds, **others)
    if options.method is not None:
        find_method(options.method)  # for its errors
    return options


def _coordinated(comm: Comm | None, act: Callable[[Comm | None], Answer]) -> Answer | None:
    """What rank 0 gets from an act on the ranks, which have areas meanwhile; None on the others."""
    own = comm.Dup() if comm is not None and comm.size > 1 else None  # apart from the user's messages
    if own is not None and own.rank > 0:
        try:
            work(own, runs.make_solver)
        except Exception:
            abort(own)
        own.Free()
        return None
    try:
        return act(own)
    finally:
        dismiss(own)
        if own is not None:
            own.Free()


def _places(case: Case, what: str) -> tuple[str, Sequence[str]]:
    """What stands along the columns of a table, and its names."""
    if what in DEVICE_KINDS:
        return "place", [unit.label for unit in getattr(case, what)]
    feeder = case.feeder
    return (feeder.flow_noun, feeder.flows) if what == "flows" else (feeder.places.noun, feeder.places.names)


def _with(case: Case, kind: str, row: type[AnyDevice], units: Sequence[AnyDevice]) -> Case:
    # Checked again, for model_copy(update=...), the easy way to change a device, checks nothing.
    checked: Any = [_row(row, unit.model_dump()) for unit in units]
    given = labelled(checked)
    placed: Any = _in_place(getattr(case, kind), given)
    changed = replace(case, **{kind: placed})
    check_devices(changed)
    return changed


def _in_place(units: Sequence[Device], given: Sequence[Device]) -> tuple[Device, ...]:
    """The units, each replaced by a given one of its label, and the other given ones."""
    known, new = {unit.label for unit in units}, {unit.label: unit for unit in given}
    # Two given ones of one name are both kept, to be refused.
    more = (unit for unit in given if unit.label not in known or unit is not new[unit.label])
    return (*(new.get(unit.label, unit) for unit in units), *more)


def _row(kind: type[AnyRow], values: Mapping[str, object]) -> AnyRow:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise CaseError(f"{kind.__name__}: {explain(error)}") from None


def _check_word(what: str, word: str, known: Iterable[str]) -> None:
    if word not in known:
        raise CaseError(f"{what} '{word}' is unknown.{did_you_mean(word, known)}")
