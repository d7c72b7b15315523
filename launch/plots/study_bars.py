"""Bars over the variants of a study: cost, losses and saving of the optimized schedules and of the plain rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from tieflow.common.results.study import StoredStudy
from tieflow.launch.figures.kpis import Kpis
from tieflow.launch.figures.study import VariantFigures, optimized
from tieflow.launch.plots.style import BLUE, GREEN, LIMIT, ORANGE, doubts_by_name, headed_figure, unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Found = Sequence[VariantFigures]
_THICK = 0.38
NOT_SOLVED = "not solved"
SAME_SHARE = 1e-6
"""of what the plain rule costs or loses: less than this apart, both are the same"""


@dataclass(frozen=True)
class Bars:
    """A kind of bars over variants."""

    name: str
    title: str
    draw: Callable[[StoredStudy, Found], Figure]
    read: Callable[[StoredStudy, Found], str]
    """one sentence, computed from the data that is drawn"""
    is_there: Callable[[Found], bool]


def cost(kpis: Kpis) -> float:
    return kpis.energy_cost


def losses(kpis: Kpis) -> float:
    return kpis.losses_kwh


def missing(variant: VariantFigures) -> str:
    """Why a variant has no saving."""
    if variant.optimized is None:
        return NOT_SOLVED
    return "no devices" if not variant.has_devices else "plain rule failed"


def pairs(study: StoredStudy, found: Found, value: Callable[[Kpis], float], title: str, label: str) -> Figure:
    """A bar for each variant's optimized schedule and one for its plain rule's."""
    figure, axes = _bars(study, found, title)
    schedules = [[variant.optimized for variant in found], [variant.rule for variant in found]]
    looks = [("optimized", BLUE, ""), ("plain rule", ORANGE, "///")]
    for k, (runs, (name, color, hatch)) in enumerate(zip(schedules, looks, strict=True)):
        if not any(runs):
            continue
        y = np.arange(len(found)) + (k - 0.5) * _THICK
        width = [0.0 if run is None else value(run.kpis.kpis) for run in runs]
        axes.barh(y, width, _THICK, color=color, hatch=hatch, edgecolor="white", linewidth=0, label=name)
        for at, length, run in zip(y, width, runs, strict=True):
            absent = NOT_SOLVED if k == 0 else ""
            _tell(axes, length, at, absent if run is None else f"{length:,.1f}")
    axes.set_xlabel(_unit(study, label))
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def read_pairs(study: StoredStudy, found: Found, value: Callable[[Kpis], float], noun: str, label: str) -> str:
    ours = {variant.name: value(variant.optimized.kpis.kpis) for variant in found if variant.optimized}
    least, most = (pick(ours, key=lambda name: ours[name]) for pick in (min, max))
    words = _unit(study, label)
    if least == most:
        return f"{noun} of {least} are {ours[least]:,.1f} {words}."
    rules = {variant.name: value(variant.rule.kpis.kpis) for variant in found if variant.rule and variant.optimized}
    below = sum(rule - ours[name] > SAME_SHARE * abs(rule) for name, rule in rules.items())
    beside = f"; in {below} of {len(rules)} variants they are below the plain rule's" if rules else ""
    return (
        f"{noun} of the optimized schedules lie between {ours[least]:,.1f} ({least}) and {ours[most]:,.1f} {words} "
        f"({most}){beside}."
    )


def savings(study: StoredStudy, found: Found) -> Figure:
    """What optimizing saves against the plain rule, a bar a variant."""
    figure, axes = _bars(study, found, "Saving against the plain rule")
    for y, variant in enumerate(found):
        if variant.saving is None:
            _tell(axes, 0.0, y, missing(variant))
            continue
        worse = variant.saving < 0
        color, hatch = (LIMIT, "///") if worse else (GREEN, "")
        axes.barh(y, variant.saving, 2 * _THICK, color=color, hatch=hatch, linewidth=0)
        _tell(axes, variant.saving, y, money(variant))
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel(_unit(study, "$"))
    return figure


def read_savings(study: StoredStudy, found: Found) -> str:
    known = {variant.name: variant.saving for variant in found if variant.saving is not None}
    least, most = (pick(known, key=lambda name: known[name]) for pick in (min, max))
    words = _unit(study, "$")
    if least == most:
        return f"Optimizing saves {known[most]:,.2f} {words} against the plain rule in {most}."
    return (
        f"Optimizing saves most against the plain rule in {most}, {known[most]:,.2f} {words}, and least in {least}, "
        f"{known[least]:,.2f}."
    )


def money(variant: VariantFigures) -> str:
    """What a variant saves, with its share of the plain rule's cost."""
    share = "" if variant.saving_percent is None else f" ({variant.saving_percent:.1f} %)"
    return f"{round(variant.saving or 0.0, 2) + 0.0:,.2f} ${share}"


def _bars(study: StoredStudy, found: Found, title: str) -> tuple[Figure, Axes]:
    """Axes with a line for each variant, the first on top; the heading says what is wrong with the optimized ones."""
    wrong = doubts_by_name(optimized(study))
    figure = headed_figure(f"{title}: {study.head.case}", wrong, 1.4 + 0.42 * len(found))
    axes = figure.subplots()
    axes.set_yticks(np.arange(len(found)), [variant.name for variant in found])
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.grid(False, axis="y")
    axes.margins(x=0.25)  # room for what is told at the ends
    return figure, axes


def _unit(study: StoredStudy, name: str) -> str:
    return unit(next(iter(optimized(study).values())).case, name)


def _tell(axes: Axes, length: float, y: float, text: str) -> None:
    """Text at the end of a bar."""
    side = 1 if length >= 0 else -1
    axes.annotate(
        text, (length, y), (3 * side, 0), textcoords="offset points", va="center", ha="left" if side > 0 else "right",
        fontsize=7,
    )  # fmt: skip


def _any_solved(found: Found) -> bool:
    return any(variant.optimized for variant in found)


def _any_saving(found: Found) -> bool:
    return any(variant.saving is not None for variant in found)


def _pair(name: str, title: str, noun: str, value: Callable[[Kpis], float], label: str) -> Bars:
    draw = partial(pairs, value=value, title=title, label=label)
    return Bars(name, title, draw, partial(read_pairs, value=value, noun=noun, label=label), _any_solved)


BARS = (
    _pair("study_cost", "Energy cost", "Energy costs", cost, "$"),
    _pair("study_losses", "Losses", "Losses", losses, "kWh"),
    Bars("study_saving", "Saving", savings, read_savings, _any_saving),
)
