"""CSV tables of a case folder: each row is checked against a pydantic model; errors name file, row and column."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from tieflow.common.errors import CaseError, did_you_mean


class Row(BaseModel):
    """One row of a table; the field names are the column names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, str_strip_whitespace=True)


RowType = TypeVar("RowType", bound=Row)


def read_table(path: Path, row_type: type[RowType]) -> list[RowType]:
    """Read a CSV file with a header line.

    An empty cell takes the column's default. Raises CaseError for a missing file, an unknown or missing column,
    a row of the wrong length, or a value that the model refuses.
    """
    header, lines = _lines(path, ",".join(row_type.model_fields))
    _check_header(path, header, row_type)
    return [_read_row(path, number, header, cells, row_type) for number, cells in lines]


def read_header(path: Path) -> list[str]:
    """The column names of a CSV file. Raises CaseError for a missing or empty file, or one that is not CSV."""
    return _lines(path, "hour,...")[0]


def _lines(path: Path, expected: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Header and rows with their line numbers; ``expected``: what the header of an empty file should be."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise CaseError(f"{path}: no such file. A case folder needs it; see 'Case format' in the README.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CaseError(f"{path}: cannot be read ({error}). Save it as a UTF-8 CSV file.") from None
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    try:
        lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise CaseError(f"{path}, line {reader.line_num}: not valid CSV ({error}). Close every quote.") from None
    if not lines:
        raise CaseError(f"{path}: empty. Its first line must be the header {expected}.")
    return [name.strip() for name in lines[0][1]], lines[1:]


def _check_header(path: Path, header: list[str], row_type: type[Row]) -> None:
    known = row_type.model_fields
    for name in header:
        if name not in known:
            raise CaseError(f"{path}: unknown column '{name}'.{did_you_mean(name, known)}")
        if header.count(name) > 1:
            raise CaseError(f"{path}: column '{name}' appears twice. Keep one of them.")
    for name, field in known.items():
        if field.is_required() and name not in header:
            raise CaseError(f"{path}: missing column '{name}'. The header must contain it.")


def _read_row(path: Path, number: int, header: list[str], cells: list[str], row_type: type[RowType]) -> RowType:
    if len(cells) != len(header):
        raise CaseError(f"{path}, line {number}: {len(cells)} values for {len(header)} columns ({','.join(header)}).")
    values = {name: cell for name, cell in zip(header, cells, strict=True) if cell.strip()}
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
    return f"{key}: must be {message} (got {first['input']!r})."
