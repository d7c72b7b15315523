"""Real runs of the command for the acceptance tests: started, watched, and never left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

MARK = "TIEFLOW_ACCEPTANCE_RUN"
"""environment variable by which all processes of one run are found again"""
RANK_NAMES = ("PMI_RANK", "OMPI_COMM_WORLD_RANK")
ROUND_LINE = re.compile(r"^ +\d+  (?:admm|dlmp|enapp|centralized) +\S+ +\S+ +\S+ +\S+ +\S+ s$", re.MULTILINE)
GONE_WITHIN_S = 10.0


@dataclass(frozen=True)
class Run:
    """A run that has ended."""

    code: int
    stdout: str
    stderr: str
    left_over: tuple[int, ...]
    """processes still there well after the launcher ended"""

    @property
    def text(self) -> str:
        return self.stdout + self.stderr

    @property
    def rounds(self) -> list[str]:
        """The lines that rounds print, on either stream."""
        return ROUND_LINE.findall(self.text)

    def json(self) -> Any:
        """What --json printed, which must be all of stdout."""
        try:
            return json.loads(self.stdout)
        except json.JSONDecodeError as error:
            raise AssertionError(f"stdout is not JSON ({error}), code {self.code}:\n{self.text}") from None


class Launch:
    """A command at work. On leaving the ``with`` block, none of its processes is left."""

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> None:
        bin_folder = str(Path(sys.executable).parent)
        self._mark = uuid.uuid4().hex
        variables = {
            **os.environ,
            "PATH": bin_folder + os.pathsep + os.environ.get("PATH", ""),
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            "OMPI_MCA_rmaps_base_oversubscribe": "1",
            "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
            "OMP_NUM_THREADS": "1",
            MARK: self._mark,
            **(environment or {}),
        }
        with ExitStack() as stack:
            self._out = stack.enter_context(tempfile.TemporaryFile())
            self._err = stack.enter_context(tempfile.TemporaryFile())
            self._streams = stack.pop_all()
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
            # Tests that run in the background ignore Ctrl-C, and would pass that on.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def __enter__(self) -> Launch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kill()
        self._streams.close()

    def processes(self) -> dict[int, dict[str, str]]:
        """Environment of each living process of this run, launcher and its helpers included."""
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                raw = (entry / "environ").read_bytes()
            except OSError:
                continue
            if f"{MARK}={self._mark}".encode() in raw:
                pairs = (text.partition("=") for text in raw.decode(errors="replace").split("\0"))
                found[int(entry.name)] = {name: value for name, _, value in pairs}
        return found

    def pid_of_rank(self, rank: int) -> int:
        """The process that is this rank, not one that it started."""
        ranks = [
            pid
            for pid, variables in self.processes().items()
            if any(variables.get(name) == str(rank) for name in RANK_NAMES)
        ]
        assert ranks, f"no process says that it is rank {rank}"
        return min(ranks)

    def interrupt(self) -> None:
        """Ctrl-C at the launcher, once."""
        self._process.send_signal(signal.SIGINT)

    def wait_for_rounds(self, count: int, timeout_s: float = 60.0) -> None:
        until = time.monotonic() + timeout_s
        while len(ROUND_LINE.findall(_text(self._out) + _text(self._err))) < count:
            assert self._process.poll() is None, f"ended before round {count}: {_text(self._out)}{_text(self._err)}"
            assert time.monotonic() < until, f"no round {count} within {timeout_s} s"
            time.sleep(0.02)

    def finish(self, timeout_s: float) -> Run:
        """Wait for the end of the launcher, then a little for that of all its processes."""
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout_s} s: {_text(self._out)}{_text(self._err)}") from None
        until = time.monotonic() + GONE_WITHIN_S
        while (left := self.processes()) and time.monotonic() < until:
            time.sleep(0.05)
        return Run(code, _text(self._out), _text(self._err), tuple(left))

    def _kill(self) -> None:
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.wait()


def mpirun(ranks: int, *command: str) -> list[str]:
    return ["mpirun", "-n", str(ranks), *command]


def run(
    command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None, timeout_s: float = 90.0
) -> Run:
    """Run a command in a folder to its end."""
    with Launch(command, folder, environment) as launch:
        return launch.finish(timeout_s)


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file below a folder, hidden and temporary ones too."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _text(stream: Any) -> str:
    # pread, for the position belongs to the processes that write.
    return os.pread(stream.fileno(), 1 << 24, 0).decode(errors="replace")
