"""Fresh points of a frame, as many as one likes: a weight map is a density, and drawing from it is one binary search.

A weight map is a small greyscale picture whose brightness says how likely a point is there. `from_maps` lays those
of many frames end to end; `draw` picks pixels by their share of the frame's brightness and a place inside each pixel.
"""

import math
from collections.abc import Iterable
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

EXTENT = 3.0  # the longer side of a picture spans [-EXTENT, EXTENT], x to the right, y down


def from_maps(maps: Iterable[bytes]) -> dict[str, Tensor]:
    """Greyscale PNGs, one per frame and at most 256 pixels a side, as flat tensors over all their non-black pixels P.

    `pixels` uint8 [P, 2] (column, row), `cumulative` int64 [P] (running sum of brightness over all frames),
    `starts` int64 [N + 1] (`cumulative` before each frame, then in all), `sizes` uint8 [N, 2] (width and height - 1).
    """
    pixels, cumulative, starts, sizes = [], [], [0], []
    for png in maps:
        weights = np.asarray(Image.open(BytesIO(png)), dtype=np.int64)
        rows, columns = np.nonzero(weights)
        pixels.append(np.stack([columns, rows], axis=1).astype(np.uint8))
        cumulative.append(starts[-1] + np.cumsum(weights[rows, columns]))
        starts.append(starts[-1] + int(weights.sum()))
        sizes.append([weights.shape[1] - 1, weights.shape[0] - 1])
    return {
        "pixels": torch.from_numpy(np.concatenate(pixels)),
        "cumulative": torch.from_numpy(np.concatenate(cumulative)),
        "starts": torch.tensor(starts),
        "sizes": torch.tensor(sizes, dtype=torch.uint8),
    }


def draw(density: dict[str, Tensor], index: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
    """`n` fresh points of each frame in `index` [B]: [B, n, 2] in [-3, 3], x to the right, y down, aspect kept."""
    starts = density["starts"]
    low, high = starts[index, None], starts[index + 1, None]
    chance = torch.rand(len(index), n, generator=generator, dtype=torch.float64)
    chosen = torch.searchsorted(density["cumulative"], low + (chance * (high - low)).long(), right=True)
    place = density["pixels"][chosen] + torch.rand(len(index), n, 2, generator=generator)
    size = density["sizes"][index, None].float() + 1
    return (2 * place - size) * (EXTENT / size.amax(dim=-1, keepdim=True))


def raster(density: dict[str, Tensor], index: Tensor, side: int) -> Tensor:
    """The brightness of the frames in `index` [B] on a square grid over [-3, 3]²: float32 [B, side, side]."""
    starts, cumulative = density["starts"], density["cumulative"]
    first = torch.searchsorted(cumulative, starts[index], right=True)
    count = torch.searchsorted(cumulative, starts[index + 1]) + 1 - first
    owner = torch.arange(len(index)).repeat_interleave(count)
    pixel = torch.arange(len(owner)) + (first - count.cumsum(0) + count)[owner]
    weight = torch.diff(cumulative, prepend=cumulative.new_zeros(1))[pixel]
    size = density["sizes"][index].float()[owner] + 1
    longer = size.amax(dim=1, keepdim=True)
    parts = math.ceil(side / float(longer.min()))  # of a pixel that covers more than a cell, on each axis
    inside = (torch.cartesian_prod(*[torch.arange(parts)] * 2).reshape(-1, 1, 2) + 0.5) / parts
    place = density["pixels"][pixel] + inside + (longer - size) / 2
    column, row = (place * (side / longer)).long().clamp(max=side - 1).unbind(-1)
    cells = (owner * side + row) * side + column
    grid = torch.zeros(len(index) * side * side).index_add(0, cells.flatten(), (weight / parts**2).repeat(len(inside)))
    return grid.reshape(-1, side, side)
