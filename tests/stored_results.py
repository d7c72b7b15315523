"""Stored results to be changed as if an earlier version had written them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py


@contextmanager
def older(path: Path) -> Iterator[h5py.File]:
    """A result's or a study's file, to be written to, as one of the first version: without checksums."""
    with h5py.File(path, "r+") as file:
        groups = [file]
        file.visititems(lambda _, item: groups.append(item) if "checksum" in item.attrs else None)
        for group in groups:
            group.attrs["format_version"] = 1
            del group.attrs["checksum"]
        yield file
