"""Weights of the objective's terms as the user gives them; ``common.inputs.objective`` says what the terms are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from tieflow.common.errors import did_you_mean

IDLE = "idle"
"""the word for bases that are all computed"""


class Terms(BaseModel):
    """A number for each term of the objective that has one."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    energy: Annotated[float, Field(ge=0)] | None = None
    battery_use: Annotated[float, Field(ge=0)] | None = None
    flexibility: Annotated[float, Field(ge=0)] | None = None
    voltage_deviation: Annotated[float, Field(ge=0)] | None = None
    losses: Annotated[float, Field(ge=0)] | None = None

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
        raise ValueError(f"{value!r} is no table of terms. Write it as {{ energy = 0.2, losses = 0.3 }}.")
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
    if objective in ("losses", "voltage_deviation"):
        raise ValueError(f"objective = {objective}, but weights say what to minimize. Remove one of the two.")
    if is_balanced and not given.keys() & {"energy", "losses"}:
        raise ValueError(
            "weights: neither energy nor losses count. Losses must cost something for the relaxation of the balanced "
            "model to be tight: give one of the two a weight."
        )
    if bases is not None:
        nothing = [name for name, value in bases if value == 0]
        if nothing:
            raise ValueError(f"weights_bases: {nothing[0]} = 0 is no base. Give one above zero, or leave it out.")
