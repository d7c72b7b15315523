"""``python tests/benchmarks/ieee123_12kv.py FOLDER``: the shipped case ``ieee123_12kv``, of ``ieee123_unbalanced``.

The same lines, loads and capacitors rated at 12.47 kV instead of 4.16, regulators in neutral position, behind a 10 MVA
substation transformer. Its high voltage, 115 kV, is of no consequence: its impedance is told in percent of its rating.
"""

from __future__ import annotations

import re
import shutil
import sys
from importlib import resources
from pathlib import Path

SOURCE = "new circuit.ieee123_12kv bus1=substation.1.2.3 phases=3 basekv=115 pu=1 angle=30 z1=(0 0.0001) z0=(0 0.0001)"
TRANSFORMER = (
    "new transformer.substation phases=3 windings=2 buses=(substation.1.2.3 150.1.2.3) conns=(delta wye) "
    "kvs=(115 12.47) kvas=(10000 10000) taps=(1 1.01875) %rs=(0.3 0.3) xhl=7 normhkva=11000"
)
VOLTS = {"2.4": "7.2", "2.402": "7.2", "4.16": "12.47"}


def at_12_kv(circuit: str) -> str:
    """The commands of ``ieee123_unbalanced`` for 12.47 kV."""
    lines = []
    for line in circuit.splitlines():
        if line.startswith("new circuit"):
            line = SOURCE
        elif line == "! transformers":
            line = f"{line}\n{TRANSFORMER}"
        elif line.startswith("set voltagebases"):
            line = "set voltagebases=(0.48 12.47 115)"
        else:
            line = re.sub(r"(?<=kv=)[\d.]+", _volts, line)
            line = re.sub(r"(?<=kvs=\()[^)]+", lambda kvs: " ".join(VOLTS.get(kv, kv) for kv in kvs[0].split()), line)
            line = re.sub(r"(?<=taps=\(1 )[\d.]+", "1", line)
        lines.append(line)
    title = "! IEEE 123 node test feeder at 12.47 kV behind a 10 MVA transformer, switches 7 and 8 open"
    return "\n".join([title, *lines[1:], ""])


def _volts(kv: re.Match[str]) -> str:
    return VOLTS.get(kv[0], kv[0])


def main(folder: Path) -> None:
    source = Path(str(resources.files("tieflow.launch") / "cases" / "ieee123_unbalanced"))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "circuit.dss").write_text(at_12_kv((source / "circuit.dss").read_text()))
    areas = (source / "areas.csv").read_text().replace("bus,area\n", "bus,area\nsubstation,1\n")
    (folder / "areas.csv").write_text(areas)
    shutil.copy(source / "profiles.csv", folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
