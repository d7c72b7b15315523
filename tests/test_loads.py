"""What becomes of the loads of a circuit: their legs, between which nodes, and their rated values."""

from __future__ import annotations

import numpy as np
import pytest
from small_circuits import feeder_of

from tieflow.common.errors import CaseError
from tieflow.common.feeder.multiphase import FIXED, Legs, MultiphaseFeeder


def pairs(feeder: MultiphaseFeeder, legs: Legs) -> list[tuple[str, str]]:
    """The names of the nodes that each leg is connected between."""
    names = (*feeder.node_names, "ground")
    return [(names[a], names[b]) for a, b in zip(legs.a, legs.b, strict=True)]


def test_a_split_phase_secondary_has_two_legs_to_ground_and_one_across() -> None:
    feeder = feeder_of(
        "new transformer.t phases=1 windings=3 buses=(b.2 s.1.0 s.0.2) kvs=(7.2 0.12 0.12) kvas=(50 50 50)",
        "new line.triplex bus1=s.1.2 bus2=t.1.2 phases=2 length=1 rmatrix=[0.01|0.002 0.01] xmatrix=[0.01|0.002 0.01] "
        "cmatrix=[0|0 0]",
        "new load.one bus1=t.1 phases=1 kv=0.12 kw=3 kvar=1",
        "new load.two bus1=t.2 phases=1 kv=0.12 kw=2 kvar=1",
        "new load.both bus1=t.1.2 phases=1 kv=0.24 kw=4 kvar=1",
        "setkvbase bus=s kvln=0.12",
        "setkvbase bus=t kvln=0.12",
    )
    legs = feeder.legs
    assert legs.name == ("load.one", "load.two", "load.both")
    assert pairs(feeder, legs) == [("t.1", "ground"), ("t.2", "ground"), ("t.1", "t.2")]
    np.testing.assert_allclose(legs.v_rated, np.array([0.12, 0.12, 0.24]) / (0.208 / np.sqrt(3)), rtol=1e-9)
    first, second = feeder.v_no_load[feeder.nodes_of("t")]
    assert first == pytest.approx(-second, rel=1e-4)


def test_three_phase_loads_are_shared_out_among_their_legs() -> None:
    feeder = feeder_of(
        "new load.star bus1=b phases=3 kv=12.47 kw=300 kvar=90",
        "new load.ring bus1=b phases=3 conn=delta kv=12.47 kw=6",
    )
    names = [f"b.{phase}" for phase in (1, 2, 3)]
    expected = [(name, "ground") for name in names] + list(zip(names, [*names[1:], names[0]], strict=True))
    assert pairs(feeder, feeder.legs) == expected
    np.testing.assert_allclose(feeder.legs.s[:3], 0.1 + 0.03j)
    np.testing.assert_allclose(feeder.legs.v_rated, 3 * [1.0] + 3 * [np.sqrt(3)], rtol=1e-9)


def test_a_generator_is_a_load_with_the_other_sign_that_no_profile_scales() -> None:
    feeder = feeder_of("new generator.g bus1=b.1 phases=1 kv=7.2 kw=50 kvar=20 model=1")
    assert feeder.legs.name == ("generator.g",)
    assert feeder.legs.s[0] == pytest.approx(-0.05 - 0.02j)
    assert feeder.legs.shape == (FIXED,)


@pytest.mark.parametrize("value", ["1e308", "nan", "inf", "-1e10"])
@pytest.mark.parametrize("what", ["kw", "kvar"])
def test_a_power_that_no_load_or_generator_has_is_refused_by_name(what: str, value: str) -> None:
    power = {"kw": "100", "kvar": "30"} | {what: value}
    for kind in ("load", "generator"):
        given = " ".join(f"{key}={number}" for key, number in power.items())
        with pytest.raises(
            CaseError, match=rf"{kind}\.u: {what} must be -1e\+09 to 1e\+09 \(got .*\)\. Check its unit"
        ):
            feeder_of(f"new {kind}.U bus1=b phases=3 kv=12.47 {given}")
