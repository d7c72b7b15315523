"""Results on disk: with ``common.results.study_store``, ``scales`` and ``checksum`` the only module that knows HDF5.

It owns the file's layout and hardly knows a field by name: data classes become groups, arrays datasets, tables groups
of columns, single values attributes (None a null attribute). So a field added to a data class is stored without a
change here; older files lack it and read as its default. A field without a default raises ``FORMAT_VERSION``.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints
from urllib.parse import quote, unquote

import h5py
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from tieflow.common.errors import CaseError, TieflowError, way_out
from tieflow.common.inputs.devices import KINDS
from tieflow.common.inputs.tables import explain
from tieflow.common.results.checksum import check_heaps, check_seal, seal
from tieflow.common.results.fits import check_fits
from tieflow.common.results.result import Result
from tieflow.common.results.scales import AXES, attach_scales, is_scale
from tieflow.common.results.schedule import completed, told_apart
from tieflow.common.results.violations import timed

FORMAT = "tieflow result"
STUDY_FORMAT = "tieflow study"
FORMAT_VERSION = 2
"""1 had neither checksums nor dimension scales"""
KNOWN_VERSIONS = (1, 2)
LIBVER = ("v110", "v110")
"""of HDF5: this layout has checksums of its own structure; as a pair, so that all versions of HDF5 write the same"""
CLOCKS = ("busiest rank", "coordinator")
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
    ("branch_kva", 2): "branch_limit, period",
    ("cpu_s", 2): "round, clock",
    ("nodal_price", 2): "bus, period",
    ("history", 1): "round",
    ("history", 2): "round, area",
    ("horizon", 1): "period",
    ("shapes", 1): "period",
    ("state", 1): "period",
    ("state", 2): "branch, period",
    ("v_pu", 2): "bus, period",
    **{(name, 2): f"{kind.word}, period" for name, kind in KINDS.items()},
}
# What stands along the rows of a table; of others, just rows.
_ROWS = {"branch_limits": "branch_limit", **{name: kind.word for name, kind in KINDS.items()}}


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


def image_of(path: Path, fill: Callable[[h5py.File], None], start: bytes | None = None) -> bytes:
    """The content of a whole file, made in memory: so a full disk is a plain error of ``write`` and never one inside
    HDF5. It may ``start`` with another. Raises TieflowError, naming the ``path`` that it is for, when ``fill`` meets
    what HDF5 cannot store."""
    try:
        with h5py.File.in_memory(start, libver=LIBVER) as file:
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
        content = stream.read()
        if not content.startswith(_SIGNATURE):
            raise TieflowError(f"{path}: not an HDF5 file. Name a result file that 'tieflow solve' has made.")
        try:
            check_heaps(content)
            with h5py.File(stream, "r") as file:
                yield file
        # What h5py and the data classes raise for a file that ends early, has a size that is none or lacks a part.
        except (OSError, RuntimeError, KeyError, TypeError, ValueError, MemoryError, CaseError) as error:
            why = explain(error) if isinstance(error, ValidationError) else " ".join(str(error).strip("'").split())
            raise TieflowError(f"{path}: truncated or damaged ({why}). Copy it again, or solve again.") from error


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
        names = list(subgroup(file, "variants"))
        raise TieflowError(f"{path}: a study. Say which of its runs: --variant {choices(names)}.")
    if found != expected:
        maker = "tieflow study" if expected == STUDY_FORMAT else "tieflow solve"
        raise TieflowError(f"{path}: not a {expected}. Name a file that '{maker}' has made.")
    version = format_version(file)
    if version not in KNOWN_VERSIONS:
        raise TieflowError(
            f"{path}: format version {version}, but this tieflow knows {KNOWN_VERSIONS[0]} to {FORMAT_VERSION} only. "
            "Read it with the tieflow that wrote it (a newer one: pip install --upgrade tieflow), or solve again."
        )


def format_version(group: h5py.Group) -> int:
    """Of a result or a study."""
    version: int = _plain("format_version", int, group.attrs["format_version"])
    return version


def mark(group: h5py.Group, what: str) -> None:
    """Say what a group holds."""
    group.attrs["format"] = what
    group.attrs["format_version"] = FORMAT_VERSION


def check_whole(group: h5py.Group) -> None:
    """Raises ValueError for a result or a study that is not as it was written; older ones cannot tell."""
    if format_version(group) > 1:
        check_seal(group)


def choices(names: Sequence[str]) -> str:
    """Names of groups as a user would type them."""
    shown = [unquote(name) for name in names]
    return " | ".join(f'"{name}"' if " " in name else name for name in shown)


def save_result(group: h5py.Group, result: Result) -> None:
    """Store a result in an empty group, which is then as a result file is."""
    mark(group, FORMAT)
    group.create_group("summary")
    save_fields(group, Result, result)
    if not result.case.is_balanced:
        group.visititems(_name_nodes)
    _save_axes(group.create_group("axes"), result)
    attach_scales(group)
    seal(group)


def load_result(group: h5py.Group) -> Result:
    """The inverse of :func:`save_result`. Raises what h5py and the data classes raise for a group that lacks a part."""
    check_whole(group)
    result = _completed(load_fields(group, Result))
    check_fits(result, len(dataset(group, "axes/node")) if "axes/node" in group else None)
    return result


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
    """What stands along each axis, for readers of the file."""
    case = result.case
    feeder, limits = case.feeder, [row.place for row in case.branch_limits]
    names: dict[str, Sequence[str]] = {feeder.flow_noun: feeder.flows, feeder.places.noun: feeder.places.names}
    names |= {} if case.is_balanced else {"branch_limit": limits}
    names |= {kind.word: [unit.label for unit in getattr(case, name)] for name, kind in KINDS.items()}
    names |= {"area": result.areas, "clock": CLOCKS}
    for axis, texts in names.items():
        group[axis] = _array(str, texts)
    for axis, numbers in (("period", case.horizon.hour), ("round", range(1, len(result.history.cost) + 1))):
        _save_array(group, axis, _array(int, numbers))
    group["time"] = _array(str, case.horizon.times)
    group["time"].attrs[AXES] = "period"


def save_fields(group: h5py.Group, owner: type, item: Any) -> None:
    """Store the fields of a data class in a group."""
    for name, kind in _fields(owner).items():
        _save(_home(group, owner, kind), name, kind, getattr(item, name))


def load_fields(group: h5py.Group, owner: type) -> Any:
    """The inverse of :func:`save_fields`. Raises ValueError, naming it, for a field that is missing or has no such
    type."""
    values = {}
    for name, kind in _fields(owner).items():
        home = _home(group, owner, kind)
        if name in home.attrs or name in home:
            values[name] = _load(home, name, kind)
        elif _is_required(owner, name):
            raise ValueError(f"no {name} in {home.name}")
    return owner(**values)


def _home(group: h5py.Group, owner: type, kind: Any) -> h5py.Group:
    """Where a field lives: in its owner's group, but a result's plain values in /summary."""
    is_group = get_origin(kind) is Mapping or _fields(_unwrap(kind)[0])
    return group if owner is not Result or is_group else subgroup(group, "summary")


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
    kind, optional = _unwrap(kind)
    if name in group.attrs:
        value = group.attrs[name]
        if optional and isinstance(value, h5py.Empty):
            return None
        return _plain(name, kind, value)
    if get_origin(kind) is np.ndarray:
        (number,) = get_args(get_args(kind)[1])
        return _values(dataset(group, name), number)
    if get_origin(kind) is Mapping:
        inner, (_, cell_kind) = subgroup(group, name), get_args(kind)
        names = [*inner.attrs, *(key for key in inner if not is_scale(inner[key]))]
        return {unquote(key): _load(inner, key, cell_kind) for key in names}
    if get_origin(kind) is not tuple:
        return load_fields(subgroup(group, name), kind)
    element = get_args(kind)[0]
    return load_table(group, name, element) if _fields(element) else tuple(_cells(dataset(group, name), element))


def load_plain(group: h5py.Group, owner: type, names: Iterable[str]) -> dict[str, Any]:
    """Single values among the fields of a data class, by name."""
    kinds = _fields(owner)
    return {name: _load(group, name, kinds[name]) for name in names}


def subgroup(group: h5py.Group, name: str) -> h5py.Group:
    """A group in another. Raises TypeError where something else has that name."""
    return _part(group, name, h5py.Group)


def dataset(group: h5py.Group, name: str) -> h5py.Dataset:
    """A dataset in a group. Raises TypeError where something else has that name."""
    return _part(group, name, h5py.Dataset)


def _part(group: h5py.Group, name: str, kind: type) -> Any:
    item = group[name]
    if not isinstance(item, kind):
        raise TypeError(f"{item.name} is not a {kind.__name__.lower()}")
    return item


def _plain(name: str, kind: Any, value: Any) -> Any:
    """A single value of a type, as Python has it. Raises TypeError for one of another type."""
    plain = value.item() if isinstance(value, np.generic) else value
    expected = {float: (float, int), int: (int,), bool: (bool,), str: (str,)}.get(kind, (object,))
    if not isinstance(plain, expected) or (isinstance(plain, bool) and kind in (float, int)):
        raise TypeError(f"{name} is not a {kind.__name__}")
    return plain


def save_table(group: h5py.Group, name: str, element: type, rows: Iterable[Any]) -> None:
    """Store data classes as a group of columns."""
    table, rows = group.create_group(name), list(rows)
    for column, cell_kind in _fields(element).items():
        _save_array(table, column, _array(cell_kind, [getattr(row, column) for row in rows]), _ROWS.get(name, "row"))


def load_table(group: h5py.Group, name: str, element: type) -> tuple[Any, ...]:
    """The inverse of :func:`save_table`. Raises ValueError as ``load_fields`` does."""
    item = subgroup(group, name)
    columns = {}
    for column, kind in _fields(element).items():
        if column in item:
            columns[column] = _cells(dataset(item, column), kind)
        elif _is_required(element, column):
            raise ValueError(f"no {column} in {item.name}")
    if len({len(cells) for cells in columns.values()}) > 1:
        raise ValueError(f"columns of {item.name} differ in length")
    return tuple(element(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True))


def _save_array(group: h5py.Group, name: str, array: NDArray[Any], axes: str | None = None) -> None:
    # HDF5 has checksums of chunks only, and none of texts.
    checked = {"chunks": array.shape, "fletcher32": True} if array.size and array.dtype != object else {}
    item = group.create_dataset(name, data=array, **checked)
    parent = group.name.rpartition("/")[2]
    axes = axes or _AXES.get((name, array.ndim)) or _AXES.get((parent, array.ndim))
    units = _UNITS.get(name) or _UNITS.get(name.rpartition("_")[2])
    item.attrs.update({key: text for key, text in (("axes", axes), ("units", units)) if text})


def _array(kind: Any, cells: Iterable[Any]) -> NDArray[Any]:
    """Values of one type as an array; None, possible among real numbers only, is NaN."""
    kind, optional = _unwrap(kind)
    if optional and kind is not float:
        raise TypeError(f"a table column of {kind} | None: only real numbers may be None, stored as NaN")
    if kind is str:
        return np.array(list(cells), h5py.string_dtype())
    return np.array([np.nan if cell is None else cell for cell in cells], kind)


def _cells(item: h5py.Dataset, kind: Any) -> list[Any]:
    """The inverse of :func:`_array`."""
    kind, optional = _unwrap(kind)
    if item.ndim != 1:
        raise ValueError(f"{item.name} is not a list")
    if kind is str:
        texts: list[Any] = item.asstr()[()].tolist()
        return texts
    return [None if optional and cell != cell else cell for cell in _values(item, _NUMBERS[kind]).tolist()]


_NUMBERS = {float: np.floating, int: np.integer, bool: np.bool_}


def _values(item: h5py.Dataset, number: type) -> Any:
    """An array of numbers of a type. Raises TypeError for one of another type."""
    if not np.issubdtype(item.dtype, number):
        raise TypeError(f"{item.name} is of {item.dtype}, not {number.__name__}")
    return item[()]


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


def _is_required(owner: type, name: str) -> bool:
    """Whether a field of a data class or pydantic model has no default."""
    if is_dataclass(owner):
        (field,) = [field for field in fields(owner) if field.name == name]
        return field.default is MISSING and field.default_factory is MISSING
    return bool(issubclass(owner, BaseModel) and owner.model_fields[name].is_required())


def _unwrap(kind: Any) -> tuple[Any, bool]:
    """``X | None`` as (X, True), any other type as (X, False)."""
    if get_origin(kind) not in (Union, UnionType):
        return kind, False
    kinds = [part for part in get_args(kind) if part is not NoneType]
    return kinds[0], len(kinds) < len(get_args(kind))
