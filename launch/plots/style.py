"""How pictures look: one font, one size, colours that colour-blind readers tell apart. Loads matplotlib when asked."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from tieflow.common.arrays import Floats
from tieflow.common.case import Case
from tieflow.common.errors import TieflowError
from tieflow.common.inputs.clock import clock
from tieflow.common.results.result import Result
from tieflow.launch.figures.summary import doubts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers tell apart; LIMIT is the one for what must not be passed.
BLUE, ORANGE, GREEN, LIMIT = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PALETTE = (BLUE, ORANGE, GREEN, "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
STYLES = ((BLUE, "-"), (ORANGE, "--"), (GREEN, "-."))
GREY = "#6E6E6E"
BASE = ("black", "-")
# Five colours by four kinds of line: twenty pairs, neighbours differing in both.
VARIANT_STYLES = tuple((PALETTE[k % 5], ("--", "-.", ":", "-")[k % 4]) for k in range(20))
"""of the variants of a study after its first, which is drawn as BASE"""
COLOUR_MAP = "cividis"
WIDTH_IN = 5.0
"""as wide as a page's text, and not too wide for a phone to show it legibly"""
DPI = 300
_HEADING_CHARACTERS = 66
TIME = "time of day"
_APART_H = (0.25, 0.5, 1, 2, 3, 4, 6, 12, 24)
"""what marks of the time may be apart by"""
_RC = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: looks the same everywhere
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "figure.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "svg.hashsalt": "tieflow",  # the same picture gives the same bytes
}


def library(name: str, wanted: str) -> Any:
    """An optional library. Raises TieflowError that names what pip should install."""
    try:
        return import_module(name)
    except ImportError as error:
        raise TieflowError(f"{name.partition('.')[0]} cannot be loaded ({error}). Run: pip install {wanted}") from error


@contextmanager
def style() -> Iterator[None]:
    """In this context figures are made, and saved, in the pictures' style."""
    matplotlib = library("matplotlib", "'tieflow[plot]'")
    with matplotlib.rc_context(_RC):
        yield


def new_figure(result: Result, title: str, height_in: float) -> Figure:
    """An empty figure whose heading says what is wrong with the run."""
    return headed_figure(f"{title}: {result.case.name}, {result.method}", doubts(result), height_in)


def headed_figure(heading: str, wrong: Sequence[str], height_in: float) -> Figure:
    """An empty figure whose heading goes on with what is wrong, a line each."""
    figure: Figure = library("matplotlib.figure", "'tieflow[plot]'").Figure((WIDTH_IN, height_in), layout="constrained")
    figure.suptitle(
        "\n".join([heading, *wrong]),
        color=LIMIT if wrong else "black",
        fontweight="bold" if wrong else "normal",
    )
    return figure


def doubts_by_name(results: Mapping[str, Result]) -> list[str]:
    """What is wrong with which of several runs, in lines short enough for a heading."""
    found: dict[str, list[str]] = {}
    for name, result in results.items():
        for doubt in doubts(result):
            found.setdefault(doubt, []).append(name)
    told = [f"{doubt}: {', '.join(names)}" for doubt, names in found.items()]
    return [line for text in told for line in wrap(text, _HEADING_CHARACTERS)]


def image_of(figure: Figure, kind: str, title: str, description: str, dpi: int = DPI) -> bytes:
    """The figure as a file, ``png`` or ``svg``, which also says in words what it shows."""
    stream = io.BytesIO()
    words = {"Title": title, "Description": description}
    with style():
        # Without a date, so that the same picture gives the same bytes.
        figure.savefig(stream, format=kind, dpi=dpi, metadata=words | ({"Date": None} if kind == "svg" else {}))
    return stream.getvalue()


def edges(case: Case) -> Floats:
    """(T + 1,) hours of the day at which periods begin and end."""
    return case.horizon.edges


def steps(axes: Axes, case: Case, values: Floats, label: str, color: str, line: str = "-") -> None:
    """A line that is constant over each period; ``values`` is (T,)."""
    axes.stairs(values, edges(case), baseline=None, color=color, linestyle=line, linewidth=1.8, label=label)


def bars(axes: Axes, case: Case, values: Floats, label: str, color: str) -> None:
    """An area between zero and ``values``, (T,)."""
    axes.stairs(values, edges(case), fill=True, color=color, alpha=0.75, label=label)


def over_the_day(axes: Axes, case: Case, most: int = 8) -> None:
    """Name the axis of time, and divide it into ``most`` parts at most."""
    hours, dt = edges(case), case.horizon.dt
    axes.set_xlabel(TIME)
    axes.set_xlim(hours[0], hours[-1])
    span = hours[-1] - hours[0]
    apart = next(width for width in _APART_H if width >= min(dt, 1) and (span / width <= most or width == 24))
    at = np.arange(np.ceil(hours[0] / apart) * apart, hours[-1] + 1e-9, apart)
    axes.set_xticks(at, [clock(hour) for hour in at])


def limit_lines(axes: Axes, limits: Sequence[float], label: str = "limits") -> None:
    """Horizontal lines at what must not be passed; one entry in the legend."""
    for i, limit in enumerate(limits):
        axes.axhline(limit, color=LIMIT, linestyle="--", linewidth=1.2, label=label if i == 0 else None)


def legend_below(figure: Figure, axes: Axes, columns: int = 4) -> None:
    """The legend of the axes under the whole figure, where it hides nothing."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def unit(case: Case, name: str) -> str:
    """A unit of power or energy, as the case counts it."""
    return f"{name} per phase" if case.is_balanced else name
