"""Results on disk: with ``common.results.study_store`` the only module that knows HDF5.

It owns the file's layout and hardly knows a field by name: data classes become groups, arrays datasets, tables groups
of columns, single values attributes (None a null attribute). So a field added to a data class is stored without a
change here; older files lack it and read as its default. A field without a default raises ``FORMAT_VERSION``.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints
from urllib.parse import quote, unquote

import h5py
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from tieflow.common.errors import TieflowError, way_out
from tieflow.common.results.result import Result
from tieflow.common.results.schedule import completed, told_apart
from tieflow.common.results.violations import timed

FORMAT = "tieflow result"
STUDY_FORMAT = "tieflow study"
FORMAT_VERSION = 1
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_PROBE_BYTES = 1 << 16

# By a dataset's name or the last part of it.
_UNITS = {
    "a": "A",
    "cost": "$",
    "cost_per_kwh": "$/kWh",
    "kva": "kVA",
    "kvar": "kvar",
    "kw": "kW",
    "kwh": "kWh",
    "load": "per rated load",
    "ohm": "ohm",
    "price": "$/kWh",
    "pu": "per unit",
    "pv": "per rated PV power",
    "s": "s",
    "wind": "per rated wind power",
}
# By the name of a dataset or of its group, and the number of dimensions; the names along each axis are in /axes.
_AXES = {
    ("battery_energy_kwh", 2): "battery, period",
    ("branch_kva", 2): "branch limit, period",
    ("cpu_s", 2): "round, rank",
    ("nodal_price", 2): "bus, period",
    ("batteries", 2): "battery, period",
    ("flexible_loads", 2): "flexible load, period",
    ("history", 1): "round",
    ("history", 2): "round, area",
    ("horizon", 1): "period",
    ("pv", 2): "pv, period",
    ("state", 1): "period",
    ("state", 2): "branch, period",
    ("v_pu", 2): "bus, period",
    ("wind", 2): "wind, period",
}


def write_result(path: Path, result: Result) -> None:
    """Write a result, replacing the file at ``path`` in one step: whatever fails, the old file stays as it was.

    The same result gives the same bytes. Raises TieflowError when it cannot be written.
    """
    replace_file(path, image_of(path, lambda file: save_result(file, result)))


def read_result(path: Path) -> Result:
    """Read what :func:`write_result` wrote. Raises TieflowError when it is not there, not ours or not whole."""
    with opened(path) as file:
        check_format(path, file)
        return load_result(file)


def image_of(path: Path, fill: Callable[[h5py.File], None]) -> bytes:
    """The content of a whole file, made in memory: so a full disk is a plain error of ``write`` and never one inside
    HDF5. Raises TieflowError, naming the ``path`` that it is for, when ``fill`` meets what HDF5 cannot store."""
    try:
        with h5py.File("result", "w", driver="core", backing_store=False) as file:
            fill(file)
            file.flush()
            return bytes(file.id.get_file_image())
    except ValueError as error:
        raise TieflowError(
            f"{path}: the case holds text that HDF5 cannot store ({error}). Rename what has the odd character in it."
        ) from error


def replace_file(path: Path, image: bytes) -> None:
    """Write a file in one step: whatever fails or is killed, the old one stays as it was. Raises TieflowError."""
    with beside(path, image) as temporary:
        os.replace(temporary, _target(path))


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """A file to read from. Raises TieflowError when it is not there, not HDF5 or, as the block finds, damaged."""
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        raise TieflowError(f"{path}: no such file. Name a result file that 'tieflow solve' has made.") from None
    except OSError as error:
        raise TieflowError(
            f"{path}: cannot be read ({error.strerror}). Name a result file that you may read."
        ) from error
    with stream:
        if stream.read(len(_SIGNATURE)) != _SIGNATURE:
            raise TieflowError(f"{path}: not an HDF5 file. Name a result file that 'tieflow solve' has made.")
        try:
            with h5py.File(stream, "r") as file:
                yield file
        # What h5py and the data classes raise for a file that ends early or lacks a part.
        except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
            raise TieflowError(f"{path}: truncated or damaged ({error}). Copy it again, or solve again.") from error


def check_writable(path: Path) -> None:
    """Find out before solving whether a result can be stored: write a small file beside ``path`` and remove it.

    An existing result is opened but not changed. Raises TieflowError naming the path and the way out.
    """
    with beside(path, bytes(_PROBE_BYTES)):
        # A write-protected file, or another user's in a shared folder, is found here and not after the solve.
        if path.exists():
            path.open("r+b").close()


@contextmanager
def beside(path: Path, content: bytes) -> Iterator[Path]:
    """A temporary file in the folder of ``path`` with the content safely on disk; gone on leaving, unless moved."""
    target = _target(path)
    temporary = target.with_name(f".tieflow-{secrets.token_hex(8)}.tmp")
    try:
        if target.exists() and not target.is_file():
            raise TieflowError(f"{path}: a folder or device. Give the name of a result file, for example run.h5.")
        if not target.parent.is_dir():
            raise TieflowError(f"{path}: there is no folder {path.parent}. Make it (mkdir -p) or choose another path.")
        try:
            with temporary.open("xb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise TieflowError(f"{path}: cannot be written ({error.strerror}). {way_out(error)}") from error


def _target(path: Path) -> Path:
    """The file behind a symbolic link, so that the file is replaced and not the link."""
    return Path(os.path.realpath(path))


def check_format(path: Path, file: h5py.File, expected: str = FORMAT) -> None:
    """Raises TieflowError for a file that holds something else, or by a layout that this tieflow does not know."""
    found = str(file.attrs.get("format"))
    if found == STUDY_FORMAT and expected == FORMAT:
        raise TieflowError(f"{path}: a study. Say which of its runs: --variant {choices(list(file['variants']))}.")
    if found != expected:
        maker = "tieflow study" if expected == STUDY_FORMAT else "tieflow solve"
        raise TieflowError(f"{path}: not a {expected}. Name a file that '{maker}' has made.")
    version = int(file.attrs["format_version"])
    if version != FORMAT_VERSION:
        raise TieflowError(
            f"{path}: format version {version}, but this tieflow knows version {FORMAT_VERSION} only. "
            "Read it with the tieflow that wrote it (a newer one: pip install --upgrade tieflow), or solve again."
        )


def choices(names: Sequence[str]) -> str:
    """Names of groups as a user would type them."""
    shown = [unquote(name) for name in names]
    return " | ".join(f'"{name}"' if " " in name else name for name in shown)


def save_result(group: h5py.Group, result: Result) -> None:
    """Store a result in an empty group, which is then as a result file is."""
    group.attrs["format"] = FORMAT
    group.attrs["format_version"] = FORMAT_VERSION
    group.create_group("summary")
    save_fields(group, Result, result)
    if not result.case.is_balanced:
        group.visititems(_name_nodes)
    _save_axes(group.create_group("axes"), result)


def load_result(group: h5py.Group) -> Result:
    """The inverse of :func:`save_result`. Raises what h5py and the data classes raise for a group that lacks a part."""
    result: Result = load_fields(group, Result)
    return _completed(result)


def _completed(result: Result) -> Result:
    """A result of an older file with what was not stored then."""
    case, check = result.case, result.check
    if check is not None:
        violations = timed(case, check.violations)
        check = replace(check, state=told_apart(case, check.state), violations=violations)
    oversteps, schedule = timed(case, result.oversteps), completed(case, result.schedule)
    state = told_apart(case, result.state)
    return replace(result, schedule=schedule, state=state, check=check, oversteps=oversteps)


def _name_nodes(_: str, item: h5py.Group | h5py.Dataset) -> None:
    """A multi-phase feeder's voltages and flows are those of nodes."""
    if item.attrs.get("axes") in ("bus, period", "branch, period"):
        item.attrs["axes"] = "node, period"


