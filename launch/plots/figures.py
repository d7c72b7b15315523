"""All pictures of a run, each with the sentence that reads it, which also stands for it where it cannot be seen."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tieflow.common.errors import TieflowError, did_you_mean, way_out
from tieflow.common.results.result import Result
from tieflow.launch.plots import day as day_plots
from tieflow.launch.plots import feeder as feeder_plots
from tieflow.launch.plots.style import DPI, image_of, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "svg")


@dataclass(frozen=True)
class Picture:
    """A kind of picture."""

    name: str
    """also that of its file"""
    title: str
    draw: Callable[[Result], Figure]
    read: Callable[[Result], str]
    """one sentence, computed from the data that is drawn"""
    is_there: Callable[[Result], bool] = lambda _: True
    """whether a run has anything to show in it"""


def _has(result: Result, kind: str) -> bool:
    return bool(getattr(result.case, kind))


PICTURES = (
    Picture("substation", "Substation power", day_plots.substation, day_plots.read_substation),
    Picture("batteries", "Batteries", day_plots.batteries, day_plots.read_batteries, lambda r: bool(r.case.batteries)),
    *(
        Picture(
            kind,
            title,
            partial(day_plots.weather, kind=kind),
            partial(day_plots.read_weather, kind=kind),
            partial(_has, kind=kind),
        )
        for kind, title in day_plots.WEATHER.items()
    ),
    Picture(
        "flexible_loads",
        "Flexible loads",
        day_plots.flexible_loads,
        day_plots.read_flexible_loads,
        partial(_has, kind="flexible_loads"),
    ),
    Picture("voltage_profile", "Voltage along the feeder", feeder_plots.profile, feeder_plots.read_profile),
    Picture("voltage_heat_map", "Voltage by place and time", feeder_plots.heat_map, feeder_plots.read_heat_map),
    Picture("voltage_map", "Voltage on the map", feeder_plots.voltage_map, feeder_plots.read_voltage_map),
    Picture(
        "price_map",
        "Locational marginal price on the map",
        feeder_plots.price_map,
        feeder_plots.read_price_map,
        lambda r: r.state.nodal_price is not None,
    ),
    Picture("area_map", "Areas", feeder_plots.area_map, feeder_plots.read_area_map),
    Picture(
        "convergence",
        "Convergence",
        day_plots.convergence,
        day_plots.read_convergence,
        lambda r: bool(day_plots.residuals(r)),
    ),
)


OVERVIEWS = (
    Picture("schedule", "Schedule", day_plots.schedule, day_plots.read_substation),
    Picture("voltages", "Voltages", day_plots.voltages, feeder_plots.read_profile),
)
"""that scripts and notebooks ask for; of what they show, ``PICTURES`` have more"""
KNOWN = {picture.name: picture for picture in (*OVERVIEWS, *PICTURES)}


def figure_of(result: Result, name: str) -> Figure:
    """The picture of that name, of ``KNOWN``, to be changed or saved. Raises TieflowError for another name, a run that
    has nothing to show in it, or without matplotlib."""
    picture = KNOWN.get(name)
    if picture is None:
        raise TieflowError(f"plot '{name}' is unknown.{did_you_mean(name, KNOWN)}")
    if not picture.is_there(result):
        raise TieflowError(f"plot '{name}': this run has nothing to show in it.")
    with style():
        return picture.draw(result)


def pictures(result: Result) -> list[Picture]:
    """Those that the run has something to show in."""
    return [picture for picture in PICTURES if picture.is_there(result)]


def image(picture: Picture, result: Result, kind: str, dpi: int = DPI) -> bytes:
    """A picture as the content of a ``png`` or ``svg`` file. Raises TieflowError without matplotlib."""
    with style():
        figure = picture.draw(result)
    return image_of(figure, kind, picture.title, picture.read(result), dpi)


def write_pictures(result: Result, folder: Path, kind: str) -> dict[str, str]:
    """Write all pictures of a run into a folder; see :func:`write_images`."""
    drawn = ((picture.name, picture.read(result), image(picture, result, kind)) for picture in pictures(result))
    return write_images(drawn, folder, kind)


def write_images(drawn: Iterable[tuple[str, str, bytes]], folder: Path, kind: str) -> dict[str, str]:
    """Write pictures, each its name, reading and content, into a folder, which is made or must be empty; the readings
    by file name.

    Raises TieflowError when matplotlib is missing or the folder cannot be written; then it is as it was before.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise TieflowError(f"{folder}: exists and is not an empty folder. Name a new one with --out.")
        beside = Path(tempfile.mkdtemp(prefix=".tieflow-", dir=folder.resolve().parent))
        try:
            readings = {}
            for name, reading, content in drawn:
                path = beside / f"{name}.{kind}"
                path.write_bytes(content)
                readings[path.name] = reading
            beside.chmod(0o755)
            beside.replace(folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        raise TieflowError(f"{folder}: cannot be written ({error.strerror}). {way_out(error, 'folder')}") from error
    return readings
