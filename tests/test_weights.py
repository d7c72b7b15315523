"""Weights of the objective's terms: as a table or as text, and refused by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tieflow.common.case import read_case
from tieflow.common.errors import CaseError
from tieflow.common.inputs.settings import Settings, parse_override, read_settings
from tieflow.common.inputs.weights import Terms
from tieflow.common.results.result import Result
from tieflow.common.results.store import read_result, write_result
from tieflow.launch import api

BALANCED = {"voltage_kv": 4.16, "substation_bus": "1"}
MIX = Terms(energy=0.2, losses=0.3, voltage_deviation=0.5)


@pytest.mark.parametrize(
    "text",
    [
        "weights = { energy = 0.2, losses = 0.3, voltage_deviation = 0.5 }\n",
        "[weights]\nenergy = 0.2\nlosses = 0.3\nvoltage_deviation = 0.5\n",
    ],
)
def test_a_case_gives_weights_as_a_table(tmp_path: Path, text: str) -> None:
    path = tmp_path / "case.toml"
    path.write_text('model = "multiphase"\nweights_bases = "idle"\n' + text)
    settings = read_settings(path, {})
    assert (settings.weights, settings.weights_bases) == (MIX, Terms())


@pytest.mark.parametrize(
    "text", ["energy=0.2,losses=0.3,voltage_deviation=0.5", "{energy = 0.2, losses = 0.3, voltage_deviation = 0.5}"]
)
def test_the_command_line_gives_them_as_text(text: str) -> None:
    overrides = dict([parse_override(f"weights={text}"), parse_override("weights_bases=losses = 400")])
    settings = read_case("ieee123", overrides).settings
    assert (settings.weights, settings.weights_bases) == (MIX, Terms(losses=400))


def test_python_gives_them_as_a_mapping() -> None:
    assert api.load("ieee123", weights={"energy": 1, "battery_use": 0.01}).settings.weights == Terms(
        energy=1, battery_use=0.01
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"weights": "loses=1"}, "weights: unknown term 'loses'. Did you mean 'losses'?"),
        ({"weights": {"loses": 1}}, "weights: unknown term 'loses'. Did you mean 'losses'?"),
        ({"weights": "energy"}, "weights: 'energy' is no list of terms. Write it as energy=0.2,losses=0.3."),
        ({"weights": 3}, "weights: 3 is no table of terms."),
        ({"weights": "energy=1,energy=2"}, "weights: energy appears twice."),
        ({"weights": "energy=much"}, "weights.energy: must be a valid number"),
        ({"weights": "energy=-1"}, "weights.energy: must be greater than or equal to 0"),
        ({"weights": "energy=inf"}, "weights.energy: must be a finite number"),
        ({"weights": "energy=0"}, "weights: no term counts."),
        ({"weights": "energy=1", "objective": "losses"}, "objective = losses, but weights say what to minimize."),
        ({"weights": "voltage_deviation=1"}, "weights: neither energy nor losses count."),
        ({"weights_bases": "idle"}, "weights_bases without weights."),
        ({"weights": "energy=1", "weights_bases": "peak"}, "weights_bases: unknown word 'peak'. Write idle"),
        ({"weights": "energy=1", "weights_bases": "energy=0"}, "weights_bases: energy = 0 is no base."),
    ],
)
def test_what_cannot_be_is_refused_by_name(given: dict[str, object], said: str) -> None:
    with pytest.raises(CaseError) as caught:
        read_case("ieee123", given)
    assert str(caught.value).startswith(f"--set: {said}")


def test_flat_voltages_alone_may_be_an_aim_where_nothing_is_relaxed() -> None:
    assert Settings(model="multiphase", weights=Terms(voltage_deviation=1)).weights is not None


def test_weights_and_bases_are_stored_with_the_result(tmp_path: Path, small_result: Result) -> None:
    settings = small_result.case.settings.model_copy(update={"weights": MIX, "weights_bases": Terms(energy=2.5)})
    path = tmp_path / "mix.h5"
    write_result(path, replace(small_result, case=replace(small_result.case, settings=settings)))
    assert read_result(path).case.settings == settings
