"""The IEEE 8500-node feeder with a real mpirun: imported, cut, agreed on, and confirmed by OpenDSS."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from mpi_runs import mpirun, run

DEVICES = Path(__file__).parents[1] / "benchmarks" / "ieee8500.py"
"""imports the feeder and places its devices"""
LONGEST_S = 300.0
"""of a run, on a machine that does much else"""


def test_areas_of_the_8500_node_feeder_find_the_optimum_of_one(tmp_path: Path) -> None:
    master = os.environ.get("TIEFLOW_IEEE8500", "")
    if not master:
        pytest.skip("TIEFLOW_IEEE8500 does not name the Master-unbal.dss of the IEEE 8500-node feeder")
    made = run([sys.executable, str(DEVICES), master, "my_8500"], tmp_path, timeout_s=LONGEST_S)
    assert made.code == 0, made.text
    # The day begins in the afternoon: PV gives much, and energy becomes dear.
    profiles = tmp_path / "my_8500" / "profiles.csv"
    header, *hours = profiles.read_text().splitlines()
    values = [row.partition(",")[2] for row in hours[14:] + hours[:14]]
    profiles.write_text("\n".join([header, *(f"{hour},{row}" for hour, row in enumerate(values))]) + "\n")
    asked = ["my_8500", "--periods", "4", "--method", "newton", "--json"]
    found = []
    for ranks, areas in ((1, 1), (5, 4)):
        command = ["tieflow", "solve", *asked, "--areas", str(areas), "--output", f"in_{areas}.h5"]
        ended = run(mpirun(ranks, *command) if ranks > 1 else command, tmp_path, timeout_s=LONGEST_S)
        assert ended.code == 0, ended.text
        found.append(ended.json())
    one, four = found
    assert (four["areas"], four["ranks"]) == (4, 5)
    assert four["objective"] == pytest.approx(one["objective"], rel=1e-8)
    for printed in found:
        assert printed["converged"] and printed["optimality"] <= 1e-8
        assert printed["checker"]["passed"] and not printed["checker"]["violations"]
