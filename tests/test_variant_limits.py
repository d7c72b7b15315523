"""Limits of branches that a study sets: over those of its case, with the checks of the case's own table."""

from __future__ import annotations

from pathlib import Path

import pytest

from tieflow.common.case import Case, read_case
from tieflow.common.errors import CaseError
from tieflow.launch.studies.file import read_study_file
from tieflow.launch.studies.run import run_variant
from tieflow.launch.studies.variants import Resolved, Unresolved, resolve

HEAD = """\
keep_devices = true
areas = 1
settings = { periods = 4 }
"""
FIRST = "line.650632"


def row(branch: str, s_max_kva: float) -> str:
    return f'{{ branch = "{branch}", s_max_kva = {s_max_kva} }}'


def study(folder: Path, case: str, variants: dict[str, str], limits: str = "") -> dict[str, Resolved]:
    path = folder / "limits.toml"
    text = f'case = "{case}"\nbranch_limits = [{limits}]\n{HEAD}'
    path.write_text(text + "".join(f'[[variants]]\nname = "{k}"\nbranch_limits = [{v}]\n' for k, v in variants.items()))
    found = {}
    for variant in resolve(read_study_file(str(path))):
        if isinstance(variant, Unresolved):
            raise variant.error
        found[variant.name] = variant
    return found


def kva(case: Case) -> dict[str, float]:
    return {limit.branch: limit.s_max_kva for limit in case.branch_limits}


def test_a_limit_that_binds_costs_more_and_is_kept(tmp_path: Path) -> None:
    # Free, the first line carries 2255 and 2181 kVA in the first two hours.
    jobs = study(tmp_path, "ieee13", {"free": row(FIRST, 1e6), "limited": row(FIRST, 2170)})
    free, limited = (run_variant(jobs[name], None, lambda: None) for name in ("free", "limited"))
    assert free.optimized is not None and limited.optimized is not None
    loads = []
    for run in (free.optimized, limited.optimized):
        assert run.check is not None and run.check.passed and not run.check.violations
        loads.append(run.check.state.branch_kva.max())
    assert loads[0] > 2250 and loads[1] == pytest.approx(2170, rel=1e-4)
    assert limited.optimized.objective > free.optimized.objective * (1 + 1e-5)
    assert free.digest != limited.digest


def test_limits_of_a_variant_come_over_the_studys_and_those_over_the_cases(tmp_path: Path) -> None:
    own = tmp_path / "mine"
    own.mkdir()
    for name in ("case.toml", "circuit.dss", "profiles.csv"):
        (own / name).write_text((Path("launch/cases/ieee13") / name).read_text())
    (own / "branch_limits.csv").write_text(f"branch,s_max_kva\n{FIRST},900\ntransformer.reg1,800\nline.632645,70\n")
    variants = {"plain": "", "own": f"{row('transformer.reg3', 5)}, {row('line.671680', 6)}"}
    found = study(tmp_path, "mine", variants, f"{row('Line.650632', 90)}, {row('transformer.reg2', 80)}")
    assert kva(found["plain"].case) == {"line.632645": 70, "Line.650632": 90, "transformer.reg2": 80}
    assert kva(found["own"].case) == {
        "line.632645": 70, "Line.650632": 90, "transformer.reg3": 5, "line.671680": 6
    }  # fmt: skip


def test_a_limit_of_a_balanced_case_is_that_of_its_table_of_branches(small: Path) -> None:
    case = read_case(str(small))
    names = [case.balanced_feeder.branch_name(k) for k in range(2)]
    turned = "-".join(reversed(names[1].split("-")))
    found = study(small.parent, "small", {"v": f"{row(names[0], 40)}, {row(turned, 50)}"})["v"].case
    base_kva = case.settings.base_kva
    assert (found.feeder.s_max[:2] * base_kva).tolist() == [40, 50]
    assert found.feeder.s_max[2:].tolist() == case.balanced_feeder.s_max[2:].tolist()
    for rows, words in (
        (row("a-z", 3), "unknown branch 'a-z'."),
        (f"{row(names[1], 3)}, {row(turned, 4)}", f"'{turned}' is the same branch as '{names[1]}', which has a limit."),
    ):
        with pytest.raises(CaseError) as told:
            study(small.parent, "small", {"v": rows})
        assert f"limits.toml, variant 'v', branch_limits: {words}" in str(told.value)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (row("line.650623", 9), "v', branch_limits: unknown branch 'line.650623'. Did you mean 'line.650632'?"),
        (f"{row('transformer.reg1', 9)}, {row('transformer.reg3', 9)}", "'transformer.reg3' is the same branch as 'tr"),
        (row(FIRST, 0), "variant 'v': branch_limits.0.s_max_kva: must be greater than 0 (got 0)"),
        ('{ branch = "line.650632", s_max = 9 }', "branch_limits.0.s_max_kva: missing"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, rows: str, words: str) -> None:
    with pytest.raises(CaseError) as told:
        study(tmp_path, "ieee13", {"v": rows})
    assert "limits.toml" in str(told.value) and words in str(told.value)
