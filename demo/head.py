"""The head's surface in space: an egg with a jaw, on which everything else of a face is placed."""

import numpy as np

WIDTH, DEPTH = 0.83, 0.86


def _taper(y: np.ndarray, jaw: float) -> np.ndarray:
    """Share of the full width at height y: an ellipse above, a fuller curve towards the chin below."""
    above = np.sqrt(np.clip(1 - y**2, 0, 1))
    below = np.clip(1 - np.clip(y, 0, 1) ** jaw, 0, 1) ** 0.5
    return np.where(y < 0, above, below)


def jaw_of(gender: str) -> float:
    """Exponent of the jaw: larger is squarer."""
    return 2.15 if gender == "female" else 2.7


def on_face(x: np.ndarray, y: np.ndarray, jaw: float, lift: float = 0.0) -> np.ndarray:
    """Points [N, 3] of the face seen at (x, y) from the front, raised above the skin by `lift`."""
    x, y = np.broadcast_arrays(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
    taper = np.maximum(_taper(y, jaw), 1e-3)
    z = DEPTH * taper * np.sqrt(np.clip(1 - (x / (WIDTH * taper)) ** 2, 0.02, 1)) + lift
    return np.stack((x, y, z), axis=-1)


def shell(
    theta: np.ndarray, y: np.ndarray, jaw: float, grow: float = 1.0, rise: float = 0.0, straight_from: float | None = None
) -> np.ndarray:
    """Points [N, 3] round the head at longitude theta (0 in front, radians, towards the picture's right) and height y.

    Grown by a factor and shifted up by `rise`; below `straight_from` the wall falls straight instead of tapering.
    """
    theta, y = np.broadcast_arrays(np.asarray(theta, dtype=float), np.asarray(y, dtype=float))
    own = (y + rise) / grow
    if straight_from is not None:
        own = np.minimum(own, straight_from)
    taper = _taper(np.clip(own, -1, 1), jaw) * grow
    return np.stack((WIDTH * taper * np.sin(theta), y, DEPTH * taper * np.cos(theta)), axis=-1)


def mesh(jaw: float, grow: float = 1.0, rise: float = 0.0, bottom: float = 1.0, straight_from: float | None = None) -> np.ndarray:
    """Points [N, 3] spread over the shell from its crown down to `bottom`."""
    top = -grow - rise
    low = min(bottom, grow - rise) if straight_from is None else bottom
    y = (top + low) / 2 - (low - top) / 2 * np.cos(np.linspace(0, np.pi, 30))
    theta = np.linspace(-np.pi, np.pi, 40, endpoint=False)
    grid_theta, grid_y = np.meshgrid(theta, y)
    return shell(grid_theta.ravel(), grid_y.ravel(), jaw, grow, rise, straight_from)
