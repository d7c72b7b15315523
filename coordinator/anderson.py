"""Anderson acceleration of a fixed-point iteration.

Source: Walker and Ni, "Anderson acceleration for fixed-point iterations" (2011), type II, with Tikhonov regularization.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from common.feeder import Floats

REGULARIZATION = 1e-10


@dataclass(frozen=True)
class Anderson:
    """The last points of an iteration and their images, oldest first."""

    memory: int
    points: tuple[Floats, ...] = field(default=())
    images: tuple[Floats, ...] = field(default=())


def accelerate(history: Anderson, point: Floats, image: Floats) -> tuple[Anderson, Floats]:
    """Add a point and its image, of one shape; return the longer history and the next point to try.

    The next point is the combination of the remembered images whose residuals cancel best.
    """
    points = (*history.points, point)[-history.memory - 1 :]
    images = (*history.images, image)[-history.memory - 1 :]
    longer = Anderson(history.memory, points, images)
    if len(points) < 2:
        return longer, image
    residuals = _differences([g - u for g, u in zip(images, points, strict=True)])
    gram = residuals.T @ residuals
    ridge = REGULARIZATION * np.trace(gram) * np.eye(len(gram))
    weights = np.linalg.lstsq(gram + ridge, residuals.T @ (image - point).ravel(), rcond=None)[0]
    return longer, image - (_differences(images) @ weights).reshape(image.shape)


def _differences(columns: Sequence[Floats]) -> Floats:
    """(number, difference)"""
    return np.diff(np.array(columns).reshape(len(columns), -1).T, axis=1)
