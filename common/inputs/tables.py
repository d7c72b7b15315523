"""CSV tables of a case folder: each row is checked against a pydantic model; errors name file, row and column.

A table whose header has semicolons or tabs and no comma is separated by them, as spreadsheets save it where numbers
have decimal commas; such numbers are read.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from tieflow.common.errors import CaseError, did_you_mean, shown

DECIMAL_COMMA = re.compile(r"\s*[+-]?\d*,\d+([eE][+-]?\d+)?\s*")
POINTS = "Write numbers with a decimal point, as in 1.5, or separate columns by semicolons, in the header too."


class Row(BaseModel):
    """One row of a table; the field names, or their aliases, are the column names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, str_strip_whitespace=True)


RowType = TypeVar("RowType", bound=Row)


def read_table(path: Path, row_type: type[RowType]) -> list[RowType]:
    """Read a CSV file with a header line.

    An empty cell takes the column's default. Raises CaseError for a missing file, an unknown or missing column,
    a row of the wrong length, or a value that the model refuses.
    """
    columns = {field.alias or name: field for name, field in row_type.model_fields.items()}
    table = _lines(path, ",".join(columns))
    _check_header(path, table.header, columns)
    numbers = {name for name, field in columns.items() if _is_number(field.annotation)}
    return [_read_row(path, number, table, cells, row_type, numbers) for number, cells in table.rows]


def read_header(path: Path) -> list[str]:
    """The column names of a CSV file. Raises CaseError for a missing or empty file, or one that is not CSV."""
    return _lines(path, "hour,...").header


@dataclass(frozen=True)
class _Table:
    """The text of a table."""

    header: list[str]
    """empty columns at the end, which spreadsheets make, are no columns"""
    rows: list[tuple[int, list[str]]]
    """line number and cells"""
    separator: str


def _lines(path: Path, expected: str) -> _Table:
    """``expected``: what the header of an empty file should be."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise CaseError(f"{path}: no such file. A case folder needs it; see 'Case format' in the README.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CaseError(f"{path}: cannot be read ({error}). Save it as a UTF-8 CSV file.") from None
    first = next((line for line in text.splitlines() if line.strip(" ,;\t")), "")
    separator = next((mark for mark in ";\t" if mark in first and "," not in first), ",")
    reader = csv.reader(text.splitlines(keepends=True), delimiter=separator, strict=True)
    try:
        lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise CaseError(f"{path}, line {reader.line_num}: not valid CSV ({error}). Close every quote.") from None
    if not lines:
        raise CaseError(f"{path}: empty. Its first line must be the header {expected}.")
    header = [name.strip() for name in lines[0][1]]
    while not header[-1]:
        header.pop()
    return _Table(header, lines[1:], separator)


def _is_number(annotation: Any) -> bool:
    """Whether a column is of numbers, which may be left out (``float | None``)."""
    return annotation in (int, float) or any(_is_number(part) for part in get_args(annotation))


def _check_header(path: Path, header: list[str], known: dict[str, FieldInfo]) -> None:
    for name in header:
        if not name:
            raise CaseError(f"{path}: column {header.index(name) + 1} has no name in the header. Name or remove it.")
        if name not in known and (";" in name or "\t" in name):
            raise CaseError(
                f"{path}: column {shown(name)}: the header has both commas and other separators. Separate columns by "
                "commas, or all by semicolons."
            )
        if name not in known:
            raise CaseError(f"{path}: unknown column '{name}'.{did_you_mean(name, known)}")
        if header.count(name) > 1:
            raise CaseError(f"{path}: column '{name}' appears twice. Keep one of them.")
    for name, field in known.items():
        if field.is_required() and name not in header:
            raise CaseError(f"{path}: missing column '{name}'. The header must contain it.")


def _read_row(
    path: Path, number: int, table: _Table, cells: list[str], row_type: type[RowType], numbers: set[str]
) -> RowType:
    header, separator = table.header, table.separator
    while len(cells) > len(header) and not cells[-1].strip():
        cells = cells[:-1]
    if len(cells) != len(header):
        reason = f"{len(cells)} values for {len(header)} columns ({separator.join(header)})."
        if separator == "," and ";" in "".join(cells):
            reason += " The row has semicolons, the header commas. Separate all by the same."
        elif separator == "," and len(cells) > len(header):
            reason += f" If a number has a decimal comma: {POINTS[0].lower()}{POINTS[1:]}"
        raise CaseError(f"{path}, line {number}: {reason}")
    values = {name: cell for name, cell in zip(header, cells, strict=True) if cell.strip()}
    if separator != ",":
        for name in numbers & values.keys():
            if DECIMAL_COMMA.fullmatch(values[name]):
                values[name] = values[name].replace(",", ".")
    try:
        return row_type.model_validate(values)
    except ValidationError as error:
        raise CaseError(f"{path}, line {number}: {explain(error)}") from None


def explain(error: ValidationError) -> str:
    """The first complaint of pydantic as ``key: message (got value)``."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f"{key}: missing. Give it a value."
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    # Files know lists only.
    message = message.replace("a valid tuple", "a list")
    if first["type"] == "value_error":
        return f"{key}: {message}" if key else message
    if first["type"] == "int_parsing_size":
        message = "a whole number of fewer digits"
    value = first["input"]
    hint = f" {POINTS}" if isinstance(value, str) and DECIMAL_COMMA.fullmatch(value) else ""
    return f"{key}: must be {message} (got {shown(value)}).{hint}"
