"""Every example runs from start to end on a small project, and what it writes can be read."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from examples import cloud_files, morph, ten_thousand, three_d
from tasks.clouds import training_set
from tasks.errors import StippleError


@pytest.fixture
def tiny(monkeypatch):
    """Few steps and points for all of them."""
    few = {"CLOUDS": 4, "POINTS": 16, "DRAWN": 40, "COMPARED": 3, "SHOWN": 2, "MANY": 70}
    for module in (morph, ten_thousand, three_d):
        for name, value in few.items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)
        if hasattr(module, "CONFIG"):
            monkeypatch.setattr(module, "CONFIG", replace(module.CONFIG, steps=2))


def colors_of(path):
    with Image.open(path) as picture:
        return len(picture.convert("RGB").getcolors(1 << 20))


def test_ten_thousand_points(tiny, trained, tmp_path, capsys):
    ten_thousand.main(trained, tmp_path)
    assert colors_of(tmp_path / "ten-thousand.png") > 2
    assert "70 points, " in capsys.readouterr().out


def test_one_face_becomes_another(tiny, trained, tmp_path, capsys):
    ids = training_set.load(trained)["frame_ids"]
    morph.main((ids[0], ids[-1]), trained, tmp_path)
    assert colors_of(tmp_path / "morph.png") > 2
    assert "morphed: Chamfer" in capsys.readouterr().out
    with pytest.raises(StippleError, match="give two frames of the data set"):
        morph.main((ids[0], "nobody.mp4/000000"), trained, tmp_path)


def test_solids_turn_and_are_written(tiny, tmp_path, capsys):
    three_d.main(output=tmp_path)
    with Image.open(tmp_path / "solids.gif") as gif:
        assert gif.n_frames > 8
    for name in three_d.SOLIDS:
        assert np.array_equal(cloud_files.read(tmp_path / f"{name}.ply"), cloud_files.read(tmp_path / f"{name}.npy"))
    assert capsys.readouterr().out.count("Chamfer") == len(three_d.SOLIDS)


@pytest.mark.parametrize("name", ["own.ply", "own.npy"])
def test_a_cloud_of_ones_own_comes_back_where_it_was_and_as_large(tiny, tmp_path, name):
    own = torch.randn(300, 3, generator=torch.Generator().manual_seed(0)) * 20 + torch.tensor([500.0, 0.0, -100.0])
    cloud_files.write(tmp_path / name, own.numpy())
    three_d.main(tmp_path / name, tmp_path / "out")
    drawn = cloud_files.read(tmp_path / "out" / "own.ply")
    assert np.abs(drawn.mean(0) - own.mean(0).numpy()).max() < 20
    assert 10 < drawn.std(0).min() < drawn.std(0).max() < 50
    assert (tmp_path / "out" / "own.gif").is_file()


@pytest.mark.parametrize(("dim", "reason"), [(2, "holds points of 2 coordinates"), (3, "holds one place alone")])
def test_a_cloud_that_cannot_be_learned_is_refused_in_one_line(tiny, tmp_path, dim, reason):
    cloud_files.write(tmp_path / "x.npy", np.zeros((5, dim), dtype=np.float32))
    with pytest.raises(StippleError, match=rf"x\.npy {reason}"):
        three_d.main(tmp_path / "x.npy", tmp_path)