def _save_axes(group: h5py.Group, result: Result) -> None:
    """What stands along each axis, for readers of the file; not read back."""
    case = result.case
    if case.is_balanced:
        feeder = case.feeder
        group["bus"] = _array(str, feeder.buses)
        group["branch"] = _array(str, [feeder.branch_name(k) for k in range(len(feeder.parent))])
    else:
        group["node"] = _array(str, case.network.node_names[case.network.roots :])
        group["branch limit"] = _array(str, [row.place for row in case.branch_limits])
    group["pv"] = _array(str, [row.place for row in case.pv])
    group["battery"] = _array(str, [row.place for row in case.batteries])
    group["flexible load"] = _array(str, [row.place for row in case.flexible_loads])
    group["wind"] = _array(str, [row.place for row in case.wind])
    group["area"] = _array(str, result.areas)
    group["period"] = _array(int, case.horizon.hour)
    group["time"] = _array(str, case.horizon.times)


def save_fields(group: h5py.Group, owner: type, item: Any) -> None:
    """Store the fields of a data class in a group."""
    for name, kind in _fields(owner).items():
        _save(_home(group, owner, kind), name, kind, getattr(item, name))


def load_fields(group: h5py.Group, owner: type) -> Any:
    """The inverse of :func:`save_fields`."""
    values = {}
    for name, kind in _fields(owner).items():
        home = _home(group, owner, kind)
        if name in home.attrs or name in home:
            values[name] = _load(home, name, kind)
    return owner(**values)


