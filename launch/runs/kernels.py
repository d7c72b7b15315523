"""The compiled functions, made ready before ranks need them: ``python -m tieflow.launch.runs.kernels``."""

from __future__ import annotations

from tieflow.common.case import read_case
from tieflow.common.compiled import is_cached, uncached
from tieflow.common.ties.boundary import make_boundary
from tieflow.common.ties.cutting import partition
from tieflow.common.wire.transport import areas_at_work
from tieflow.coordinator.loop import Task
from tieflow.coordinator.methods import newton
from tieflow.launch.runs.partition import in_areas


def compile_kernels() -> list[str]:
    """Compile what no cache holds yet, so that ranks need not, all at once. A note where no folder takes a cache."""
    from tieflow.areas.exact_area import ExactArea
    from tieflow.areas.leg_kernel import leg_values
    from tieflow.common.interior_point.block_kernels import factor
    from tieflow.common.interior_point.stores import factor_over_time

    if uncached():
        return [
            "no folder takes a cache of compiled functions, so every rank compiles them in every run, which takes "
            "seconds: let NUMBA_CACHE_DIR name a folder that can be written"
        ]
    if not all(map(is_cached, (leg_values, factor, factor_over_time))):
        parts = partition(in_areas(read_case("ieee13", {"periods": 2}), 2), exact=True)
        with areas_at_work(None, parts.areas, ExactArea) as transport:
            newton.solve(Task(make_boundary(parts), transport, [area.name for area in parts.areas], 1e-5, 100))
    return []


if __name__ == "__main__":
    compile_kernels()
