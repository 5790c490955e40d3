"""Entropic transport between uniform weights by Sinkhorn's scaling of a kernel (Cuturi, arXiv 1306.0895).

A round is two products of the kernel with a vector. Scalings that grow long go into the costs as potentials, and a new
kernel is made, so that nothing overflows; a small regularization is reached by larger ones (Schmitzer, arXiv
1610.06519). Rounds are overrelaxed (Thibault et al., arXiv 1711.01851), by what the shrinking of the error so far asks
for (Young 1954): where plain rounds are slow, a tenth of them will do.
"""

import math
import warnings
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

_COARSEST, _FALL = 0.1, 0.25  # the first regularization, in units of the mean cost, and the ratio of one to the last
_WINDOW, _MOST = 10, 20_000  # rounds between two looks at the error, and in all
_TOLERANCE = 1e-9  # Euclidean norm of what the columns' weights are off
_LONG = 50.0  # logarithm of a scaling
_LARGEST = 1.95  # relaxation; 1 is plain, at 2 nothing converges


def plan(cost: Array, regularization: float) -> Array:
    """The plan [N, M] for costs [N, M], in double precision. The weights of its rows are exact."""
    level = max(regularization, _COARSEST * float(cost.mean()))
    left, kernel, u, v = _scaled(cost, level)
    relaxation, steady, before = 1.0, False, math.inf
    for _ in range(_MOST // _WINDOW):
        for _ in range(_WINDOW):
            u *= (1 / len(u) / (u * (kernel @ v))) ** relaxation
            weights = v * (u @ kernel)
            v *= (1 / len(v) / weights) ** relaxation
        error = float(np.linalg.norm(weights - 1 / len(v)))
        if level == regularization and error < _TOLERANCE:
            break
        potentials = [level * np.log(scaling) for scaling in (u[:, None], v)]
        if level > regularization:
            level = max(regularization, _FALL * level)
            left, kernel, u, v = _scaled(left - potentials[0] - potentials[1], level)
            continue
        if max(float(np.abs(p).max()) for p in potentials) > _LONG * level:
            left, kernel, u, v = _scaled(left - potentials[0] - potentials[1], level)
        wanted = _relaxation(relaxation, (error / before) ** (1 / _WINDOW)) if steady else relaxation
        steady, relaxation, before = abs(wanted - relaxation) < 0.01, wanted, error
    else:
        warnings.warn(
            f"Sinkhorn: after {_MOST} rounds the weights are {error:.1e} off; raise the regularization", stacklevel=2
        )
    kernel *= (1 / len(u) / (kernel @ v))[:, None]
    kernel *= v
    return kernel


def draw(cost: Array, shares: Array, regularization: float) -> Array:
    """A column for each row of costs [N, M], drawn from its part of the plan by shares [N] in [0, 1): [N]."""
    heaped = plan(cost, regularization)
    np.cumsum(heaped, axis=1, out=heaped)
    return (heaped < shares[:, None] * heaped[:, -1:]).sum(1)


def without_minima(cost: Array) -> Array:
    """Costs less the smallest of each row, and then of each column: all then hold a 0, and no sum of a kernel is 0."""
    left = cost - cost.min(-1, keepdims=True)
    left -= left.min(-2, keepdims=True)
    return left


def _scaled(cost: Array, level: float) -> tuple[Array, Array, Array, Array]:
    left = without_minima(cost)
    kernel = left / -level
    return left, np.exp(kernel, out=kernel), np.ones(cost.shape[0]), np.ones(cost.shape[1])


def _relaxation(now: float, shrinkage: float) -> float:
    """The best relaxation, from what a round leaves of the error at the present one."""
    if not shrinkage < 1:
        return 1.0
    plain = (shrinkage + now - 1) ** 2 / (shrinkage * now**2)
    return min(2 / (1 + math.sqrt(max(1 - plain, 0.0))), _LARGEST)
