"""Pictures over the variants of a study, each with the sentence that reads it.

They are drawn of results by name and the name of the base, the variant that others are compared with: it is black.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tieflow.common.arrays import Floats
from tieflow.common.errors import TieflowError, counted, did_you_mean
from tieflow.common.inputs.clock import clock
from tieflow.common.results.result import Result
from tieflow.common.results.study import StoredStudy
from tieflow.launch.figures.kpis import flexible_power, limited_voltages, shown_state, weather_power
from tieflow.launch.figures.study import VariantFigures, figures, optimized
from tieflow.launch.plots.day import WEATHER, charge_percent
from tieflow.launch.plots.feeder import voltage_slack
from tieflow.launch.plots.figures import write_images
from tieflow.launch.plots.study_bars import BARS
from tieflow.launch.plots.style import (
    BASE,
    BLUE,
    DPI,
    GREY,
    ORANGE,
    TIME,
    VARIANT_STYLES,
    doubts_by_name,
    edges,
    headed_figure,
    image_of,
    limit_lines,
    over_the_day,
    steps,
    style,
    unit,
)

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Results = Mapping[str, Result]
"""results by the names of their variants, in the study's order"""
Draw = Callable[[Results, str], "Figure"]
Read = Callable[[Results, str], str]

_OVERLAID = 5
"""more variants than these get a panel each, beside the first one's line"""
_LEGEND_CHARACTERS = 60


@dataclass(frozen=True)
class StudyPicture:
    """A picture over the variants of a study."""

    name: str
    title: str
    draw: Callable[[], Figure]
    read: Callable[[], str]
    """one sentence, computed from the data that is drawn"""


def study_pictures(study: StoredStudy, told: Sequence[VariantFigures]) -> list[StudyPicture]:
    """The pictures that a study, with its figures, has something to show in; none while no variant is solved."""
    results = optimized(study)
    base, place = study.head.base, study.head.monitored_bus
    if not results:
        return []

    def over_day(name: str, title: str, draw: Draw, read: Read) -> StudyPicture:
        return StudyPicture(name, title, partial(draw, results, base), partial(read, results, base))

    found = [
        StudyPicture(bars.name, bars.title, partial(bars.draw, study, told), partial(bars.read, study, told))
        for bars in BARS
        if bars.is_there(told)
    ]
    found += [
        over_day("study_substation", "Substation power", substation, read_substation),
        over_day("study_voltage", "Voltage", partial(voltage, place=place), partial(read_voltage, place=place)),
    ]
    if _having(results, "batteries"):
        found += [
            over_day("study_battery_power", "Battery power", battery_power, read_battery_power),
            over_day("study_battery_soc", "State of charge", battery_soc, read_battery_soc),
        ]
    if _having(results, "flexible_loads"):
        found.append(over_day("study_flexible_loads", "Flexible loads", flexible_loads, read_flexible_loads))
    if _having(results, *WEATHER):
        found.append(over_day("study_generation", "PV and wind generation", generation, read_generation))
    return found


def study_image(picture: StudyPicture, kind: str, dpi: int = DPI) -> bytes:
    """A picture as the content of a ``png`` or ``svg`` file. Raises TieflowError without matplotlib."""
    with style():
        figure = picture.draw()
    return image_of(figure, kind, picture.title, picture.read(), dpi)


def write_study_pictures(study: StoredStudy, folder: Path, kind: str) -> dict[str, str]:
    """Write all pictures of a study into a folder; see :func:`launch.plots.figures.write_images`."""
    shown = study_pictures(study, figures(study))
    return write_images(((picture.name, picture.read(), study_image(picture, kind)) for picture in shown), folder, kind)


def voltage(results: Results, base: str, place: str = "") -> Figure:
    """Phase-to-neutral voltage at a monitored bus or node, and its limits."""
    at = monitored(results, base, place)
    settings = [result.case.settings for result in results.values()]
    limits = sorted({limit for own in settings for limit in (own.v_min_pu, own.v_max_pu)})
    series = {name: voltage_at(name, result, at) for name, result in results.items()}
    return _curves(results, base, series, f"Voltage at {at}", "phase-to-neutral voltage, pu", limits)


def read_voltage(results: Results, base: str, place: str = "") -> str:
    at = monitored(results, base, place)
    series = {name: voltage_at(name, result, at) for name, result in results.items()}
    low, high = _least(series), _greatest(series)
    passed = sum(_passes(results[name], v) for name, v in series.items())
    kept = f"passed in {passed} of {counted(len(series), 'variant')}" if passed else "kept in all variants"
    return (
        f"The voltage at {at} is lowest in {_when(results, low)} with {series[low[0]][low[1]]:.4f} pu and highest in "
        f"{_when(results, high)} with {series[high[0]][high[1]]:.4f} pu; its limits are {kept}."
    )


def _passes(result: Result, v: Floats) -> bool:
    settings, slack = result.case.settings, voltage_slack(result)
    return bool((v < settings.v_min_pu - slack).any() or (v > settings.v_max_pu + slack).any())


