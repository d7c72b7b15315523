"""A study in words: how it goes, the table over its variants, where its devices are."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from tieflow.common.errors import counted
from tieflow.common.inputs.devices import KINDS
from tieflow.common.inputs.settings import COSTS
from tieflow.common.results.study import Placement, VariantRun
from tieflow.launch.figures.kpis import Kpis
from tieflow.launch.figures.study import RunFigures, VariantFigures
from tieflow.launch.figures.summary import doubts, in_words
from tieflow.launch.report.console import SHOWN_VIOLATIONS
from tieflow.launch.studies.variants import Resolved, Unresolved

WIDTH = 150
"""columns that the table takes where the terminal does not say"""


class Watch:
    """Tells how a study goes: a bar over the variants on a terminal, a line for each anywhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            SpinnerColumn(),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("")
        self._running: list[str] = []
        self.told: list[str] = []
        """variants whose failure has been told"""

    def begin(self, count: int, kept: Sequence[str], groups: int, size: int) -> None:
        for name in kept:
            self._say(f"{name}: stored already, inputs unchanged (--force runs it again)")
        if groups > 1:
            self._say(f"{groups} groups of {counted(size, 'rank')} side by side")
        self._bar.update(self._task, total=count)
        if count:
            self._bar.start()

    def started(self, name: str) -> None:
        self._running.append(name)
        self._show()

    def finished(self, run: VariantRun) -> None:
        if run.name in self._running:
            self._running.remove(run.name)
            self._bar.advance(self._task)
        self._show()
        if run.optimized is None:
            self.told.append(run.name)
            self._say(f"{run.name} FAILED: {run.failure}", "bold red")
            return
        cost, seconds = run.optimized.cost, run.optimized.total_s
        found = doubts(run.optimized)
        self._say(
            f"{run.name}: {cost:,.2f} $, {counted(len(run.optimized.history.cost), 'round')}, {seconds:.1f} s, "
            f"{', '.join(found) or 'confirmed by OpenDSS'}",
            "bold red" if found else "",
        )

    def end(self) -> None:
        """Take the bar away."""
        self._bar.stop()

    def _show(self) -> None:
        self._bar.update(self._task, description=", ".join(self._running))

    def _say(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style=style), soft_wrap=True)


def print_study(
    console: Console, title: str, found: Sequence[VariantFigures], base: str, told: Sequence[str] = ()
) -> None:
    """The table, and what the user should know of single variants, but for failures that have been ``told``."""
    wide = _wide(console)
    wide.print()
    if title:
        wide.print(Text(title, style="bold"))
    wide.print(study_table(found))
    if any(variant.optimized and variant.optimized.kpis.per_phase for variant in found):
        wide.print(Text("powers, energies and cost per phase"))
    for variant in found:
        for line in remarks(variant, base, variant.name in told):
            wide.print(line, soft_wrap=True)


def _wide(console: Console) -> Console:
    """Lines that a narrow terminal breaks are easier to read than columns that do."""
    return Console(file=console.file, width=max(WIDTH, console.width))


def study_table(found: Sequence[VariantFigures]) -> Table:
    """A row a variant, figures of the optimized run and beside them those by the plain rule; a dash where there is
    nothing to tell, = where the rule would give the same run. The objective is shown where it is not the cost."""
    table = Table(box=None, pad_edge=False)
    table.add_column("variant")
    has_objective = any(run and run.minimizes not in COSTS for v in found for run in (v.optimized, v.rule))
    for name in ("objective\n$", "rule\n$") if has_objective else ():
        table.add_column(name, justify="right")
    for name in (
        *("cost\n$", "rule\n$", "saving\n$", "\n%", "losses\nkWh", "rule\nkWh", "peak\nkW", "rule\nkW"),
        *("voltage\npu", "flex.\n%", "cycles"),
    ):
        # Numbers stay whole; names and verdicts may take several lines.
        table.add_column(name, justify="right", no_wrap=True, min_width=14 if name.startswith("voltage") else 0)
    table.add_column("verdict")
    for variant in found:
        cells = _cells(variant)
        table.add_row(variant.name, *(cells if has_objective else cells[2:]), _verdict(variant))
    return table


