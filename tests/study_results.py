"""A small study with its results, solved once for all tests that show one."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from tieflow.common.case import read_case
from tieflow.common.inputs.devices import PV, Battery, FlexibleLoad, Wind
from tieflow.common.results.result import History, Result
from tieflow.common.results.study import Placement, StoredStudy, StudyHead, VariantRun
from tieflow.launch.runs.solve import Options, solve


@cache
def solved_study() -> StoredStudy:
    """Four hours of the IEEE 13 bus feeder: without devices, with all kinds of them, and a variant that failed."""
    bare = replace(read_case("ieee13", {"periods": 4}), pv=(), batteries=())
    full = replace(
        bare,
        horizon=replace(bare.horizon, wind=np.array([0.5, 0.9, 0.3, 0.2])),
        pv=(PV(bus="671", p_rated_kw=300, s_rated_kva=360),),
        batteries=(Battery(bus="675", p_rated_kw=100, s_rated_kva=120, energy_kwh=300),),
        flexible_loads=(FlexibleLoad(bus="634", p_kw=60, q_kvar=20, down=0.4, up=0.2),),
        wind=(Wind(bus="633", p_rated_kw=80, s_rated_kva=100, curtailable=True),),
    )
    base, best = (solve(case, Options("centralized")) for case in (bare, full))
    placed = (Placement("roof", "pv", 300, "70", "671", "1.2.3", "the feeder has no bus 70 <sic>"),)
    runs = (
        VariantRun("base", "a", 0, "", "", (), base, None),
        VariantRun("full", "b", 0, "", "", placed, best, dearer(best)),
        VariantRun("too much", "c", 3, "area '1' <cannot> keep its limits.", "", placed, None, dearer(best)),
    )
    head = StudyHead("der", "DER & demand", "ieee13", "base", "675", ("base", "full", "too much"), "")
    return StoredStudy(head, {run.name: run for run in runs})


def dearer(result: Result) -> Result:
    """The result as if the substation had given 10 % more in OpenDSS, and twice as much had been lost."""
    assert result.check is not None
    state = result.check.state
    worse = replace(state, substation_p_kw=1.1 * state.substation_p_kw, losses_kw=2 * state.losses_kw)
    none = np.zeros(0)
    no_rounds = History((), none, none, none, none, none, none, np.zeros((0, 1)), np.zeros((0, 1)))
    return replace(result, history=no_rounds, check=replace(result.check, state=worse))
