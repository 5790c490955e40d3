"""Pictures: they can be drawn and hold what they were given."""

import io

import torch

from fm import paths, plots, toys


def drawn(figure):
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return len(stream.getvalue()) > 1000


def test_every_picture_can_be_drawn():
    mixture = toys.gaussians(4, radius=2.0, std=0.3)
    way = torch.randn(6, 50, 2).cumsum(0)
    assert drawn(plots.clouds(torch.randn(3, 50, 2), ["a", "b"], y_down=True))
    assert drawn(plots.trajectories(way))
    assert drawn(plots.field(lambda x, t: mixture.velocity(paths.linear(), x, t)))
    assert drawn(plots.density([mixture.log_density(plots.lattice(32))]))


def test_a_face_with_y_down_is_drawn_upright():
    axis = plots.clouds(torch.tensor([[[0.0, 2.0]]]), y_down=True).axes[0]
    low, high = axis.get_ylim()
    assert low > high
