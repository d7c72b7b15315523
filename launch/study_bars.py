"""Bars over the variants of a study: cost, losses and saving of the optimized schedules and of the plain rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from common.case import Case
from common.result import Result
from common.study import VariantRun
from launch.kpis import Kpis, kpi_report
from launch.plot_style import BLUE, GREEN, LIMIT, ORANGE, doubts_by_name, headed_figure, unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Runs = Sequence[VariantRun]
_THICK = 0.38
NOT_SOLVED = "not solved"


@dataclass(frozen=True)
class Bars:
    """A kind of bars over variants."""

    name: str
    title: str
    draw: Callable[[Runs], Figure]
    read: Callable[[Runs], str]
    """one sentence, computed from the data that is drawn"""
    is_there: Callable[[Runs], bool]


def cost(kpis: Kpis) -> float:
    return kpis.energy_cost


def losses(kpis: Kpis) -> float:
    return kpis.losses_kwh


def saving(run: VariantRun) -> tuple[float, float] | None:
    """What the optimized schedule's energy costs less than the plain rule's, $ and % of the rule's cost (NaN where that
    is not above zero); None where one of the two is missing."""
    if run.optimized is None or run.rule is None:
        return None
    ours, rule = (cost(kpi_report(result).kpis) for result in (run.optimized, run.rule))
    return rule - ours, 100 * (rule - ours) / rule if rule > 0 else np.nan


def missing(run: VariantRun) -> str:
    """Why a variant has no saving."""
    if run.optimized is None:
        return NOT_SOLVED
    return "plain rule failed" if run.rule_failure else "no devices"


def pairs(runs: Runs, value: Callable[[Kpis], float], title: str, label: str) -> Figure:
    """A bar for each variant's optimized schedule and one for its plain rule's."""
    figure, axes = _bars(runs, title)
    schedules = [[run.optimized for run in runs], [run.rule for run in runs]]
    looks = [("optimized", BLUE, ""), ("plain rule", ORANGE, "///")]
    for k, (results, (name, color, hatch)) in enumerate(zip(schedules, looks, strict=True)):
        if not any(results):
            continue
        y = np.arange(len(runs)) + (k - 0.5) * _THICK
        width = [0.0 if own is None else value(kpi_report(own).kpis) for own in results]
        axes.barh(y, width, _THICK, color=color, hatch=hatch, edgecolor="white", linewidth=0, label=name)
        for at, length, own in zip(y, width, results, strict=True):
            absent = NOT_SOLVED if k == 0 else ""
            _tell(axes, length, at, absent if own is None else f"{length:,.1f}")
    axes.set_xlabel(unit(_case(runs), label))
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def read_pairs(runs: Runs, value: Callable[[Kpis], float], noun: str, label: str) -> str:
    found = {run.name: value(kpi_report(run.optimized).kpis) for run in runs if run.optimized is not None}
    least, most = (pick(found, key=lambda name: found[name]) for pick in (min, max))
    words = unit(_case(runs), label)
    if least == most:
        return f"{noun} of {least} are {found[least]:,.1f} {words}."
    below = sum(value(kpi_report(ours).kpis) < value(kpi_report(rule).kpis) for ours, rule in _both(runs))
    rule = f"; in {below} of {len(_both(runs))} variants they are below the plain rule's" if _both(runs) else ""
    return (
        f"{noun} of the optimized schedules lie between {found[least]:,.1f} ({least}) and {found[most]:,.1f} {words} "
        f"({most}){rule}."
    )


def savings(runs: Runs) -> Figure:
    """What optimizing saves against the plain rule, a bar a variant."""
    figure, axes = _bars(runs, "Saving against the plain rule")
    for y, run in enumerate(runs):
        found = saving(run)
        if found is None:
            _tell(axes, 0.0, y, missing(run))
            continue
        dollars, percent = found
        worse = dollars < 0
        axes.barh(y, dollars, 2 * _THICK, color=LIMIT if worse else GREEN, hatch="///" if worse else "", linewidth=0)
        _tell(axes, dollars, y, f"{dollars + 0.0:,.2f} $" + (f" ({percent:.1f} %)" if np.isfinite(percent) else ""))
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel(unit(_case(runs), "$"))
    return figure


def read_savings(runs: Runs) -> str:
    found = {run.name: known[0] for run in runs if (known := saving(run)) is not None}
    least, most = (pick(found, key=lambda name: found[name]) for pick in (min, max))
    words = unit(_case(runs), "$")
    if least == most:
        return f"Optimizing saves {found[most]:,.2f} {words} against the plain rule in {most}."
    return (
        f"Optimizing saves most against the plain rule in {most}, {found[most]:,.2f} {words}, and least in {least}, "
        f"{found[least]:,.2f}."
    )


def _bars(runs: Runs, title: str) -> tuple[Figure, Axes]:
    """Axes with a line for each variant, the first on top; the heading says what is wrong with the optimized ones."""
    wrong = doubts_by_name({run.name: run.optimized for run in runs if run.optimized is not None})
    figure = headed_figure(f"{title}: {_case(runs).name}", wrong, 1.4 + 0.42 * len(runs))
    axes = figure.subplots()
    axes.set_yticks(np.arange(len(runs)), [run.name for run in runs])
    axes.set_ylim(len(runs) - 0.5, -0.5)
    axes.grid(False, axis="y")
    axes.margins(x=0.25)  # room for what is told at the ends
    return figure, axes


def _tell(axes: Axes, length: float, y: float, text: str) -> None:
    """Text at the end of a bar."""
    side = 1 if length >= 0 else -1
    axes.annotate(
        text, (length, y), (3 * side, 0), textcoords="offset points", va="center", ha="left" if side > 0 else "right",
        fontsize=7,
    )  # fmt: skip


def _case(runs: Runs) -> Case:
    found: Case = next(run.optimized.case for run in runs if run.optimized is not None)
    return found


def _both(runs: Runs) -> list[tuple[Result, Result]]:
    return [(run.optimized, run.rule) for run in runs if run.optimized is not None and run.rule is not None]


def _any_solved(runs: Runs) -> bool:
    return any(run.optimized is not None for run in runs)


def _pair(name: str, title: str, noun: str, value: Callable[[Kpis], float], label: str) -> Bars:
    draw = partial(pairs, value=value, title=title, label=label)
    return Bars(name, title, draw, partial(read_pairs, value=value, noun=noun, label=label), _any_solved)


BARS = (
    _pair("study_cost", "Energy cost", "Energy costs", cost, "$"),
    _pair("study_losses", "Losses", "Losses", losses, "kWh"),
    Bars("study_saving", "Saving", savings, read_savings, lambda runs: bool(_both(runs))),
)
