"""Points drawn from a weight map: where it is bright, as often as it is bright, and fresh each time."""

import numpy as np
import torch
from PIL import Image

from tasks.clouds import density
from tests.support import clips


def png(weights):
    return clips.png(Image.fromarray(weights))


def test_points_lie_in_the_square_and_keep_the_aspect_ratio():
    wide = np.zeros((90, 160), np.uint8)
    wide[:, :40] = 255  # the left quarter
    tall = np.zeros((160, 80), np.uint8)
    tall[:16] = 255  # the top tenth
    maps = density.from_maps([png(wide), png(tall)])
    cloud = density.draw(maps, torch.tensor([0, 1]), 5000, torch.Generator().manual_seed(0))
    assert cloud.shape == (2, 5000, 2) and cloud.dtype == torch.float32
    low, high = cloud.amin(1), cloud.amax(1)
    torch.testing.assert_close(low, torch.tensor([[-3, -3 * 9 / 16], [-1.5, -3]]), atol=0.02, rtol=0)
    torch.testing.assert_close(high, torch.tensor([[-1.5, 3 * 9 / 16], [1.5, -2.4]]), atol=0.02, rtol=0)


def test_points_fall_as_often_as_a_pixel_is_bright():
    weights = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    maps = density.from_maps([png(255 - weights), png(weights), png(255 - weights)])
    n = 200_000
    cloud = density.draw(maps, torch.tensor([1]), n, torch.Generator().manual_seed(0))[0].numpy()
    columns, rows = np.floor((cloud + 3) / 6 * 8).astype(int).T
    counts = np.zeros((8, 8))
    np.add.at(counts, (rows, columns), 1)
    expected = n * (weights / weights.sum())
    assert np.abs(counts - expected).max() < 6 * np.sqrt(expected.max())


def test_fresh_points_are_fresh_and_repeatable():
    maps = density.from_maps(
        [png((np.random.default_rng(i).random((256, 256)) < 0.05).view(np.uint8)) for i in range(50)]
    )
    index = torch.arange(16)
    first, second = (density.draw(maps, index, 256, torch.Generator().manual_seed(i)) for i in (0, 1))
    assert not torch.equal(first, second)
    assert torch.equal(first, density.draw(maps, index, 256, torch.Generator().manual_seed(0)))


def test_points_in_colour_have_that_of_their_pixel():
    rng = np.random.default_rng(2)
    rgba = rng.integers(0, 256, (40, 64, 4), dtype=np.uint8)
    cloud = density.draw(density.from_maps([png(rgba)]), torch.tensor([0]), 500, torch.Generator().manual_seed(0))[0]
    assert cloud.shape == (500, 5)
    column, row = ((cloud[:, :2] + torch.tensor([3, 3 * 40 / 64])) / 6 * 64).long().unbind(-1)
    assert np.array_equal(density.levels(cloud.numpy()), rgba[row, column, :3])
    assert np.array_equal(density.colored(cloud[:, :2].numpy(), png(rgba)), cloud.numpy())


def test_a_grid_holds_each_frame_where_its_points_fall():
    rng = np.random.default_rng(1)
    pictures = [
        rng.integers(0, 256, shape, dtype=np.uint8) * (rng.random(shape) < 0.3) for shape in ((90, 160), (8, 8))
    ]
    maps = density.from_maps([png(picture.astype(np.uint8)) for picture in pictures])
    index = torch.tensor([1, 0, 1])
    grids = density.raster(maps, index, 32)
    assert torch.equal(grids[0], grids[2])
    for grid, frame in zip(grids, index, strict=True):
        assert grid.sum() == pictures[frame].sum()
        points = density.draw(maps, frame[None], 200_000, torch.Generator().manual_seed(0))[0]
        column, row = ((points + 3) / 6 * 32).long().clamp(max=31).unbind(-1)
        drawn = torch.bincount(row * 32 + column, minlength=32 * 32) / len(points)
        assert (drawn - grid.flatten() / grid.sum()).abs().max() < 0.003
