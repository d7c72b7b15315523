"""Whether a stored group is as it was written.

HDF5 itself checks its own structure and, by Fletcher's checksum, the numbers of every dataset, which may therefore be
changed in place by whatever writes HDF5. What it does not check is in the group's attribute ``checksum``: SHA-256 of
all attributes, texts, names and shapes.
"""

from __future__ import annotations

import hashlib
from typing import Any

import h5py
import numpy as np

from tieflow.common.results.scales import LINKS

CHECKSUM = "checksum"
_HEAP = b"GCOL\1"


def seal(group: h5py.Group) -> None:
    """Store the checksum of a group that is complete."""
    group.attrs[CHECKSUM] = _checksum(group)


def check_seal(group: h5py.Group) -> None:
    """Raises ValueError for a group that has another checksum than is stored, or none."""
    if str(group.attrs.get(CHECKSUM)) != _checksum(group):
        raise ValueError("its checksum does not fit its attributes, names and texts")


def check_heaps(content: bytes) -> None:
    """Raises ValueError for a file in which HDF5 would look for a text for ever: it walks through its heaps of texts,
    which have no checksum, by the length that each entry tells, and stands still at a free one of length 0."""
    heap = content.find(_HEAP)
    while heap >= 0:
        entry, end = heap + 16, min(heap + int.from_bytes(content[heap + 8 : heap + 16], "little"), len(content))
        while entry + 16 <= end:
            is_free = content[entry : entry + 2] == b"\0\0"
            size = int.from_bytes(content[entry + 8 : entry + 16], "little")
            if is_free and not size:
                raise ValueError("its texts are damaged")
            entry += size if is_free else 16 + 8 * -(-size // 8)
        heap = content.find(_HEAP, heap + len(_HEAP))


def _checksum(group: h5py.Group) -> str:
    found = hashlib.sha256()
    _feed(found, group)
    return found.hexdigest()


def _feed(found: Any, item: h5py.Group | h5py.Dataset) -> None:
    for name in sorted(item.attrs):
        if name != CHECKSUM and name not in LINKS:
            found.update(f"attribute {name!r} ".encode())
            _feed_value(found, item.attrs[name])
    if isinstance(item, h5py.Dataset):
        found.update(f"dataset {item.shape} {item.dtype.str} ".encode())
        if h5py.check_string_dtype(item.dtype):
            _feed_value(found, item[()])
        return
    for name in sorted(item):
        part = item[name]
        found.update(f"part {name!r} ".encode())
        # What has a checksum of its own, as a run in a study, need not be read for that of the whole.
        if CHECKSUM in part.attrs:
            _feed_value(found, part.attrs[CHECKSUM])
        else:
            _feed(found, part)


def _feed_value(found: Any, value: Any) -> None:
    if isinstance(value, h5py.Empty):
        found.update(b"null ")
        return
    cells = np.asarray(value)
    found.update(f"{cells.shape} {cells.dtype.kind} ".encode())
    if cells.dtype.kind not in "OU":
        found.update(cells.tobytes())
        return
    for cell in cells.ravel():
        text = cell if isinstance(cell, bytes) else str(cell).encode()
        found.update(f"{len(text)} ".encode() + text)
