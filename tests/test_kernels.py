"""Compiled functions are ready before ranks need them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
ASKED = """
from tieflow.areas.leg_kernel import leg_values
from tieflow.common.compiled import is_cached
from tieflow.common.interior_point.block_kernels import factor
from tieflow.common.interior_point.stores import factor_over_time
from tieflow.launch.runs.kernels import compile_kernels

functions = leg_values, factor, factor_over_time
print([is_cached(function) for function in functions])
notes = compile_kernels()
print([is_cached(function) for function in functions], notes)
print([sum(function.stats.cache_misses.values()) for function in functions])
"""


def asked(cache: Path) -> list[str]:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", ASKED]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, timeout=300
    ).stdout.splitlines()


def test_kernels_are_compiled_once_and_found_ready_the_next_time(tmp_path: Path) -> None:
    first, second = asked(tmp_path), asked(tmp_path)
    ready = "[True, True, True]"
    assert first[:2] == ["[False, False, False]", f"{ready} []"]
    assert second == [ready, f"{ready} []", "[0, 0, 0]"]
