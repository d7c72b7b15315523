"""``python tests/benchmarks/ieee8500.py MASTER FOLDER``: the IEEE 8500-node feeder with 100 PV and 30 batteries.

MASTER is the Master-unbal.dss that OpenDSS is circulated with. Devices stand at customers drawn at random, between the
two legs of their 240 V. Regulators and capacitors are where 60 % load leaves them; the day peaks at 70 %. As nothing
regulates during the day, the night is above 1.05 pu whatever the devices do: the upper limit is 1.10 pu here.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

from tieflow.launch.commands.import_feeder import import_feeder

COMMANDS = ("set loadmult=0.6",)
PV_SYSTEMS, BATTERIES, SEED = 100, 30, 1
PEAK_LOAD, V_MAX_PU = 0.7, 1.10


def main(master: Path, folder: Path) -> None:
    feeder = import_feeder(master, folder, COMMANDS).feeder
    phases: dict[str, set[int]] = {}
    for node in feeder.legs.a:
        phases.setdefault(feeder.buses[feeder.node_bus[node]], set()).add(int(feeder.node_phase[node]))
    random = np.random.default_rng(SEED)
    places = random.choice(sorted(phases), PV_SYSTEMS + BATTERIES, replace=False)
    pv, batteries = [], []
    for i, bus in enumerate(places):
        device = {"bus": bus, "phases": "-".join(map(str, sorted(phases[bus])))}
        kw = int(random.integers(5, 16) if i < PV_SYSTEMS else random.integers(10, 31))
        device |= {"p_rated_kw": kw, "s_rated_kva": round(1.2 * kw, 1)}
        if i < PV_SYSTEMS:
            pv.append(device)
        else:
            batteries.append(device | {"energy_kwh": 4 * kw})
    write_rows(folder / "pv.csv", pv)
    write_rows(folder / "batteries.csv", batteries)
    profiles = folder / "profiles.csv"
    with profiles.open(encoding="utf-8") as file:
        day = [row | {"load_pu": round(PEAK_LOAD * float(row["load_pu"]), 4)} for row in csv.DictReader(file)]
    write_rows(profiles, day)
    settings = folder / "case.toml"
    settings.write_text(settings.read_text().replace("v_max_pu = 1.05", f"v_max_pu = {V_MAX_PU}"))


def write_rows(path: Path, rows: list[dict[str, object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
