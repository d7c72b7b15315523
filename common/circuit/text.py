"""A circuit as OpenDSS commands: one element a line, from the engine's own export of it.

A record is one element as OpenDSS exports it to JSON: property name to value, with every code, geometry and file
already resolved. Impedances are in ohm, capacitances in nF (lines) or uF (capacitors), powers in kW and kvar.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tieflow.common.arrays import Complexes

Record = Mapping[str, Any]

# Properties and the value that needs no mention (None: always written). The order is the order of writing: a later
# property of OpenDSS may reset an earlier one, as a generator's kW its kvar.
_LOAD = {
    "Phases": None, "Bus1": None, "Conn": None, "kV": None, "kW": None, "kvar": None, "Model": None, "VMinpu": None,
    "VMaxpu": None, "VLowpu": 0.5, "Status": "Variable", "Daily": None, "RNeut": -1.0, "XNeut": 0.0,
}  # fmt: skip
_GENERATOR = {
    "Phases": None, "Bus1": None, "Conn": None, "kV": None, "kVA": None, "kW": None, "kvar": None, "Model": None,
    "VMinpu": None, "VMaxpu": None, "Status": "Variable", "Daily": None, "Balanced": False, "ForceOn": False,
}  # fmt: skip
_WINDING = {"MaxTap": 1.1, "MinTap": 0.9, "NumTaps": 32, "RNeut": -1.0, "XNeut": 0.0}
_TO_QUOTE = re.compile(r"[\s,=()\[\]{}'|~!]|//|^$")
_CORE = {
    "pctNoLoadLoss": 0.0,
    "pctIMag": 0.0,
    "ppm_Antifloat": 1.0,
    "LeadLag": "Lag",
    "Core": "shell",
    "XRConst": False,
}


def source(record: Record, circuit: str, y: Callable[[], Complexes]) -> list[str]:
    """The commands that open the circuit with its voltage source; ``y``: its primitive admittance matrix, S."""
    frequency = record["BaseFreq"]
    grounded = set(record["Bus2"].split(".")[1:]) == {"0"}
    words = [f"new {quoted('circuit.' + circuit)}", *_buses(record, both=not grounded)]
    words += _words(record, {"Phases": None, "BasekV": None, "pu": None, "Angle": None})
    words += _words(record, {"Frequency": frequency, "ScanType": "Positive", "Sequence": "Positive"})
    if record["Phases"] == 1:
        # Given by its short-circuit power, a single-phase source has neither the Z1 nor the Z0 that the engine exports.
        z = 1 / complex(y()[0, 0])
        record = {**record, **dict.fromkeys(("Z1", "Z2", "Z0"), [z.real, z.imag])}
    # Z1 sets Z2 and Z0 as well, so it must come first.
    words += _words(record, {"Z1": None, "Z2": record["Z1"], "Z0": None, "Model": "Thevenin"})
    if record["Model"] != "Thevenin":
        words += _words(record, {"puZIdeal": None})
    return ["clear", f"set defaultbasefrequency={value(frequency)}", " ".join(words)]


def line(record: Record, frequency: float) -> str:
    """The impedances per unit of length and the length, so that no code or geometry remains."""
    words = [_new("line", record), *_words(record, {"Phases": None}), *_buses(record)]
    matrices = {key[0]: np.array(record[key]) for key in ("RMatrix", "XMatrix", "CMatrix")}
    length = _words(record, {"Length": None})
    if record["Switch"] and all(_is_balanced(matrix) for matrix in matrices.values()):
        # 'switch=yes' resets length and impedances, so it must come before them. It overrules matrices anywhere.
        words += ["switch=yes", *length]
        for letter, matrix in matrices.items():
            own, mutual = float(matrix[0, 0]), float(matrix[0, -1]) if len(matrix) > 1 else 0.0
            words += [f"{letter.lower()}1={value(own - mutual)}", f"{letter.lower()}0={value(own + 2 * mutual)}"]
    else:
        # OpenDSS assumes a capacitance when none is given, so zeros are written out too.
        words += [*length, *(f"{letter.lower()}matrix={_triangle(matrix)}" for letter, matrix in matrices.items())]
    # Impedances reset the unit of length, so it must come after them.
    return " ".join([*words, *_words(record, {"Units": "none", "NormAmps": None, "BaseFreq": frequency})])


def transformer(record: Record, frequency: float) -> str:
    """A transformer of any number of windings, at its present taps."""
    count = len(record["Buses"])
    reactances = {2: ["XHL"], 3: ["XHL", "XHT", "XLT"]}.get(count, ["XSCArray"])
    return _transformer("transformer", record, frequency, reactances)


def autotransformer(record: Record, frequency: float) -> str:
    """An AutoTrans, at its present taps."""
    count = len(record["Buses"])
    reactances = {2: ["XHX"], 3: ["XHX", "XHT", "XXT"]}.get(count, ["XSCArray"])
    return _transformer("autotrans", record, frequency, reactances)


def capacitor(record: Record, given: Collection[str], frequency: float, y: Callable[[], Complexes]) -> str:
    """``given``: the properties that the model sets, in order; ``y``: the element's primitive admittance matrix, S."""
    words = [_new("capacitor", record), *_words(record, {"Phases": None}), *_buses(record, both="Bus2" in given)]
    words += _words(record, {"Conn": None, "kV": None})
    steps = len(record["kvar"])
    if steps > 1:
        words.append(f"numsteps={steps}")
    spec = [key for key in given if key in ("kvar", "Cuf", "CMatrix")] or ["kvar"]
    if spec[-1] == "CMatrix":
        # The engine exports uninitialized memory for this matrix, so it is read back from the admittance.
        n = record["Phases"]
        words.append(f"cmatrix={_triangle(y()[:n, :n].imag / (2e-6 * np.pi * frequency))}")
    else:
        words += _words(record, {spec[-1]: None})
    zeros = [0.0] * steps
    words += _words(record, {"R": zeros, "XL": zeros, "Harm": zeros, "States": None})
    return " ".join([*words, *_words(record, {"BaseFreq": frequency})])


