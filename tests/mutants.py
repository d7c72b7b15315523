"""Deliberate faults, one at a time: which of them do the tests let live?

``python tests/mutants.py 200 --seed 1`` draws 200 faults (a swapped sign or operator, a changed number, a turned
comparison) of areas/, coordinator/ and the physics in common/, puts each into a copy of the checkout, runs the test
files that are nearest to its module by imports, and prints the survivors. Needs ``cosmic-ray``.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).parents[1]
ROOMS = ("areas", "coordinator", "common/interior_point", "common/feeder", "common/ties", "common/results")
FILES = ("common/row_kernels.py", "common/inputs/objective.py", "common/inputs/devices.py", "common/inputs/horizon.py")
PAIRS = ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "Lt_GtE", "Gt_LtE", "LtE_Gt", "GtE_Lt", "Eq_NotEq", "NotEq_Eq")
NUMBER = "core/NumberReplacer"
WORDS = ("Delete_USub", "Delete_Not", "AndWithOr", "OrWithAnd", "TrueWithFalse", "FalseWithTrue", "NumberReplacer")
PACKAGES = ("common", "areas", "coordinator", "launch")
TESTS = 8
"""files at most that a fault meets"""
INLINED = ("common/feeder/load_law.py", "common/interior_point/lanes.py", "common/interior_point/block_kernels.py")
"""built into compiled functions of other files, whose cache does not see that they changed"""
AT_MOST_S = 400
"""of the tests of one fault; a fault that takes longer counts as found"""


@dataclass(frozen=True)
class Mutant:
    module: str
    operator: str
    occurrence: int

    def code(self) -> str:
        """The module with the fault in it."""
        changed: str = mutate_code((ROOT / self.module).read_text(), get_operator(self.operator)(), self.occurrence)
        return changed

    def difference(self) -> str:
        before, after = (ROOT / self.module).read_text().splitlines(), self.code().splitlines()
        return "\n".join([*difflib.unified_diff(before, after, lineterm="", n=0)][2:])


def mutants(path: Path) -> Iterator[Mutant]:
    """All faults of a module."""
    nodes = list(ast_nodes(get_ast(path.read_text())))
    for name in operator_names():
        if name.endswith((*PAIRS, *WORDS)):
            operator = get_operator(name)()
            count = sum(1 for node in nodes for _ in operator.mutation_positions(node))
            yield from (Mutant(path.relative_to(ROOT).as_posix(), name, k) for k in range(count))


def imported(path: Path, helpers: Collection[str] = ()) -> set[str]:
    """Modules of the package, as paths, that a file imports, also by way of the tests' ``helpers``."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            if node.module in helpers:
                found |= imported(ROOT / "tests" / f"{node.module}.py", helpers)
            for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                found.add(name.removeprefix("tieflow.").replace(".", "/") + ".py")
    return {name for name in found if (ROOT / name).is_file()}


def distances(module: str, users: Mapping[str, set[str]]) -> dict[str, int]:
    """Imports between each module and one that it uses, directly (1) or by way of others."""
    found, edge = {module: 0}, [module]
    for one in edge:
        for user in sorted(users.get(one, ())):
            if user not in found:
                found[user] = found[one] + 1
                edge.append(user)
    return found


def tests_by_module() -> dict[str, list[str]]:
    """Test files of each module, nearest first; of equally near ones, those that import fewer modules."""
    helpers = {path.stem for path in (ROOT / "tests").glob("*.py") if not path.name.startswith("test_")}
    modules = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    tests = sorted((ROOT / "tests").glob("test_*.py"))
    uses = {path.relative_to(ROOT).as_posix(): imported(path, helpers) for path in (*modules, *tests)}
    users: dict[str, set[str]] = {}
    for user, used in uses.items():
        for one in used:
            users.setdefault(one, set()).add(user)
    found = {}
    for module in uses:
        near = distances(module, users)
        ranked = sorted((near[t], len(uses[t]), t) for t in near if t.startswith("tests/"))
        found[module] = [test for *_, test in ranked][:TESTS]
    return found


def survives(mutant: Mutant, checkout: Path, tests: list[str]) -> bool:
    path, original = checkout / mutant.module, (ROOT / mutant.module).read_text()
    path.write_text(mutant.code())
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    if mutant.module in INLINED:
        environment["NUMBA_CACHE_DIR"] = tempfile.mkdtemp(dir=checkout)
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider", *tests]
    try:
        ended = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, timeout=AT_MOST_S)
        return ended.returncode == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        path.write_text(original)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--first", type=int, default=0, help="of the sample, to go on with")
    asked = parser.parse_args()
    paths = sorted({*(ROOT / name for name in FILES), *(p for room in ROOMS for p in (ROOT / room).rglob("*.py"))})
    every = [mutant for path in paths for mutant in mutants(path)]
    # Most faults are numbers; a quarter of the sample is enough of them.
    by_kind = [[m for m in every if (m.operator == NUMBER) == is_number] for is_number in (False, True)]
    draw = random.Random(asked.seed)
    sample = [*draw.sample(by_kind[0], asked.count * 3 // 4), *draw.sample(by_kind[1], -(-asked.count // 4))]
    draw.shuffle(sample)
    sample = sample[asked.first :]
    tests = tests_by_module()
    print(f"{len(every)} faults in {len(paths)} modules, {len(sample)} tried", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        checkouts = [Path(folder) / str(job) for job in range(asked.jobs)]
        for checkout in checkouts:
            shutil.copytree(
                ROOT, checkout, symlinks=True, ignore=shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache")
            )

        def of_job(job: int) -> list[bool]:
            lived = []
            for number in range(job, len(sample), asked.jobs):
                mutant = sample[number]
                alive = survives(mutant, checkouts[job], tests[mutant.module])
                lived.append(alive)
                if alive:
                    what = f"{mutant.operator} {mutant.module}\n{mutant.difference()}"
                    print(f"\n{asked.first + number}: {what}", flush=True)
            return lived

        with ThreadPoolExecutor(asked.jobs) as pool:
            lived = [alive for some in pool.map(of_job, range(asked.jobs)) for alive in some]
    print(f"\n{sum(lived)} of {len(lived)} survived")


if __name__ == "__main__":
    main()
