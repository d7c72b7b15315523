"""The study file: every error names the file and the key, and the way out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from studies import STUDY, read

from tieflow.common.errors import CaseError
from tieflow.launch.studies.file import (
    ABOUT,
    Place,
    Profiles,
    Rule,
    StudyFile,
    Variant,
    find_study,
    read_study_file,
    shipped_studies,
)

DOCUMENT = Path(__file__).parent.parent / "docs" / "studies.md"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('title = "A', 'titel = "A', r"study\.toml: unknown key 'titel'\. Did you mean 'title'\?"),
        ("charge_hours = [6, 11]", "charge_hours = [6]", r"study\.toml, \[rule\]: charge_hours\.1: missing"),
        ("charge_hours = [6, 11]", "charge_hours = [6, 12]", r"\[rule\]: charge_hours and discharge_hours share 12:00"),
        (
            "charge_hours = [6, 11]",
            "charge_hours = [24, 95]",
            r"\[rule\]: charge_hours\.0: must be an hour of the day, 0",
        ),
        ("[6, 11]", '["6:00", "12:75"]', r"\[rule\]: charge_hours\.1: '12:75' is no time of day\. Write it as 19:15"),
        ("charge_hours", "charge_hour", r"\[rule\]: unknown key 'charge_hour'\. Did you mean 'charge_hours'\?"),
        (
            'kind = "pv"',
            'kind = "sun"',
            r"device 'sun': kind 'sun' is unknown\. Known: battery, flexible_load, pv, wind",
        ),
        ('kind = "pv"\n', "", r"device 'sun': kind: missing"),
        ('kind = "pv"', 'kind = ["x"]', r"device 'sun': kind: must be one of pv, .*, in quotes \(got \['x'\]\)"),
        ('bus = "c"\n', "bus = true\n", r"device 'sun': bus: must be a name \(got true\)\. Put it in quotes"),
        ('bus = "c"\n', 'bus = ["c"]\n', r"device 'sun': bus: must be a name \(got \['c'\]\)"),
        ("p_rated_kw = 30", "p_rated_kw = true", r"device 'sun': p_rated_kw: must be a number \(got true\)"),
        ("p_rated_kw = 30", "p_rated_kw = 30\nphases = 1.1", r"device 'sun': phases: phase 1 appears twice in '1\.1'"),
        ("p_rated_kw = 30", 'p_rated_kw = 30\nphases = "1-1"', r"phase 1 appears twice in '1-1'\. Connect it between"),
        ('title = "A', 'tolerance = nan\ntitle = "A', r"study\.toml: tolerance: must be"),
        ('title = "A', 'max_rounds = true\ntitle = "A', r"study\.toml: max_rounds: must be a number \(got true\)"),
        ("charge_hours = [6, 11]", "charge_hours = [1, 10000000]", r"\[rule\]: charge_hours\.1: must be an hour"),
        ('title = "A', f'x = {"[" * 9999}{"]" * 9999}\ntitle = "A', r"study\.toml: lists or tables nested too deeply"),
        (
            'note = "the',
            f'note{".a" * 9999} = "the',
            r"device 'sun': note: must be text \(got \{'a': .*\.\.\..*\)\. Put",
        ),
        ('title = "A', f'max_rounds = {"9" * 5000}\ntitle = "A', r"study\.toml: a number that is too long"),
        ("p_rated_kw = 30", "p_rate_kw = 30", r"device 'sun': unknown key 'p_rate_kw'\. Did you mean 'p_rated_kw'\?"),
        ("p_rated_kw = 30", "p_rated_kw = 40", r"device 'sun': s_rated_kva = 36\.0 is below p_rated_kw = 40\.0"),
        ("p_rated_kw = 30", 'p_rated_kw = "a lot"', r"device 'sun': p_rated_kw: must be a valid number"),
        ('bus = "c"\n', "", r"device 'sun': needs either bus or place"),
        ('bus = "c"\n', 'bus = "c"\nplace = {}\n', r"device 'sun': needs either bus or place"),
        ('bus = "c"\n', 'place = { rule = "three_phase_primary", distance = 2 }\n', r"place: distance: must be less"),
        ('bus = "c"\n', 'place = { rule = "anywhere", distance = 0 }\n', r"device 'sun', place: rule: must be 'three"),
        ("note = ", "note = 3 # ", r"device 'sun': note: must be text \(got 3\)"),
        ('devices = ["sun"]', 'devices = ["moon"]', r"variant 'with PV': no device 'moon' in \[devices\]"),
        ('devices = ["sun"]', 'devices = ["sun", "sun"]', r"variant 'with PV': device 'sun' is there twice"),
        ('devices = ["sun"]', "load_factor = 0", r"variant 'with PV': load_factor: must be greater than 0 \(got 0\)"),
        ('devices = ["sun"]', "settings = { v_min = 1 }", r"variant 'with PV': unknown setting 'v_min'\. Did you mean"),
        ('devices = ["sun"]', 'method = "adm"', r"variant 'with PV': method 'adm' is unknown\. Did you mean 'admm'\?"),
        ('devices = ["sun"]', "change = { sun = {} }", r"change of 'sun', which is not among its devices"),
        ('devices = ["sun"]', 'devices = ["sun"]\nchange = { sun = { bus = 3 } }', ""),
        (
            'devices = ["sun"]',
            'devices = ["sun"]\nchange = { sun = { down = 0.1 } }',
            r"change of 'sun': unknown key 'down'",
        ),
        (
            'devices = ["sun"]',
            'devices = ["sun"]\nchange = { sun = { kind = "wind" } }',
            r"change of the kind of 'sun'\. Make another device",
        ),
        ('name = "full"', 'name = "base"', r"two variants are called 'base'"),
        ('title = "A', 'base = "none"\ntitle = "A', r"base = 'none' is no variant"),
        ('title = "A', 'method = "dlpm"\ntitle = "A', r"study\.toml: method 'dlpm' is unknown\. Did you mean 'dlmp'\?"),
        ('title = "A', 'settings = 3\ntitle = "A', r"study\.toml: settings: must be a valid dictionary"),
        ('title = "A', "title = ", r"study\.toml: not valid TOML"),
        ('title = "A', 'areas = 0\ntitle = "A', r"study\.toml: areas: must be a number of areas, or the path of an a"),
        ('title = "A', 'commands = "solve"\ntitle = "A', r"study\.toml: commands: must be a list \(got 'solve'\)"),
        ("[rule]", '[profiles]\ncsv = "none.csv"\n\n[rule]', r"\[profiles\]: csv: .*none\.csv: no such file\. The pat"),
        ("[rule]", f'[profiles]\ncsv = "{"x" * 300}"\n\n[rule]', r"\[profiles\]: csv: .*x: no such file\. The path"),
        (
            "[rule]",
            "[settings]\nperiod = 3\n\n[rule]",
            r"\[settings\]: unknown setting 'period'\. Did you mean 'periods'",
        ),
    ],
)
def test_an_error_names_file_and_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    if not message:
        read(tmp_path, old, new)
        return
    with pytest.raises(CaseError, match=message) as told:
        read(tmp_path, old, new)
    assert str(told.value).startswith(str(tmp_path / "study.toml"))


def test_a_study_without_variants_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    path.write_text(STUDY.split("[[variants]]")[0])
    with pytest.raises(CaseError, match=r"none\.toml: variants: missing\. A study needs at least one"):
        read_study_file(str(path))


def test_a_study_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="study 'nowhere': no such file and no shipped study"):
        find_study("nowhere")


def test_a_change_goes_over_the_catalogue_and_a_device_that_moves_leaves_its_source_behind(tmp_path: Path) -> None:
    change = 'devices = ["sun"]\nchange = { sun = { bus = "b", p_rated_kw = 10 } }'
    study = read(tmp_path, 'devices = ["sun"]', change)
    base, moved, kept = (study.device("sun", variant) for variant in study.variants)
    assert base["named"] == kept["named"] == "70"
    assert moved == {"kind": "pv", "bus": "b", "p_rated_kw": 10, "s_rated_kva": 36}


@pytest.mark.parametrize("name", shipped_studies())
def test_a_shipped_study_is_found_by_its_name(name: str) -> None:
    assert find_study(name) == shipped_studies()[name]
    assert read_study_file(name).variants


def test_the_documents_show_the_study_that_is_shipped() -> None:
    assert shipped_studies()["ieee13_evening"].read_text() in DOCUMENT.read_text()


def test_every_key_of_the_file_is_documented() -> None:
    kinds = (Place, Profiles, Rule, StudyFile, Variant)
    keys = {key for kind in kinds for key in kind.model_fields} - {"path", "text"}
    assert not [key for key in (*keys, *ABOUT) if not re.search(rf"`{key}`", DOCUMENT.read_text())]
