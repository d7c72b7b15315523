"""Names along the axes of stored arrays, as HDF5 dimension scales: what xarray, netCDF and others show as coordinates.

A dataset tells its axes in the attribute ``axes``, as "bus, period". The names along each stand once, in a result's
group /axes, and have a link beside every dataset that they belong to, for readers look for them there. An axis without
names is a dimension of netCDF that has no variable.
"""

from __future__ import annotations

from collections.abc import Iterable

import h5py
import numpy as np

AXES = "axes"
LINKS = ("DIMENSION_LIST", "REFERENCE_LIST")
"""attributes by which datasets and their scales know each other"""
Users = dict[h5py.Dataset, list[tuple[h5py.Reference, int]]]
"""of each scale, the datasets that refer to it and by which of their axes"""
_NAMELESS = "This is a netCDF dimension but not a netCDF variable.%10d"


def attach_scales(group: h5py.Group) -> None:
    """Give every dataset in the group the scales of its axes, found in the nearest group /axes above; also in a copy of
    such a group, in which the scales are there but HDF5 has lost who refers to them."""
    users: Users = {}
    _attach(group, None, users)
    kind = np.dtype([("dataset", h5py.ref_dtype), ("dimension", np.int32)])
    for scale, found in users.items():
        scale.attrs.create("REFERENCE_LIST", np.array(found, kind))


def _attach(group: h5py.Group, axes: h5py.Group | None, users: Users) -> None:
    own = group.get(AXES)
    axes = own if isinstance(own, h5py.Group) else axes
    scales: dict[tuple[str, int], h5py.Dataset] = {}
    for last, item in list(group.items()):
        if isinstance(item, h5py.Group):
            _attach(item, axes, users)
            continue
        told = item.attrs.get(AXES)
        names = told.split(", ") if isinstance(told, str) else []
        if not names and item.ndim == 1 and not is_scale(item):
            # A list is its own axis.
            item.make_scale(last)
        if not names or len(names) != item.ndim:
            continue
        found = []
        for k, axis in enumerate(zip(names, item.shape, strict=True)):
            if axis not in scales:
                scales[axis] = _scale(group, axes, last, *axis)
            found.append(scales[axis])
            users.setdefault(scales[axis], []).append((item.ref, k))
        _refer(item, found)


def is_scale(item: h5py.Group | h5py.Dataset) -> bool:
    """Whether this is no data of its own but names along an axis."""
    return isinstance(item, h5py.Dataset) and bool(h5py.h5ds.is_scale(item.id))


def _scale(home: h5py.Group, axes: h5py.Group | None, last: str, name: str, size: int) -> h5py.Dataset:
    """The scale of an axis of the dataset ``last``, beside it. Where that is shorter than what stands along the axis,
    as when it is empty, it has an axis of its own, without names."""
    if name not in home and axes is not None and name in axes and axes[name].shape == (size,):
        if not is_scale(axes[name]):
            axes[name].make_scale(name)
        home[name] = axes[name]
    if name in home and home[name].shape == (size,) and is_scale(home[name]):
        return home[name]
    if name in home or (axes is not None and name in axes):
        name = f"{last}_{name}"
    if name not in home:
        home.create_dataset(name, (size,), np.int8).make_scale(_NAMELESS % size)
    return home[name]


def _refer(dataset: h5py.Dataset, scales: Iterable[h5py.Dataset]) -> None:
    lists = [np.array([scale.ref], h5py.ref_dtype) for scale in scales]
    cells = np.empty(len(lists), object)
    cells[:] = lists
    dataset.attrs.create("DIMENSION_LIST", cells, dtype=h5py.vlen_dtype(h5py.ref_dtype))
