"""The command run in this process, and what it left."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Ended:
    """A command that has come to its end."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one object on stdout."""
        return json.loads(self.out)


Tieflow = Callable[..., Ended]


def without_times(figures: dict[str, Any]) -> dict[str, Any]:
    solved = {key: value for key, value in figures["solved"].items() if key not in ("date", "command")}
    return {key: value for key, value in figures.items() if key not in ("time", "ranks", "output")} | {"solved": solved}
