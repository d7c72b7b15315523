"""A study as data: what its variants gave, optimized and by the plain rule, as it is stored."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel

from tieflow.common.errors import counted
from tieflow.common.results.result import Result


@dataclass(frozen=True)
class Placement:
    """Where a variant's device is."""

    device: str
    """its name in the study file"""
    kind: str
    """``pv``, ``wind``, ``battery`` or ``flexible_load``"""
    rated_kw: float
    """per phase of a balanced case"""
    named: str
    """bus that the study's source names; empty where that is not told"""
    bus: str
    phases: str
    """as OpenDSS numbers them, such as ``1.2.3`` or ``1-2``; empty in a balanced case"""
    note: str


@dataclass(frozen=True)
class VariantRun:
    """A variant that has been run, or why it could not be."""

    name: str
    digest: str
    """of all inputs; a run with the same digest would give the same"""
    exit_code: int
    """what ``tieflow solve`` would end with"""
    failure: str
    """why there is no optimized run; empty when there is one"""
    rule_failure: str
    """why there is no run by the plain rule; empty when there is one, or the variant has no devices"""
    placements: tuple[Placement, ...]
    optimized: Result | None = None
    rule: Result | None = None
    """the same devices by the plain rule; None also for a variant without devices, where it would be the same run"""


@dataclass(frozen=True)
class StudyHead:
    """What is stored about a study besides its variants."""

    name: str
    """the study file's, without its ending; empty in files that older versions have made"""
    title: str
    case: str
    """the name of the case"""
    base: str
    """the variant that others are compared with"""
    monitored_bus: str
    """bus whose voltage is shown over the variants; empty: none"""
    order: tuple[str, ...]
    """variants, as the study file has them"""
    text: str
    """the study file"""


@dataclass(frozen=True)
class StoredStudy:
    """A study file's variants that have been run."""

    head: StudyHead
    variants: Mapping[str, VariantRun]
    """in the order of the study file"""

    def __repr__(self) -> str:
        """Which study, of what, and how many of its variants have been run, in a line."""
        runs, head = self.variants.values(), self.head
        failed = sum(run.optimized is None for run in runs)
        told = f"{len(runs)} of {counted(len(head.order), 'variant')} of {head.case}" + f", {failed} FAILED" * (
            failed > 0
        )
        return f"<StoredStudy {head.name or head.title}: {told}>"


def digest(*items: Any) -> str:
    """A fingerprint of data classes, models, arrays and plain values: equal for equal values only."""
    found = hashlib.sha256()
    for item in items:
        _feed(found, item)
    return found.hexdigest()


def _feed(found: Any, item: Any) -> None:
    if is_dataclass(item):
        pairs = {field.name: getattr(item, field.name) for field in fields(item)}
        _feed(found, pairs)
    elif isinstance(item, BaseModel):
        _feed(found, {name: getattr(item, name) for name in type(item).model_fields})
    elif isinstance(item, np.ndarray):
        found.update(f"array {item.dtype} {item.shape} ".encode())
        found.update(np.ascontiguousarray(item).tobytes())
    elif isinstance(item, Mapping):
        found.update(f"mapping {len(item)} ".encode())
        for key, value in item.items():
            _feed(found, key)
            _feed(found, value)
    elif isinstance(item, tuple | list):
        found.update(f"list {len(item)} ".encode())
        for value in item:
            _feed(found, value)
    else:
        text = repr(item)
        found.update(f"{type(item).__name__} {len(text)} {text} ".encode())