def reactor(record: Record, given: Collection[str], frequency: float, y: Callable[[], Complexes]) -> str:
    """A series or shunt reactor by its impedance; the arguments are those of ``capacitor``."""
    words = [_new("reactor", record), *_words(record, {"Phases": None}), *_buses(record, both="Bus2" in given)]
    if "RMatrix" in given or "XMatrix" in given:
        # Uninitialized memory in the engine's export, as with capacitors; the inverse covers parallel=yes too.
        n = record["Phases"]
        z = np.linalg.inv(y()[:n, :n])
        words += [f"rmatrix={_triangle(z.real)}", f"xmatrix={_triangle(z.imag)}"]
    elif "Z1" in given:
        words += _words(record, {"Z1": None, "Z2": None, "Z0": None})
    else:
        words += _words(record, {"Conn": "wye", "Parallel": False, "R": None, "X": None, "Rp": 0.0})
    return " ".join([*words, *_words(record, {"NormAmps": None, "BaseFreq": frequency})])


def load(record: Record) -> str:
    """Base kW and kvar, whichever way the model gives the load."""
    words = [_new("load", record), *_words({**record, **_first_bus(record)}, _LOAD)]
    if record["Model"] == 4:
        words += _words(record, {"CVRWatts": None, "CVRVars": None})
    if record["Model"] == 8:
        words += _words(record, {"ZIPV": None})
    return " ".join(words)


def generator(record: Record) -> str:
    """A generator at its present kW and kvar."""
    words = [_new("generator", record), *_words({**record, **_first_bus(record)}, _GENERATOR)]
    if record["Model"] == 3:
        words += _words(record, {"Vpu": None, "Maxkvar": None, "Minkvar": None, "PVFactor": None})
    return " ".join(words)


