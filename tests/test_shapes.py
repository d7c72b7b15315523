"""The load shapes of a circuit: which loads follow them, and that their values are those of the engine."""

from __future__ import annotations

import numpy as np
import pytest
from small_circuits import feeder_of, text

from tieflow.common.circuit.extraction import compiled, extract_feeder, load_shapes
from tieflow.common.errors import CaseError
from tieflow.common.feeder.multiphase import FIXED, multipliers

FOLLOWER = "new load.x bus1=b.1 phases=1 kv=7.2 kw=100 kvar=50 model=1 vminpu=0.5 vmaxpu=1.5"


def test_a_load_follows_its_shape_else_the_profile_unless_it_is_fixed() -> None:
    feeder = feeder_of(
        "new loadshape.Mine npts=2 interval=12 mult=(0.5 1)",
        "new load.shaped bus1=b.1 phases=1 kv=7.2 kw=5 daily=Mine",
        "new load.plain bus1=b.1 phases=1 kv=7.2 kw=5",
        "new load.fixed bus1=b.1 phases=1 kv=7.2 kw=5 status=fixed",
        "new load.exempt bus1=b.1 phases=1 kv=7.2 kw=5 status=exempt",
        "new load.both bus1=b.1 phases=1 kv=7.2 kw=5 status=fixed daily=Mine",
        "new load.all bus1=b.1 phases=1 kv=7.2 kw=5 status=exempt daily=Mine",
        "new generator.run bus1=b.1 phases=1 kv=7.2 kw=5 daily=Mine",
        "new generator.base bus1=b.1 phases=1 kv=7.2 kw=5 daily=Mine status=fixed",
        "new load.off bus1=b.1 phases=1 kv=7.2 kw=5 enabled=no",
        "new load.open bus1=b.1 phases=1 kv=7.2 kw=5",
        "open load.open 1",
    )
    assert dict(zip(feeder.legs.name, feeder.legs.shape, strict=True)) == {
        "load.shaped": "mine",
        "load.plain": "",
        "load.fixed": FIXED,
        "load.exempt": FIXED,
        "load.both": FIXED,
        "load.all": "mine",
        "generator.run": "mine",
        "generator.base": FIXED,
    }


@pytest.mark.parametrize(("points", "interval", "dt"), [(24, 1.0, 1.0), (8, 3.0, 1.0), (48, 0.5, 1.0), (24, 1.0, 0.5)])
def test_load_shapes_are_read_as_the_daily_mode_reads_them(points: int, interval: float, dt: float) -> None:
    values = 0.3 + np.arange(points) / points
    circuit = text(
        f"new loadshape.mine npts={points} interval={interval} mult=({' '.join(map(str, values))})",
        "new load.x bus1=b.1 phases=1 kv=7.2 kw=100 kvar=0 model=1 vminpu=0.5 vmaxpu=1.5 daily=mine",
    )
    engine = compiled(circuit)
    hours = range(round(24 / dt))
    found = load_shapes(compiled(circuit), hours, dt)["mine"]
    engine.Text.Command(f"set mode=daily stepsize={dt}h number=1 hour=0 sec=0")
    drawn = []
    for _ in hours:
        engine.Solution.Solve()
        engine.Circuit.SetActiveElement("load.x")
        drawn.append(engine.CktElement.Powers()[0] / 100)
    np.testing.assert_allclose(found, drawn, rtol=1e-6)


@pytest.mark.parametrize("dt", [1.0, 0.25])
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("default", ""),
        ("timed", "new loadshape.timed npts=4 interval=0 hour=(6 12 18 24) mult=(0.4 0.8 1 0.6)"),
        ("late", "new loadshape.late npts=3 interval=0 hour=(2.2 5.3 7) mult=(0.4 0.8 1)"),
        ("early", "new loadshape.early npts=3 interval=0 hour=(0 7.25 30) mult=(0.4 0.8 1)"),
        ("one", "new loadshape.one npts=1 interval=0 hour=(3) mult=(0.4)"),
        ("alike", "new loadshape.alike npts=3 interval=1 mult=(0.4 0.8 1) qmult=(0.4 0.8 1)"),
    ],
)
def test_a_shape_of_another_kind_is_followed(name: str, shape: str, dt: float) -> None:
    engine = compiled(text(shape, f"{FOLLOWER} daily={name}"))
    legs = extract_feeder(engine, 1000.0).legs
    count = round(24 / dt)
    factor = multipliers(legs, np.ones(count), load_shapes(engine, range(count), dt))
    engine.Text.Command(f"set mode=daily stepsize={dt}h number=1 hour=0 sec=0")
    drawn = []
    for _ in range(count):
        engine.Solution.Solve()
        engine.Circuit.SetActiveElement("load.x")
        drawn.append(complex(*engine.CktElement.Powers()[:2]) / 1000)
    np.testing.assert_allclose((legs.s[:, None] * factor).sum(axis=0), drawn, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ("npts=3 interval=1 mult=(0.4 0.8 1) qmult=(0.1 0.2 0.3)", ("load.x", "qmult")),
        ("npts=3 interval=1 mult=(40 80 100) useactual=yes", ("useactual=no", "rated kW")),
        ("npts=3 interval=0 hour=(6 3 9) mult=(0.4 0.8 1)", ("rising hours", "hour=(...)")),
        ("npts=3 interval=0 mult=(0.4 0.8 1)", ("rising hours", "interval=1")),
        ("npts=24 interval=1", ("npts=24", "mult=")),
        ("npts=3 interval=1 mult=(0.4 nan 1)", ("multipliers", "-1e+09 to 1e+09", "mult=")),
        ("npts=3 interval=1 mult=(0.4 1e308 1)", ("multipliers", "-1e+09 to 1e+09", "mult=")),
        ("npts=3 interval=1e-320 mult=(0.4 0.8 1)", ("interval", "1e-06 to 1e+09")),
    ],
)
def test_a_shape_that_does_not_scale_a_load_is_refused_by_name(shape: str, words: tuple[str, ...]) -> None:
    with pytest.raises(CaseError) as error:
        feeder_of(f"new loadshape.own {shape}", f"{FOLLOWER} daily=own")
    for word in ("loadshape.own", *words):
        assert word in str(error.value)


def test_multipliers_of_a_reactive_power_of_zero_do_not_matter() -> None:
    shape = "new loadshape.own npts=3 interval=1 mult=(0.4 0.8 1) qmult=(0.1 0.2 0.3)"
    assert feeder_of(shape, f"{FOLLOWER.replace('kvar=50', 'kvar=0')} daily=own").legs.shape == ("own",)