def remarks(variant: VariantFigures, base: str, is_told: bool = False) -> list[Text]:
    """What does not fit into a row: why it failed, limits overstepped, notes, and voltages that it is to blame for."""
    said = []
    if variant.failure and not is_told:
        said.append(Text(f"{variant.name} FAILED: {variant.failure}", style="bold red"))
    if variant.rule_failure:
        said.append(Text(f"{variant.name}: no run by the plain rule: {variant.rule_failure}", style="yellow"))
    for run, words in ((variant.optimized, ""), (variant.rule, " by the plain rule")):
        if run is None:
            continue
        # A saving tells little where limits are overstepped on one side only.
        if beyond := run.kpis.kpis.violations:
            said.append(Text(f"{variant.name}{words}: {counted(beyond, 'limit')} overstepped", style="yellow"))
        said += [Text(f"{variant.name}{words}: {note}", style="yellow") for note in run.notes]
    if variant.newly_outside is None:
        if variant.optimized is not None:
            said.append(Text(f"{variant.name}: base '{base}' has no run to compare voltages with", style="yellow"))
        return said
    for violation in variant.newly_outside[:SHOWN_VIOLATIONS]:
        words = f"{variant.name}: outside, where '{base}' is inside: {in_words(violation)}"
        said.append(Text(words, style="bold red"))
    more = len(variant.newly_outside) - SHOWN_VIOLATIONS
    if more > 0:
        said.append(Text(f"{variant.name}: and {more} more of these", style="bold red"))
    return said


def placement_table(placed: Sequence[tuple[str, Placement]]) -> Table:
    """What is where, by variant."""
    table = Table(box=None, pad_edge=False)
    for name in ("variant", "device", "kind", "kW", "source's bus", "bus", "phases", "note"):
        table.add_column(name, justify="right" if name == "kW" else "left", overflow="fold")
    for variant, p in placed:
        table.add_row(variant, p.device, p.kind, f"{p.rated_kw:,.6g}", p.named or "-", p.bus, p.phases or "-", p.note)
    return table


def print_placements(console: Console, placed: Sequence[tuple[str, Placement]]) -> None:
    """What is where, each device once where all variants have it alike."""
    if not placed:
        return
    having: dict[Placement, list[str]] = {}
    for variant, placement in placed:
        having.setdefault(placement, []).append(variant)
    everywhere = len({variant for variant, _ in placed})
    rows = [
        ("all with devices" if len(names) == everywhere > 1 else ", ".join(names), placement)
        for placement, names in having.items()
    ]
    wide = _wide(console)
    wide.print()
    wide.print(placement_table(rows))


def print_plan(console: Console, variants: Sequence[Resolved | Unresolved], stored: dict[str, str]) -> None:
    """What a run of the study would do."""
    for variant in variants:
        if isinstance(variant, Unresolved):
            console.print(Text(f"{variant.name}: FAILS: {variant.error}", style="bold red"), soft_wrap=True)
            continue
        case = variant.case
        known = "stored" if stored.get(variant.name) == variant.digest else "to run"
        devices = ", ".join(
            f"{len(units)} {kind.noun[len(units) != 1]}"
            for name, kind in KINDS.items()
            if (units := getattr(case, name))
        )
        console.print(
            f"{variant.name}: {case.name}, {case.horizon.extent}, {variant.options.method} in "
            f"{counted(variant.areas, 'area')}, {devices or 'no devices'}; {known}",
            soft_wrap=True,
            highlight=False,
            markup=False,
        )


def _cells(variant: VariantFigures) -> list[str]:
    own, rule = (_kpis(run) for run in (variant.optimized, variant.rule))
    same = "=" if not variant.has_devices and own is not None else "-"

    def by_rule(text: str) -> str:
        return same if rule is None else text

    def of(kpis: Kpis | None, form: str, name: str) -> str:
        value = None if kpis is None else getattr(kpis, name)
        return "-" if value is None else form.format(getattr(value, "value", value))

    shown = "-"
    if own is not None:
        shown = f"{own.lowest_voltage_pu.value:.4f}..{own.highest_voltage_pu.value:.4f}"
    goal, rule_goal = ("-" if run is None else f"{run.objective:,.2f}" for run in (variant.optimized, variant.rule))
    return [
        goal,
        by_rule(rule_goal),
        of(own, "{:,.2f}", "energy_cost"),
        by_rule(of(rule, "{:,.2f}", "energy_cost")),
        # Adding zero turns -0.0 into 0.0.
        "-" if variant.saving is None else f"{round(variant.saving, 2) + 0.0:,.2f}",
        "-" if variant.saving_percent is None else f"{round(variant.saving_percent, 2) + 0.0:.2f}",
        of(own, "{:,.1f}", "losses_kwh"),
        by_rule(of(rule, "{:,.1f}", "losses_kwh")),
        of(own, "{:,.0f}", "peak_substation_kw"),
        by_rule(of(rule, "{:,.0f}", "peak_substation_kw")),
        shown,
        of(own, "{:.2f}", "load_flexibility_percent"),
        of(own, "{:.3f}", "battery_cycles"),
    ]


def _kpis(run: RunFigures | None) -> Kpis | None:
    return None if run is None else run.kpis.kpis


def _verdict(variant: VariantFigures) -> Text:
    if variant.optimized is None:
        return Text("FAILED", style="bold red")
    return Text(variant.verdict, style="bold red" if variant.optimized.doubts else "green")