def load_shape(record: Record) -> str:
    """A load shape with its values in place of any file."""
    words = [_new("loadshape", record), f"npts={len(record['PMult'])}"]
    if record.get("Hour"):
        words += ["interval=0", f"hour={value(record['Hour'])}"]
    else:
        words += _words(record, {"Interval": None})
    words += [f"mult={value(record['PMult'])}", *_words(record, {"QMult": None, "UseActual": False})]
    return " ".join([*words, *_words(record, {"PBase": 0.0, "QBase": 0.0})])


def bus_of(text: str) -> str:
    """The bus name of a bus with nodes: ``a`` of ``a.1.2``."""
    return text.split(".", 1)[0]


def nodes_of(text: str, phases: int) -> list[int]:
    """The nodes of a bus with nodes; OpenDSS's 1, 2, ... where none are given."""
    given = [int(node) for node in text.split(".")[1:]]
    return given or list(range(1, phases + 1))


def value(item: object) -> str:
    """A property's value in OpenDSS's notation; numbers to the last digit."""
    if isinstance(item, bool):
        return "yes" if item else "no"
    if isinstance(item, (int, float)):
        return repr(float(item)).removesuffix(".0")
    if isinstance(item, (list, tuple)):
        return f"({' '.join(map(value, item))})"
    return quoted(str(item))


def quoted(text: str) -> str:
    """A name as OpenDSS reads it: in quotes if it would end, or start a comment, too early."""
    return f'"{text}"' if _TO_QUOTE.search(text) else text


def _transformer(kind: str, record: Record, frequency: float, reactances: Sequence[str]) -> str:
    count, phases = len(record["Buses"]), record["Phases"]
    buses = [_with_nodes(bus, phases) for bus in record["Buses"]]
    words = [_new(kind, record), *_words(record, {"Phases": None}), f"windings={count}", f"buses={value(buses)}"]
    words += _words(record, {"Conns": None, "kVs": None, "kVAs": None})
    for k in range(count):
        # A tap outside its limits would be cut, so they come before the taps.
        winding = {key: record[key][k] for key in _WINDING if key in record}
        changed = _words(winding, _WINDING)
        words += [f"wdg={k + 1}", *changed] if changed else []
    words += _words(record, {"Taps": None, "pctRs": None, **dict.fromkeys(reactances)})
    words += _words(record, _CORE | {"BaseFreq": frequency})
    return " ".join([*words, *_words(record, {"NormHkVA": None})])


def _new(kind: str, record: Record) -> str:
    return f"new {quoted(kind + '.' + record['Name'])}"


def _words(record: Record, defaults: Mapping[str, object]) -> list[str]:
    return [
        f"{_spelled(key)}={value(item)}"
        for key, default in defaults.items()
        if (item := record.get(key)) is not None and item != default
    ]


@cache
def _spelled(key: str) -> str:
    """A property's name in OpenDSS commands."""
    return key.lower().replace("pct", "%")


def _first_bus(record: Record) -> Record:
    return {"Bus1": _with_nodes(record["Bus1"], record["Phases"])}


def _buses(record: Record, both: bool = True) -> list[str]:
    """The words for bus1 and bus2. ``both=False``: the element has a neutral or ground of its own as second bus."""
    keys = ("Bus1", "Bus2") if both else ("Bus1",)
    return [f"{key.lower()}={value(_with_nodes(record[key], record['Phases']))}" for key in keys]


def _with_nodes(bus: str, phases: int) -> str:
    return bus if "." in bus else ".".join([bus, *(str(node) for node in nodes_of(bus, phases))])


def _is_balanced(matrix: NDArray[np.floating[Any]]) -> bool:
    """Equal own and equal mutual values: what r1, r0 and their like can express."""
    n = len(matrix)
    mutual = matrix[0, -1] if n > 1 else 0.0
    return bool((matrix == np.where(np.eye(n), matrix[0, 0], mutual)).all())


def _triangle(matrix: NDArray[np.floating[Any]]) -> str:
    """A symmetric matrix by its lower triangle."""
    return "(" + " | ".join(" ".join(map(value, row[: i + 1])) for i, row in enumerate(matrix.tolist())) + ")"