def monitored(results: Results, base: str, place: str) -> str:
    """The bus or node whose voltage is shown: as named; of a bus of several phases the node where the base's voltage
    falls lowest, and without a name the lowest of all. Raises TieflowError for a name that has no limits."""
    result = results[_compared(results, base)]
    names, v = limited_voltages(result.case, shown_state(result)[0])
    chosen = [i for i, name in enumerate(names) if place in ("", name, name.rpartition(".")[0])]
    if not chosen:
        buses = list(dict.fromkeys([*names, *(name.rpartition(".")[0] for name in names)]))
        raise TieflowError(
            f"no voltage is limited at a bus or node '{place}'.{did_you_mean(place, buses)} Name another one."
        )
    return names[chosen[int(v[chosen].min(axis=1).argmin())]]


def voltage_at(name: str, result: Result, place: str) -> Floats:
    """(T,) pu, in a variant of a name. Raises TieflowError where it has no such bus or node."""
    places, v = limited_voltages(result.case, shown_state(result)[0])
    if place not in places:
        raise TieflowError(f"variant '{name}' has no '{place}'. Name a bus or node that all variants have.")
    found: Floats = v[places.index(place)]
    return found


def substation(results: Results, base: str) -> Figure:
    """Real power from the substation."""
    return _curves(results, base, _substation(results), "Substation power", unit(_first(results).case, "kW"))


def read_substation(results: Results, base: str) -> str:
    series = _substation(results)
    peaks = {name: power.max() for name, power in series.items()}
    first = _compared(results, base)
    least = min(peaks, key=lambda name: peaks[name])
    at = _greatest({first: series[first]})
    text = f"Substation power peaks at {peaks[first]:.0f} {unit(_first(results).case, 'kW')} in {_when(results, at)}"
    if len(peaks) == 1:
        return f"{text}."
    if least == first:
        return f"{text}, the lowest peak of all variants."
    return f"{text}; the lowest peak is that of {least} with {peaks[least]:.0f} kW."


def _substation(results: Results) -> dict[str, Floats]:
    return {name: shown_state(result)[0].substation_p_kw for name, result in results.items()}


def battery_power(results: Results, base: str) -> Figure:
    """Discharge less charge of all batteries of each variant."""
    label = unit(_first(results).case, "kW")
    return _curves(results, base, _battery(results), "Battery power, discharge positive", label, zero=True)


def read_battery_power(results: Results, base: str) -> str:
    series = _battery(results)
    low, high = _least(series), _greatest(series)
    return (
        f"Batteries together charge most in {_when(results, low)}, {-series[low[0]][low[1]] + 0.0:.0f} "
        f"{unit(_first(results).case, 'kW')}, and discharge most in {_when(results, high)}, "
        f"{series[high[0]][high[1]]:.0f} kW."
    )


def _battery(results: Results) -> dict[str, Floats]:
    found = {name: result.schedule.batteries for name, result in _having(results, "batteries").items()}
    return {name: (own["discharge_kw"] - own["charge_kw"]).sum(axis=0) for name, own in found.items()}


def battery_soc(results: Results, base: str) -> Figure:
    """Stored energy of all batteries of each variant together, per capacity, at the ends of periods."""
    figure = _curves(results, base, _stored(results), "State of charge of all batteries", "% of capacity")
    figure.axes[0].set_ylim(0, 105)  # which all panels share
    return figure


def read_battery_soc(results: Results, base: str) -> str:
    series = {name: np.round(stored, 1) for name, stored in _stored(results).items()}
    low, high = _least(series), _greatest(series)
    hours = edges(_first(results).case)
    return (
        f"Together batteries hold least in {low[0]} with {series[low[0]][low[1]]:.1f} % at {clock(hours[low[1]])} and "
        f"most in {high[0]} with {series[high[0]][high[1]]:.1f} % at {clock(hours[high[1]])}."
    )


def _stored(results: Results) -> dict[str, Floats]:
    return {name: charge_percent(result)[1] for name, result in _having(results, "batteries").items()}


def flexible_loads(results: Results, base: str) -> Figure:
    """What flexible loads draw, together, beside what they would draw if left alone."""
    found = _having(results, "flexible_loads")

    def fill(axes: Axes, name: str) -> None:
        actual, nominal = _flexible(found[name])
        steps(axes, found[name].case, nominal, "nominal", GREY, ":")
        steps(axes, found[name].case, actual, "scheduled", BLUE)

    return _panels(results, list(found), fill, "Flexible loads", unit(_first(results).case, "kW"))


def read_flexible_loads(results: Results, base: str) -> str:
    away = {name: np.abs(np.subtract(*_flexible(own))) for name, own in _having(results, "flexible_loads").items()}
    most = _greatest(away)
    return (
        f"Flexible loads together leave their nominal demand most in {_when(results, most)}, by "
        f"{away[most[0]][most[1]]:.0f} {unit(_first(results).case, 'kW')}."
    )


def _flexible(result: Result) -> tuple[Floats, Floats]:
    actual, nominal = flexible_power(result.case, result.schedule)
    return actual.sum(axis=0), nominal.sum(axis=0)


