"""``python tests/benchmarks/growth.py [--case FOLDER] [--plot FILE]``: what an iteration of ``newton`` takes and sends.

CPU time of threads, so that parts may outnumber cores: of one area alone, and the critical path of areas and of areas
cut in time, the busiest part of each exchange and the coordinator added up. FOLDER is a case to measure beside the
shipped ones, such as the one that ``ieee8500.py`` makes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib.figure import Figure

from tieflow.areas.exact_area import ExactArea
from tieflow.common.arrays import Floats
from tieflow.common.case import Case, read_case
from tieflow.common.ties.boundary import make_boundary
from tieflow.common.ties.cutting import one_area, partition
from tieflow.common.wire.messages import EXCHANGES, Command, Layout, message_size
from tieflow.common.wire.transport import InProcess, cut_time
from tieflow.coordinator.loop import Task
from tieflow.coordinator.methods import newton
from tieflow.launch.runs.partition import in_areas

STEPS = Command.REDUCE, Command.PREDICT, Command.EXPAND
PERIODS = 6, 12, 24, 48, 96


@dataclass(frozen=True)
class Measured:
    name: str
    nodes: int
    periods: int
    areas: int
    slices: int
    iterations: int
    cpu_s: float
    """critical path"""
    bytes: int
    """of one iteration's messages, all parts'"""
    objective: float

    def line(self) -> str:
        sizes = f"{self.name:20} {self.nodes:6} {self.periods:4} {self.areas:5} {self.slices:6} {self.iterations:5}"
        times = f"{self.cpu_s:8.3f} {1e3 * self.cpu_s / self.iterations:9.3f}"
        return f"{sizes} {times} {self.bytes / 1e3:9.1f} {self.objective:16.6f}"


def at(case: Case, periods: int) -> Case:
    """The case's day of 24 hours in so many periods, its profiles interpolated."""
    day = case.horizon
    hours = len(day) * np.arange(periods) / periods

    def sampled(profile: Floats) -> Floats:
        return np.interp(hours, np.arange(len(day)), profile)

    rows = {name: sampled(getattr(day, name)) for name in ("load", "pv", "wind", "price") if len(getattr(day, name))}
    shapes = {name: sampled(shape) for name, shape in day.shapes.items()}
    dt = len(day) * day.dt / periods
    horizon = replace(day, hour=tuple(range(periods)), dt=dt, shapes=shapes, **rows)
    return replace(case, horizon=horizon, settings=case.settings.model_copy(update={"dt_hours": dt}))


def measured(case: Case, areas: int, slices: int, repeats: int = 3) -> Measured:
    """The fastest of some runs."""
    parts = one_area(case, exact=True) if areas == 1 else partition(in_areas(case, areas), exact=True)
    cut = cut_time(parts.areas, areas * slices, sliced=True)
    boundary = make_boundary(parts)
    names = [area.name for area in parts.areas]
    cpu = []
    for _ in range(repeats):
        transport = InProcess(cut, [ExactArea(parts.areas[part.area], part.span) for part in cut])
        outcome = newton.solve(Task(boundary, transport, names, 1e-5, 200))
        assert outcome.converged
        cpu.append(sum(sum(round_.cpu_s) for round_ in outcome.rounds))
    layouts = [Layout.of(parts.areas[part.area], part.span) for part in cut]
    sent = sum(message_size(layouts, kind) for step in STEPS for kind in EXCHANGES[step])
    nodes = sum(len(area.feeder.node_bus) - area.feeder.roots for area in parts.areas)
    return Measured(
        case.name, nodes, len(case.horizon), areas, slices, len(outcome.rounds), min(cpu), 8 * sent, outcome.objective
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", type=Path, help="a case folder to measure beside the shipped cases")
    parser.add_argument("--plot", type=Path, help="the picture to draw")
    asked = parser.parse_args(arguments)
    print("case                  nodes    T areas slices   its    CPU s    ms/its   kB/its        objective")
    shipped = [read_case(name) for name in ("ieee13", "ieee123_unbalanced")]
    wanted = [(case, periods, areas, 1) for case in shipped for periods in PERIODS for areas in (1, 4)]
    wanted += [(shipped[1], 96, 4, 4)]
    if asked.case is not None:
        wanted += [(read_case(str(asked.case)), 24, areas, 1) for areas in (1, 4, 8, 16)]
    found = []
    for case, periods, areas, slices in wanted:
        found.append(measured(at(case, periods), areas, slices))
        print(found[-1].line(), flush=True)
    if asked.plot is not None:
        draw(found, asked.plot)


def draw(found: Sequence[Measured], path: Path) -> None:
    """Time and message bytes of an iteration over the number of periods, and time over nodes, all by areas."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    over_time, over_nodes, sent = figure.subplots(1, 3)
    whole = [m for m in found if m.slices == 1]
    for name in dict.fromkeys(m.name for m in whole):
        for areas in (1, 4):
            line = [m for m in whole if m.name == name and m.areas == areas]
            if len(line) > 1:
                label = f"{name}, {areas} area{'s' * (areas > 1)}"
                periods = [m.periods for m in line]
                over_time.loglog(periods, [1e3 * m.cpu_s / m.iterations for m in line], "o-", label=label)
                if areas > 1:
                    sent.loglog(periods, [m.bytes / 1e3 for m in line], "o-", label=label)
    for areas in sorted({m.areas for m in whole}):
        line = sorted((m for m in whole if m.areas == areas and m.periods == 24), key=lambda m: m.nodes)
        label = f"{areas} area{'s' * (areas > 1)}"
        over_nodes.loglog([m.nodes for m in line], [1e3 * m.cpu_s / m.iterations for m in line], "o-", label=label)
    for axes, x, y in (
        (over_time, "periods", "ms of CPU an iteration"),
        (over_nodes, "nodes (24 periods)", "ms of CPU an iteration"),
        (sent, "periods", "kB of messages an iteration"),
    ):
        axes.set(xlabel=x, ylabel=y)
        axes.legend(fontsize=7)
        axes.grid(alpha=0.3)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
