"""Compiled functions: the one place that knows how Numba is set up.

Numba keeps what it compiled in ``__pycache__`` next to the source, else in the user's cache folder (or where
``NUMBA_CACHE_DIR`` says), and compiles again when the function's own file, the processor or Numba change. It does not
see changes of other files: a function that is built into compiled ones belongs into their file, or touch their file.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, overload

import numba

Function = TypeVar("Function", bound=Callable[..., Any])
NO_CACHE = "no locator available"
"""of the error that Numba raises where no folder takes its cache"""
_without_cache: list[str] = []


@overload
def njit(function: Function, /) -> Function: ...
@overload
def njit(*, fastmath: bool = False, inline: str = "never") -> Callable[[Function], Function]: ...
def njit(function: Any = None, /, *, fastmath: bool = False, inline: str = "never") -> Any:
    """``numba.njit``, cached where a folder takes the cache: ``@njit`` or ``@njit(fastmath=..., inline=...)``.

    Indices are not checked, and divisions by zero give inf or nan as they do in NumPy.
    """

    def compiled(function: Any) -> Any:
        decorate: Any = partial(numba.njit, boundscheck=False, error_model="numpy", fastmath=fastmath, inline=inline)
        try:
            return decorate(cache=True)(function)
        except RuntimeError as error:
            if NO_CACHE not in str(error):
                raise
            _without_cache.append(function.__qualname__)
            return decorate(cache=False)(function)

    return compiled if function is None else compiled(function)


def is_cached(function: Any) -> bool:
    """Whether some compiled form of the function is kept and not older than the function's file."""
    source = Path(function.__code__.co_filename)
    folder = Path(function.stats.cache_path)
    kept = folder.glob(f"{source.stem}.{function.__qualname__}-{function.__code__.co_firstlineno}.*.nbi")
    return any(index.stat().st_mtime >= source.stat().st_mtime for index in kept)


def uncached() -> bool:
    """Whether functions have no cache, so that every process compiles them again, which takes seconds."""
    return bool(_without_cache)
