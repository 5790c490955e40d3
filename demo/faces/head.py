"""The head's surface in space: an egg with a jaw, on which everything else of a face is placed."""

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

WIDTH, DEPTH = 0.83, 0.86
FRONT = 4.5  # exponent of the profile from brow to chin


def _taper(y: np.ndarray, jaw: float) -> np.ndarray:
    """Share of the full width at height y: an ellipse above, a fuller curve towards the chin below."""
    size = np.minimum(np.abs(y), 1.0)
    return np.sqrt(1 - size ** np.where(y < 0, 2.0, jaw))


def jaw_of(gender: str) -> float:
    """Exponent of the jaw: larger is squarer."""
    return 2.15 if gender == "female" else 2.7


def on_face(x: ArrayLike, y: ArrayLike, jaw: float, lift: float = 0.0) -> np.ndarray:
    """Points [N, 3] of the face seen at (x, y) from the front, raised above the skin by `lift`."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    below = y > 0
    width = WIDTH * np.maximum(_taper(y, jaw), np.where(below, 0.8, 0.3))
    depth = DEPTH * np.maximum(_taper(y, FRONT), np.where(below, 0.87, 0.0))
    z = depth * np.sqrt(np.clip(1 - (x / width) ** 2, 0.02, 1)) + lift
    return np.stack(np.broadcast_arrays(x, y, z), axis=-1)


def shell(
    theta: ArrayLike,
    y: ArrayLike,
    jaw: float,
    grow: float = 1.0,
    rise: float = 0.0,
    straight_from: float | None = None,
) -> np.ndarray:
    """Points [N, 3] round the head at longitude theta (0 in front, radians, towards the picture's right) and height y.

    Grown by a factor and shifted up by `rise`; below `straight_from` the wall falls straight instead of tapering.
    """
    theta, y = np.broadcast_arrays(np.asarray(theta, dtype=float), np.asarray(y, dtype=float))
    own = (y + rise) / grow
    if straight_from is not None:
        own = np.minimum(own, straight_from)
    own = np.clip(own, -1, 1)
    depth = np.where(np.cos(theta) > 0, _taper(own, FRONT), _taper(own, jaw))
    return np.stack((WIDTH * grow * _taper(own, jaw) * np.sin(theta), y, DEPTH * grow * depth * np.cos(theta)), axis=-1)


@lru_cache(maxsize=64)
def mesh(
    jaw: float, grow: float = 1.0, rise: float = 0.0, bottom: float = 1.0, straight_from: float | None = None
) -> np.ndarray:
    """Points [N, 3] spread over the shell from its crown down to `bottom`; not to be written to."""
    top = -grow - rise
    low = min(bottom, grow - rise) if straight_from is None else bottom
    y = (top + low) / 2 - (low - top) / 2 * np.cos(np.linspace(0, np.pi, 28))
    theta = np.linspace(-np.pi, np.pi, 36, endpoint=False)
    grid_theta, grid_y = np.meshgrid(theta, y)
    return shell(grid_theta.ravel(), grid_y.ravel(), jaw, grow, rise, straight_from)


def with_jaw_dropped(points: np.ndarray, drop: float) -> np.ndarray:
    """The points [N, 3] with the chin lowered by `drop`, as a mouth's opening does."""
    return points + np.array((0, drop, 0)) * np.clip((points[:, 1:2] - 0.3) / 0.7, 0, None) ** 1.5