def generation(results: Results, base: str) -> Figure:
    """Real power of all PV systems and of all wind turbines, and what they could give where that is more."""
    found = _having(results, *WEATHER)

    def fill(axes: Axes, name: str) -> None:
        case = found[name].case
        for kind, color, line in (("pv", ORANGE, "-"), ("wind", BLUE, "--")):
            if not getattr(case, kind):
                continue
            power, available = (values.sum(axis=0) for values in weather_power(case, found[name].schedule, kind))
            if not np.allclose(power, available):
                steps(axes, case, available, f"{WEATHER[kind]} available", GREY, ":" if kind == "pv" else "-.")
            steps(axes, case, power, WEATHER[kind], color, line)

    return _panels(results, list(found), fill, "PV and wind generation", unit(_first(results).case, "kW"))


def read_generation(results: Results, base: str) -> str:
    told = []
    for kind, title in WEATHER.items():
        found = _having(results, kind)
        energy = {
            name: round(float(weather_power(own.case, own.schedule, kind)[0].sum()) * own.case.horizon.dt)
            for name, own in found.items()
        }
        if not energy:
            continue
        most, least = (pick(energy, key=lambda name: energy[name]) for pick in (max, min))
        subject, kwh = title if title.isupper() else title.lower(), unit(_first(results).case, "kWh")
        if most == least:
            where = most if len(energy) == 1 else "every variant that has it"
            told.append(f"{subject} gives {energy[most]:.0f} {kwh} in {where}")
        else:
            told.append(f"{subject} gives from {energy[least]:.0f} ({least}) to {energy[most]:.0f} {kwh} ({most})")
    text = "; ".join(told)
    return f"{text[0].upper()}{text[1:]}."


def _curves(
    results: Results,
    base: str,
    series: Mapping[str, Floats],
    title: str,
    label: str,
    limits: Sequence[float] = (),
    zero: bool = False,
) -> Figure:
    """One line a variant: together, or of many each in its own panel with the base's. ``series`` (T,)
    are constant over periods, (T + 1,) values at their ends."""
    together = len(series) <= _OVERLAID
    looks = {base: BASE, **dict(zip([name for name in results if name != base], cycle(VARIANT_STYLES), strict=False))}

    def fill(axes: Axes, name: str) -> None:
        if zero:
            axes.axhline(0, color=GREY, linewidth=0.8)
        for other in series:
            if together or other == base:
                _line(axes, results[other], series[other], other, *looks[other])
        if not together:
            label, line = ("the panel's variant", "--") if base in series else ("", "-")
            _line(axes, results[name], series[name], label, BLUE, line)
        limit_lines(axes, limits)

    names = [""] if together else [name for name in series if name != base]
    return _panels(results, names, fill, title, label)


def _line(axes: Axes, result: Result, values: Floats, label: str, color: str, line: str) -> None:
    if len(values) == len(result.case.horizon):
        steps(axes, result.case, values, label, color, line)
    else:
        axes.plot(edges(result.case), values, color=color, linestyle=line, linewidth=1.8, label=label)


def _panels(
    results: Results, names: Sequence[str], fill: Callable[[Axes, str], None], title: str, label: str
) -> Figure:
    """A panel for each name, two side by side, on the same axes; their common legend below."""
    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    case = _first(results).case
    height = 3.2 if rows == columns == 1 else 1.3 + 1.25 * rows
    figure = headed_figure(f"{title}: {case.name}", doubts_by_name(results), height)
    every = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for k, (axes, name) in enumerate(zip(every, names, strict=False)):
        fill(axes, name)
        axes.set_title(name)
        over_the_day(axes, case, 8 if columns == 1 else 4)
        is_lowest = k + columns >= len(names)
        axes.tick_params(labelbottom=is_lowest)
        axes.set_xlabel(TIME if is_lowest else "")
    for axes in every[len(names) :]:
        axes.set_axis_off()
    figure.supylabel(label, fontsize="medium")
    entries: dict[str, Artist] = {}
    for axes in every:
        handles, labels = axes.get_legend_handles_labels()
        entries = dict(zip(labels, handles, strict=True)) | entries
    if not entries:
        return figure
    longest = max(map(len, entries))
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="outside lower center",
        ncols=int(np.clip(_LEGEND_CHARACTERS // (longest + 7), 1, 4)),
    )
    return figure


def _having(results: Results, *kinds: str) -> dict[str, Result]:
    """Those that have devices of one of the kinds."""
    return {name: own for name, own in results.items() if any(getattr(own.case, kind) for kind in kinds)}


def _compared(results: Results, base: str) -> str:
    """The base, or where it was not solved the first variant that was."""
    return base if base in results else next(iter(results))


def _first(results: Results) -> Result:
    return next(iter(results.values()))


def _greatest(series: Mapping[str, Floats]) -> tuple[str, int]:
    """Variant and position of the greatest value."""
    name = max(series, key=lambda name: float(series[name].max()))
    return name, int(series[name].argmax())


def _least(series: Mapping[str, Floats]) -> tuple[str, int]:
    return _greatest({name: -values for name, values in series.items()})


def _when(results: Results, at: tuple[str, int]) -> str:
    return f"{at[0]} ({results[at[0]].case.horizon.times[at[1]]})"
