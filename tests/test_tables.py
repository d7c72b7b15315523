"""CSV tables: what is read, and that every complaint names the file, the line and the column."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from tieflow.common.errors import CaseError
from tieflow.common.inputs.tables import Row, read_header, read_table


class Meter(Row):
    bus: Annotated[str, Field(min_length=1)]
    power_kw: float
    limit_kw: Annotated[float, Field(ge=0)] = 7.0


def table(folder: Path, text: str) -> Path:
    path = folder / "meters.csv"
    path.write_bytes(text.encode())
    return path


def complaint(path: Path) -> str:
    with pytest.raises(CaseError) as caught:
        read_table(path, Meter)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_rows_are_read_in_their_order_by_column_name(tmp_path: Path) -> None:
    path = table(tmp_path, "limit_kw,power_kw,bus\n3,-1.5,x\n4,2e1,y\n")
    assert read_table(path, Meter) == [
        Meter(bus="x", power_kw=-1.5, limit_kw=3),
        Meter(bus="y", power_kw=20, limit_kw=4),
    ]


def test_an_empty_cell_and_an_absent_column_take_the_default(tmp_path: Path) -> None:
    assert read_table(table(tmp_path, "bus,power_kw,limit_kw\nx,1, \n"), Meter)[0].limit_kw == 7
    assert read_table(table(tmp_path, "bus,power_kw\nx,1\n"), Meter)[0].limit_kw == 7


def test_a_spreadsheets_byte_order_mark_blank_lines_spaces_and_line_ends_do_no_harm(tmp_path: Path) -> None:
    path = table(tmp_path, "\ufeffbus, power_kw\r\n\r\n x ,1\r\n\r\n")
    assert read_table(path, Meter) == [Meter(bus="x", power_kw=1)]


def test_a_quoted_cell_may_hold_a_comma(tmp_path: Path) -> None:
    assert read_table(table(tmp_path, 'bus,power_kw\n"Mill Road, east",1\n'), Meter)[0].bus == "Mill Road, east"


def test_a_table_of_a_header_alone_has_no_rows(tmp_path: Path) -> None:
    assert read_table(table(tmp_path, "bus,power_kw\n"), Meter) == []


def test_an_unknown_column_suggests_the_nearest(tmp_path: Path) -> None:
    message = complaint(table(tmp_path, "bus,power_kw,limit_kwh\nx,1,2\n"))
    assert "'limit_kwh'" in message
    assert "Did you mean 'limit_kw'?" in message


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    assert "missing column 'power_kw'" in complaint(table(tmp_path, "bus\nx\n"))


def test_a_column_that_appears_twice_is_named(tmp_path: Path) -> None:
    assert "'power_kw' appears twice" in complaint(table(tmp_path, "bus,power_kw,power_kw\nx,1,2\n"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "no such file" in complaint(tmp_path / "meters.csv")


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_an_empty_file_says_what_its_header_must_be(tmp_path: Path, text: str) -> None:
    assert "bus,power_kw,limit_kw" in complaint(table(tmp_path, text))


def test_a_file_that_is_not_text_says_how_to_save_it(tmp_path: Path) -> None:
    path = tmp_path / "meters.csv"
    path.write_bytes(b"bus,power_kw\nS\xfcd,1\n")
    assert "UTF-8" in complaint(path)


def test_a_folder_in_place_of_a_table_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in complaint(tmp_path)


@pytest.mark.parametrize("row", ["y", "y,2,3,4"])
def test_a_row_of_the_wrong_length_is_named_by_its_line(tmp_path: Path, row: str) -> None:
    message = complaint(table(tmp_path, f"bus,power_kw\nx,1\n\n{row}\n"))
    assert re.search(r"line 4\b.*for 2 columns", message)


@pytest.mark.parametrize(
    ("row", "column", "value"),
    [
        ("y,nan,3", "power_kw", "nan"),
        ("y,inf,3", "power_kw", "inf"),
        ("y,12 kW,3", "power_kw", "12 kW"),
        ('y,"1,5",3', "power_kw", "1,5"),
        ("y,1,-3", "limit_kw", "-3"),
    ],
)
def test_a_value_that_cannot_be_is_named_by_line_column_and_itself(
    tmp_path: Path, row: str, column: str, value: str
) -> None:
    message = complaint(table(tmp_path, f"bus,power_kw,limit_kw\nx,1,2\n{row}\n"))
    assert f"line 3: {column}: must be" in message
    assert f"'{value}'" in message


@pytest.mark.parametrize(("row", "column"), [(",1", "bus"), ("y, ", "power_kw")])
def test_an_empty_cell_without_a_default_is_missing(tmp_path: Path, row: str, column: str) -> None:
    assert f"line 2: {column}: missing" in complaint(table(tmp_path, f"bus,power_kw\n{row}\n"))


def test_a_quote_that_is_never_closed_is_named_with_its_file(tmp_path: Path) -> None:
    assert "not valid CSV" in complaint(table(tmp_path, 'power_kw,bus\n1,x\n1,"y\n2,z\n'))


@pytest.mark.parametrize("mark", [";", "\t"])
def test_a_table_as_a_spreadsheet_with_decimal_commas_saves_it_is_read(tmp_path: Path, mark: str) -> None:
    lines = ["bus;power_kw;limit_kw;;", "x;1,5;2e1;;", ";;;;", "y;-,25;;;", "z;1.5;+0,2e1;;"]
    path = table(tmp_path, "\ufeff" + "\r\n".join(lines).replace(";", mark) + "\r\n")
    assert read_table(path, Meter) == [
        Meter(bus="x", power_kw=1.5, limit_kw=20),
        Meter(bus="y", power_kw=-0.25),
        Meter(bus="z", power_kw=1.5, limit_kw=2),
    ]
    assert read_header(path) == ["bus", "power_kw", "limit_kw"]


def test_a_name_keeps_its_comma_where_numbers_have_decimal_commas(tmp_path: Path) -> None:
    assert read_table(table(tmp_path, "bus;power_kw\n1,5;1,5\n"), Meter) == [Meter(bus="1,5", power_kw=1.5)]


def test_a_thousands_point_beside_a_decimal_comma_is_refused(tmp_path: Path) -> None:
    assert "line 2: power_kw: must be" in complaint(table(tmp_path, "bus;power_kw\nx;1.234,5\n"))


def test_empty_columns_at_the_end_do_no_harm(tmp_path: Path) -> None:
    assert read_table(table(tmp_path, "bus,power_kw,,\nx,1,,\ny,2\nz,3,\n"), Meter)[2] == Meter(bus="z", power_kw=3)
    assert read_table(table(tmp_path, "bus,power_kw\nx,1,\n"), Meter) == [Meter(bus="x", power_kw=1)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "bus,power_kw\nx,1,5\n",
            "line 2: 3 values for 2 columns (bus,power_kw). If a number has a decimal comma: write",
        ),
        (
            'bus,power_kw\nx,"1,5"\n',
            "(got '1,5'). Write numbers with a decimal point, as in 1.5, or separate columns by",
        ),
        (
            "bus,power_kw\nx;1\n",
            "line 2: 1 values for 2 columns (bus,power_kw). The row has semicolons, the header commas",
        ),
        ("bus;power_kw,limit_kw\nx;1,2\n", "column 'bus;power_kw': the header has both commas and other separators"),
        ("bus;power_kw\nx,1\n", "line 2: 1 values for 2 columns (bus;power_kw)"),
        ("bus,,power_kw\nx,,1\n", "column 2 has no name in the header. Name or remove it"),
        ("bus,power_kw,\nx,1,2\n", "line 2: 3 values for 2 columns"),
    ],
)
def test_a_table_whose_separators_disagree_names_the_cause(tmp_path: Path, text: str, words: str) -> None:
    assert words in complaint(table(tmp_path, text))
