"""Settings of a case: every scalar of ``case.toml``, each changeable by ``--set key=value``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tieflow.common.errors import CaseError, did_you_mean, shown
from tieflow.common.inputs.numbers import (
    DIGITS,
    BaseKva,
    Efficiency,
    Hours,
    Kilovolts,
    NotNegative,
    Number,
    Percent,
    Periods,
    Positive,
    Ratio,
    Share,
    VoltagePu,
)
from tieflow.common.inputs.tables import explain
from tieflow.common.inputs.toml import read_toml
from tieflow.common.inputs.weights import Bases, Weights, check_weights

CapacitorModel = Literal["constant_impedance", "constant_power"]
Model = Literal["balanced", "multiphase", "lindist3"]
"""``lindist3``: only in results of earlier versions"""
MODELS = ("balanced", "multiphase")
"""models that a case may have"""
Objective = Literal["cost", "losses", "voltage_deviation", "peak"]
COSTS = ("cost", "peak")
"""objectives that are the energy cost"""

BALANCED_ONLY = {
    *("voltage_kv", "substation_bus", "substation_v_pu", "switch_ohm", "capacitor_model"),
    *("pv_percent", "battery_percent", "der_fraction", "pv_inverter_ratio", "battery_inverter_ratio", "battery_hours"),
    *("eta_charge", "eta_discharge", "soc_min", "soc_max", "soc_initial"),
}
"""settings that a multi-phase case takes from its circuit and tables"""


class Settings(BaseModel):
    """The scalars of a case. Powers are per phase of a balanced feeder; names end in their unit."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    title: str = ""
    model: Model = "balanced"
    """``balanced``: branch flow of buses.csv and branches.csv; ``multiphase``: every phase of circuit.dss, exactly."""
    method: Annotated[str, Field(min_length=1)] | None = None
    """How the areas agree, unless a command says otherwise; not given: ``admm`` in a balanced case, ``newton`` in a
    multi-phase one. Whether there is such a method is known to ``coordinator.methods``."""
    voltage_kv: Kilovolts = 1.0
    """Nominal line-to-line voltage of a balanced case."""
    base_kva: BaseKva = 1000.0
    """Per-phase power base of all per-unit quantities."""
    substation_bus: str = ""
    substation_v_pu: VoltagePu = 1.0
    v_min_pu: VoltagePu = 0.95
    v_max_pu: VoltagePu = 1.05
    voltage_slack_price: Positive = 1e3
    """$ per per-unit voltage (as its logarithm), node and hour that a limit is overstepped by; multi-phase cases only.
    Where devices can keep a limit at less, they do."""
    overload_price_per_kvah: Positive = 10.0
    """$ per kVA and hour that a branch limit is overstepped by; multi-phase cases only. Where devices can keep a limit
    at less, they do."""
    switch_ohm: NotNegative = 2e-4
    """Branches of no more impedance are switches: their losses are neglected."""
    capacitor_model: CapacitorModel = "constant_impedance"
    """A capacitor gives its rated kvar times the squared voltage, or, ``constant_power``, its rated kvar at any."""

    periods: Periods = 24
    """Horizon: the middle rows of profiles.csv."""
    dt_hours: Hours = 1.0
    price_high_per_kwh: Number | None = None
    price_low_per_kwh: Number | None = None
    """$ per kWh of substation energy, instead of a price column; negative where taking energy is paid for."""
    price_high_share: Share = 0.4
    """Share of the horizon, the hours of highest load, that pays the high price."""
    export_price_per_kwh: Number | None = None
    """$ per kWh that energy earns which flows back out of the feeder at the substation; not given: the price of its
    period. It may not be above that price in any period."""

    objective: Objective = "cost"
    scd_weight: NotNegative = 1e-3
    """Weight of simultaneous charging and discharging, $ per per-unit power."""
    voltage_deviation_weight: NotNegative = 1.0
    """$ per (per-unit squared voltage)^2, bus and period; counts with objective = voltage_deviation."""
    weights: Weights = None
    """Of the objective's terms, by name; instead of ``objective``. Without bases $ per unit of each."""
    weights_bases: Bases = None
    """What each term is divided by; ``idle``, or what is left out of them: the term's value with idle devices."""
    substation_peak_kw: Positive | None = None
    """Cap on substation power in every hour, whatever the objective."""
    substation_export_kw: NotNegative | None = None
    """The most real power that flows back out of the feeder at the substation in any period; 0: none; not given: any
    power."""

    pv_percent: Percent = 0.0
    battery_percent: Percent = 0.0
    """Share of the load buses that get a PV system / a battery, evenly along buses.csv."""
    der_fraction: NotNegative = 0.33
    """Rated PV and battery power as a fraction of the rated load at the bus."""
    pv_inverter_ratio: Ratio = 1.2
    battery_inverter_ratio: Ratio = 1.2
    """Inverter kVA per rated kW."""
    battery_hours: Positive = 4.0
    """Energy capacity per rated power."""
    temperature_coefficient: Annotated[float, DIGITS, Field(ge=-0.05, le=0.05)] = -0.004
    """Change of PV power per K of cell temperature above 25 deg C, over that at 25; with the column cell_c."""
    wind_cut_in_mps: NotNegative = 3.0
    wind_rated_mps: Positive = 12.0
    wind_cut_out_mps: Positive = 25.0
    """Wind speeds, m/s, between which turbines turn, and from which they give rated power; with the column wind_mps."""
    eta_charge: Efficiency = 0.95
    eta_discharge: Efficiency = 0.95
    soc_min: Share = 0.30
    soc_max: Share = 0.95
    soc_initial: Share | None = None
    """Stored energy at the start and the end of the horizon; the middle of the SOC range when not given."""

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if self.is_balanced and not {"voltage_kv", "substation_bus"} <= self.model_fields_set:
            missing = "substation_bus" if "voltage_kv" in self.model_fields_set else "voltage_kv"
            raise ValueError(f"{missing}: missing. A balanced case needs it.")
        if self.v_min_pu > self.v_max_pu:
            raise ValueError(f"v_min_pu = {self.v_min_pu} is above v_max_pu = {self.v_max_pu}. Swap or widen them.")
        if self.soc_min >= self.soc_max:
            raise ValueError(f"soc_min = {self.soc_min} is not below soc_max = {self.soc_max}. Lower soc_min.")
        if self.soc_initial is not None and not self.soc_min <= self.soc_initial <= self.soc_max:
            raise ValueError(
                f"soc_initial = {self.soc_initial} is outside soc_min..soc_max = {self.soc_min}..{self.soc_max}."
            )
        if not self.wind_cut_in_mps < self.wind_rated_mps <= self.wind_cut_out_mps:
            raise ValueError(
                f"wind speeds contradict: wind_cut_in_mps = {self.wind_cut_in_mps}, wind_rated_mps = "
                f"{self.wind_rated_mps}, wind_cut_out_mps = {self.wind_cut_out_mps} must be in rising order."
            )
        if abs(24 / self.dt_hours - round(24 / self.dt_hours)) > 1e-9 or self.dt_hours > 24:
            raise ValueError(f"dt_hours = {self.dt_hours} does not divide a day. Use 1, 0.5, 0.25 or the like.")
        if self.objective == "peak" and self.substation_peak_kw is None:
            raise ValueError("objective = peak needs the cap. Set substation_peak_kw.")
        check_weights(self.weights, self.weights_bases, self.objective, self.is_balanced)
        return self

    @property
    def is_balanced(self) -> bool:
        return self.model == "balanced"

    @property
    def hard_limits(self) -> bool:
        """Whether limits of voltages and branches are kept at any price: a multi-phase feeder's have a price, since
        no device may be able to keep them."""
        return self.is_balanced

    @property
    def default_method(self) -> str:
        """The method that solves the case where nobody asks for another."""
        if self.method is not None:
            return self.method
        return "admm" if self.is_balanced else "newton"


