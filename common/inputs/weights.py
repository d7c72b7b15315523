"""Weights of the objective's terms as the user gives them; ``common.inputs.objective`` says what the terms are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from tieflow.common.errors import did_you_mean, shown
from tieflow.common.inputs.numbers import DIGITS, MOST

IDLE = "idle"
"""the word for bases that are all computed"""


LEAST_BASE, MOST_BASE = 1e-9, 1e30
Weight = Annotated[float, DIGITS, Field(ge=0)]
"""a base may be any sum over a feeder and a day; ``check_weights`` has the range of what users give"""


class Terms(BaseModel):
    """A number for each term of the objective that has one."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    energy: Weight | None = None
    battery_use: Weight | None = None
    flexibility: Weight | None = None
    voltage_deviation: Weight | None = None
    losses: Weight | None = None

    def given(self) -> dict[str, float]:
        """The numbers that are not zero, by term."""
        return {name: value for name, value in self if value}


def _read(value: object) -> object:
    """A table, or the same as text: ``energy=0.2, losses=0.3``. Raises ValueError for other things and names."""
    if value is None or isinstance(value, Terms):
        return value
    if isinstance(value, str):
        pairs = [pair.partition("=") for pair in value.strip("{} ").split(",")]
        if not all(equals for _, equals, _ in pairs):
            raise ValueError(f"'{value}' is no list of terms. Write it as energy=0.2,losses=0.3.")
        names = [name.strip() for name, _, _ in pairs]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"{twice[0]} appears twice. Keep one of them.")
        value = {name: number.strip() for name, (_, _, number) in zip(names, pairs, strict=True)}
    if not isinstance(value, Mapping):
        raise ValueError(f"{shown(value)} is no table of terms. Write it as {{ energy = 0.2, losses = 0.3 }}.")
    for name in value:
        if name not in Terms.model_fields:
            raise ValueError(f"unknown term '{name}'.{did_you_mean(str(name), Terms.model_fields)}")
    return dict(value)


def _read_bases(value: object) -> object:
    """As ``_read``, or the word ``idle``."""
    if isinstance(value, str) and "=" not in value:
        if value.strip() != IDLE:
            raise ValueError(f"unknown word '{value}'. Write {IDLE}, or a base for terms, as in losses=400.")
        return Terms()
    return _read(value)


Weights = Annotated[Terms | None, BeforeValidator(_read)]
Bases = Annotated[Terms | None, BeforeValidator(_read_bases)]


def check_weights(weights: Terms | None, bases: Terms | None, objective: str, is_balanced: bool) -> None:
    """Raises ValueError for weights that contradict themselves or the rest of the settings."""
    if weights is None:
        if bases is not None:
            raise ValueError("weights_bases without weights. Add weights, or remove weights_bases.")
        return
    given = weights.given()
    if not given:
        raise ValueError("weights: no term counts. Give one a weight above zero, for example energy = 1.")
    large = [name for name, weight in given.items() if weight > MOST]
    if large:
        raise ValueError(f"weights: {large[0]} = {given[large[0]]:g} is above {MOST:g}. Lower all weights alike.")
    if objective in ("losses", "voltage_deviation"):
        raise ValueError(f"objective = {objective}, but weights say what to minimize. Remove one of the two.")
    if is_balanced and not given.keys() & {"energy", "losses"}:
        raise ValueError(
            "weights: neither energy nor losses count. Losses must cost something for the relaxation of the balanced "
            "model to be tight: give one of the two a weight."
        )
    if bases is not None:
        for name, base in bases:
            if base is not None and not LEAST_BASE <= base <= MOST_BASE:
                raise ValueError(
                    f"weights_bases: {name} = {base:g} is no base. Give one of {LEAST_BASE:g} to {MOST_BASE:g}, "
                    "or leave it out."
                )
