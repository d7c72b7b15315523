"""What commands share: their options, and how they print JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from launch.report import json_ready

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else on stdout.")
file_argument = click.argument("file", type=click.Path(path_type=Path))


def print_json(value: dict[str, Any]) -> None:
    click.echo(json.dumps(json_ready(value), indent=2, allow_nan=False))