def read_settings(path: Path, overrides: Mapping[str, object], set_by: str = "--set") -> Settings:
    """Read ``case.toml`` and put the overrides over it. Raises CaseError naming the key, and its file or
    ``set_by``."""
    _, values = read_toml(path)
    check_names(values, str(path))
    check_names(overrides, set_by)
    given = values | dict(overrides)
    _check_model(given.get("model", "balanced"), set_by if "model" in overrides else str(path))
    ignored = sorted(BALANCED_ONLY & set(given)) if given.get("model") == "multiphase" else []
    if ignored:
        raise CaseError(
            f"{set_by if ignored[0] in overrides else path}: {ignored[0]} has no meaning in a multi-phase case, whose "
            "feeder is circuit.dss and whose devices are in pv.csv and batteries.csv. Remove it."
        )
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        reason = explain(error)
        changed = any(re.search(rf"\b{key}\b", reason) for key in overrides)
        raise CaseError(f"{set_by if changed else path}: {reason}") from None


def _check_model(model: object, where: str) -> None:
    """The data class knows one more, for results that are stored with it."""
    if model in MODELS:
        return
    retired = " The linear model is retired: set model = multiphase, the exact one." if model == "lindist3" else ""
    raise CaseError(f"{where}: model: must be 'balanced' or 'multiphase' (got {shown(model)}).{retired}")


def parse_override(text: str) -> tuple[str, str]:
    """Split ``key=value``. Raises CaseError when there is no '='."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip() or not value.strip():
        raise CaseError(f"--set {text}: write it as key=value, for example --set v_min_pu=0.97.")
    check_names([key.strip()], "--set")
    return key.strip(), value.strip()


def check_names(names: Mapping[str, object] | list[str], source: str) -> None:
    for name in names:
        if name not in Settings.model_fields:
            raise CaseError(f"{source}: unknown setting '{name}'.{did_you_mean(name, Settings.model_fields)}")
