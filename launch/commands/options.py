"""What commands share: their options, and how they print JSON."""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from tieflow.common.errors import CaseError
from tieflow.common.inputs.settings import parse_override
from tieflow.launch.figures.summary import json_ready


class Real(click.FloatRange):
    """A number that an option takes: neither ``nan``, which no range keeps out, nor ``1_0``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = super().convert(_plain(self, value, param, ctx), param, ctx)
        if math.isnan(found):
            self.fail(f"{value} is no number. Give one in the range {self._describe_range()}.", param, ctx)
        return found


class Whole(click.IntRange):
    """A whole number that an option takes."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(_plain(self, value, param, ctx), param, ctx)


def _plain(kind: Real | Whole, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
    if "_" in str(value):
        kind.fail(f"{value!r} is no number. Write it with digits and a point.", param, ctx)
    return value


Command = TypeVar("Command", bound=Callable[..., int])

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else on stdout.")
file_argument = click.argument("file", type=click.Path(path_type=Path))


def together(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, in their order."""

    def apply(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return apply


run_options = together(
    file_argument,
    click.option("--variant", metavar="NAME", help="Of a study's FILE: which variant."),
    click.option("--rule", is_flag=True, help="Of a study's FILE: the variant's run by the plain rule."),
)
"""a stored run: FILE and, if that is a study's, which of its runs; for ``common.results.study_store.read_run``"""

settings_options = together(
    click.option("--periods", type=Whole(), help="Length of the horizon, the middle of the day."),
    click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a setting of the case."),
)


def given_settings(periods: int | None, overrides: tuple[str, ...]) -> dict[str, object]:
    """What ``settings_options`` say."""
    settings: dict[str, object] = dict(parse_override(text) for text in overrides)
    if periods is not None and "periods" in settings:
        raise CaseError("--periods and --set periods=... contradict each other. Use one of them.")
    if periods is not None:
        settings["periods"] = periods
    return settings


def command_line() -> str:
    """The command as it was given, as a shell reads it."""
    return shlex.join(["tieflow", *sys.argv[1:]])


def run_stem(file: Path, variant: str | None, rule: bool) -> str:
    """How files that are made of a stored run are called."""
    words = [file.stem, *([] if variant is None else ["".join(c if c.isalnum() else "_" for c in variant)])]
    return "_".join([*words, *["rule"] * rule])


def print_json(value: dict[str, Any]) -> None:
    click.echo(json.dumps(json_ready(value), indent=2, allow_nan=False))
