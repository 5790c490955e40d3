"""Fresh points of a frame, as many as one likes: a weight map is a density, and drawing from it is one binary search.

A weight map is a small greyscale picture whose brightness says how likely a point is there. `from_maps` lays those
of many frames end to end; `draw` picks pixels by their share of the frame's brightness and a place inside each pixel.
In a map of RGBA the opacity says it, and each point has the colour of its pixel as three more numbers.
"""

import math
from collections.abc import Iterable
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

EXTENT = 3.0  # the longer side of a picture spans [-EXTENT, EXTENT], x to the right, y down
COLOR = 1.5  # a colour channel spans [-COLOR, COLOR], so that it weighs nearly as much as a place


def from_maps(maps: Iterable[bytes]) -> dict[str, Tensor]:
    """PNGs of weights, one per frame and at most 256 pixels a side, as flat tensors over all their pixels P above 0.

    `pixels` uint8 [P, 2] (column, row), `cumulative` int64 [P] (running sum of brightness over all frames),
    `starts` int64 [N + 1] (`cumulative` before each frame, then in all), `sizes` uint8 [N, 2] (width and height - 1),
    and of RGBA `colors` uint8 [P, 3].
    """
    pixels, cumulative, starts, sizes, colors = [], [], [0], [], []
    for png in maps:
        weights, rgb = _read(png)
        rows, columns = np.nonzero(weights)
        pixels.append(np.stack([columns, rows], axis=1).astype(np.uint8))
        cumulative.append(starts[-1] + np.cumsum(weights[rows, columns]))
        starts.append(starts[-1] + int(weights.sum()))
        sizes.append([weights.shape[1] - 1, weights.shape[0] - 1])
        if rgb is not None:
            colors.append(rgb[rows, columns])
    found = {
        "pixels": torch.from_numpy(np.concatenate(pixels)),
        "cumulative": torch.from_numpy(np.concatenate(cumulative)),
        "starts": torch.tensor(starts),
        "sizes": torch.tensor(sizes, dtype=torch.uint8),
    }
    return found | ({"colors": torch.from_numpy(np.concatenate(colors))} if colors else {})


def draw(density: dict[str, Tensor], index: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
    """`n` fresh points of each frame in `index` [B]: [B, n, 2] in [-3, 3], x to the right, y down, aspect kept.

    With colours [B, n, 5]: red, green and blue follow, in [-`COLOR`, `COLOR`].
    """
    starts = density["starts"]
    low, high = starts[index, None], starts[index + 1, None]
    chance = torch.rand(len(index), n, generator=generator, dtype=torch.float64)
    chosen = torch.searchsorted(density["cumulative"], low + (chance * (high - low)).long(), right=True)
    place = density["pixels"][chosen] + torch.rand(len(index), n, 2, generator=generator)
    size = density["sizes"][index, None].float() + 1
    place = (2 * place - size) * (EXTENT / size.amax(dim=-1, keepdim=True))
    return torch.cat([place, _scaled(density["colors"][chosen])], dim=-1) if "colors" in density else place


def colored(cloud: np.ndarray, png: bytes) -> np.ndarray:
    """Points [N, 2] that were drawn from a map, with its colours there: [N, 5]; as they are if it has none."""
    if Image.open(BytesIO(png)).mode != "RGBA":  # its head says so, and the pixels need not be decoded
        return cloud
    weights, rgb = _read(png)
    assert rgb is not None
    size = np.array(weights.shape[::-1])
    column, row = ((cloud * (size.max() / EXTENT) + size) / 2).astype(int).clip(0, size - 1).T
    return np.concatenate([cloud, _scaled(torch.from_numpy(rgb[row, column])).numpy()], axis=1)


def levels(points: np.ndarray) -> np.ndarray:
    """The colours of points [N, 5], from 0 to 255: uint8 [N, 3]."""
    return np.rint((points[:, 2:] / COLOR + 1).clip(0, 2) * 127.5).astype(np.uint8)


def _scaled(colors: Tensor) -> Tensor:
    return COLOR * (colors.float() / 127.5 - 1)


def _read(png: bytes) -> tuple[np.ndarray, np.ndarray | None]:
    """Weights int64 [H, W] of a map, and its colours uint8 [H, W, 3] if it has some."""
    values = np.asarray(Image.open(BytesIO(png)))
    if values.ndim == 2:
        return values.astype(np.int64), None
    return values[..., 3].astype(np.int64), values[..., :3]


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