def _home(group: h5py.Group, owner: type, kind: Any) -> h5py.Group:
    """Where a field lives: in its owner's group, but a result's plain values in /summary."""
    is_group = get_origin(kind) is Mapping or _fields(_unwrap(kind)[0])
    return group if owner is not Result or is_group else group["summary"]


def _save(group: h5py.Group, name: str, kind: Any, value: Any) -> None:
    """Store a value of type ``kind`` under a name."""
    kind, _ = _unwrap(kind)
    if value is None:
        group.attrs[name] = h5py.Empty("f8")
    elif get_origin(kind) is np.ndarray:
        _save_array(group, name, value)
    elif get_origin(kind) is Mapping:
        inner = group.create_group(name)
        for key, item in value.items():
            _save(inner, quote(key, safe=" "), get_args(kind)[1], item)
    elif get_origin(kind) is tuple:
        element = get_args(kind)[0]
        if _fields(element):
            save_table(group, name, element, value)
        else:
            _save_array(group, name, _array(element, value))
    elif _fields(kind):
        save_fields(group.create_group(name), kind, value)
    else:
        group.attrs[name] = value


def _load(group: h5py.Group, name: str, kind: Any) -> Any:
    """The inverse of :func:`_save`."""
    kind, _ = _unwrap(kind)
    if name in group.attrs:
        value = group.attrs[name]
        if isinstance(value, h5py.Empty):
            return None
        return value.item() if isinstance(value, np.generic) else value
    item = group[name]
    if get_origin(kind) is np.ndarray:
        return item[()]
    if get_origin(kind) is Mapping:
        return {unquote(key): _load(item, key, get_args(kind)[1]) for key in (*item.attrs, *item)}
    if get_origin(kind) is not tuple:
        return load_fields(item, kind)
    element = get_args(kind)[0]
    return load_table(group, name, element) if _fields(element) else tuple(_cells(item, element))


def save_table(group: h5py.Group, name: str, element: type, rows: Iterable[Any]) -> None:
    """Store data classes as a group of columns."""
    table, rows = group.create_group(name), list(rows)
    for column, cell_kind in _fields(element).items():
        _save_array(table, column, _array(cell_kind, [getattr(row, column) for row in rows]), "row")


def load_table(group: h5py.Group, name: str, element: type) -> tuple[Any, ...]:
    """The inverse of :func:`save_table`."""
    item = group[name]
    columns = {column: _cells(item[column], kind) for column, kind in _fields(element).items() if column in item}
    return tuple(element(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True))


def _save_array(group: h5py.Group, name: str, array: NDArray[Any], axes: str | None = None) -> None:
    dataset = group.create_dataset(name, data=array)
    parent = group.name.rpartition("/")[2]
    axes = axes or _AXES.get((name, array.ndim)) or _AXES.get((parent, array.ndim))
    units = _UNITS.get(name) or _UNITS.get(name.rpartition("_")[2])
    dataset.attrs.update({key: text for key, text in (("axes", axes), ("units", units)) if text})


def _array(kind: Any, cells: Iterable[Any]) -> NDArray[Any]:
    """Values of one type as an array; None, possible among real numbers only, is NaN."""
    kind, optional = _unwrap(kind)
    if optional and kind is not float:
        raise TypeError(f"a table column of {kind} | None: only real numbers may be None, stored as NaN")
    if kind is str:
        return np.array(list(cells), h5py.string_dtype())
    return np.array([np.nan if cell is None else cell for cell in cells], kind)


def _cells(dataset: h5py.Dataset, kind: Any) -> list[Any]:
    """The inverse of :func:`_array`."""
    kind, optional = _unwrap(kind)
    cells: list[Any] = (dataset.asstr() if kind is str else dataset)[()].tolist()
    return [None if optional and cell != cell else cell for cell in cells]


def _fields(kind: Any) -> dict[str, Any]:
    """Name and type of each field of a data class or pydantic model; nothing for any other type."""
    if is_dataclass(kind):
        names = [field.name for field in fields(kind)]
    elif isinstance(kind, type) and issubclass(kind, BaseModel):
        names = list(kind.model_fields)
    else:
        return {}
    hints = get_type_hints(kind)
    return {name: hints[name] for name in names}


def _unwrap(kind: Any) -> tuple[Any, bool]:
    """``X | None`` as (X, True), any other type as (X, False)."""
    if get_origin(kind) not in (Union, UnionType):
        return kind, False
    kinds = [part for part in get_args(kind) if part is not NoneType]
    return kinds[0], len(kinds) < len(get_args(kind))
