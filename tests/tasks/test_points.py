"""Frames to points: a line where one would be drawn, whoever is drawn, and a reason where there is nothing to draw."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tasks import frames, points
from tasks.errors import Refused
from tasks.store import tables
from tests.support.clips import png, refused, settings_with, video


def drawing(paint, size=(200, 200), background="white", scale=4):
    image = Image.new("RGB", tuple(scale * side for side in size), background)
    paint(ImageDraw.Draw(image), scale)
    return np.asarray(image.resize(size, Image.Resampling.BOX), np.float32) / 255


def share(weights, box):
    left, top, right, bottom = box
    return weights[top:bottom, left:right].sum() / weights.sum()


def mean_distance(weights, radius, centre=100):
    """Mean distance of the weight to a circle of `radius`, and the same of its outermost twentieth, in pixels."""
    rows, columns = np.nonzero(weights)
    distance = np.abs(np.hypot(columns + 0.5 - centre, rows + 0.5 - centre) - radius)
    return np.average(distance, weights=weights[rows, columns]), np.quantile(distance, 0.95)


@pytest.mark.parametrize("stroke", [2, 3])
def test_a_stroke_is_one_line_not_two(stroke):
    half = stroke / 2
    rgb = drawing(lambda d, s: d.ellipse([30 * s, 30 * s, 170 * s, 170 * s], outline="black", width=stroke * s))
    mean, worst = mean_distance(points.weigh(rgb, "contour"), 70 - half)
    assert mean < 1.0 and worst < half + 1.5


def test_an_edge_is_a_line_on_the_edge():
    rgb = drawing(lambda d, s: d.ellipse([30 * s, 30 * s, 170 * s, 170 * s], fill=(90, 60, 50)))
    mean, worst = mean_distance(points.weigh(rgb, "contour"), 70)
    assert mean < 1.2 and worst < 4


def face(skin, line):
    def paint(d, s):
        d.ellipse([40 * s, 20 * s, 160 * s, 180 * s], fill=skin, outline=line, width=2 * s)
        for x in (75, 125):
            d.ellipse([(x - 10) * s, 75 * s, (x + 10) * s, 90 * s], fill="white", outline=line, width=s)
            d.ellipse([(x - 4) * s, 78 * s, (x + 4) * s, 87 * s], fill="black")
        d.arc([75 * s, 110 * s, 125 * s, 145 * s], 20, 160, fill=line, width=3 * s)

    return drawing(paint, background=(232, 236, 244))


SKINS = {"light": ((252, 226, 210), (120, 70, 50)), "dark": ((88, 58, 46), (45, 20, 12))}
EYES, MOUTH = (60, 70, 140, 95), (70, 115, 130, 150)


def test_dark_skin_is_drawn_like_light_skin():
    drawn = {tone: points.weigh(face(*colors), "contour") for tone, colors in SKINS.items()}
    for part in (EYES, MOUTH):
        assert 0.5 < share(drawn["dark"], part) / share(drawn["light"], part) < 2
        assert share(drawn["dark"], part) > 0.04
    blob = points.weigh(face(*SKINS["dark"]), "threshold")
    assert (blob > 0).sum() > 10 * (points.weigh(face(*SKINS["light"]), "threshold") > 0).sum()


def test_noise_of_compression_is_not_drawn():
    rgb = face(*SKINS["light"])
    buffer = io.BytesIO()
    Image.fromarray((rgb * 255).astype(np.uint8)).save(buffer, "jpeg", quality=75)
    weights = points.weigh(points.decode(buffer.getvalue()), "contour")
    flat = [(0, 0, 200, 15), (0, 0, 35, 200), (75, 40, 125, 65), (165, 0, 200, 200)]
    assert sum(share(weights, box) for box in flat) < 0.01


def test_a_soft_gradient_and_the_border_are_not_drawn():
    ramp = np.broadcast_to(np.linspace(0.1, 0.9, 200, dtype=np.float32)[:, None, None], (200, 120, 3))
    with pytest.raises(Refused, match=r"has nothing to draw: 0 of its 24000 pixels"):
        points.weigh(ramp, "contour")


@pytest.mark.parametrize("weighting", ["contour", "threshold"])
@pytest.mark.parametrize("size", [(1, 1), (2, 300), (40, 40)])
def test_white_pictures_are_refused_with_the_count(weighting, size):
    with pytest.raises(Refused, match=r"nothing to draw: 0 of its \d+ pixels"):
        points.weigh(np.ones((*size, 3), np.float32), weighting)


def test_threshold_is_the_original_recipe():
    grey = np.random.default_rng(0).integers(0, 256, (50, 60), dtype=np.uint8)
    weights = points.weigh(points.decode(png(Image.fromarray(np.dstack([grey] * 3)))), "threshold")
    np.testing.assert_array_equal(weights > 0, grey < 128)
    assert set(np.unique(weights)) == {0, 1}


def test_filled_spreads_half_of_the_points_over_what_is_not_background():
    box = (50, 60, 150, 170)
    rgb = drawing(lambda d, s: d.rectangle([side * s for side in box], fill=(200, 120, 40)), background=(230, 240, 250))
    lines, weights = (points.weigh(rgb, name) for name in ("contour", "filled"))
    inner = (60, 70, 140, 160)
    assert share(lines, inner) < 0.01
    assert share(weights, inner) == pytest.approx(0.5 * 80 * 90 / (100 * 110), abs=0.02)
    assert share(weights, (0, 0, 200, 50)) < 0.01


def test_in_colour_a_map_keeps_the_colours_of_what_it_draws(tmp_path):
    video(tmp_path / "clips" / "a.mp4", 7)
    frames.run(settings_with(), tmp_path)

    def made(colour):
        points.run(settings_with(points={"num_points": 300, "colour": colour}), tmp_path)
        rows = list(tables.read(tmp_path / "data" / "points.parquet"))
        maps = [np.asarray(Image.open(io.BytesIO(row["weights"]["bytes"]))) for row in rows]
        return maps, [row["points"] for row in rows]

    (plain, places), (colored, same_places) = made(False), made(True)
    np.testing.assert_array_equal(same_places, places)
    for image, grey in zip(colored, plain, strict=True):
        np.testing.assert_array_equal(image[..., 3], grey)
        assert not image[grey == 0].any() and image[grey > 0, :3].std(0).max() > 5


def test_the_table_has_a_map_and_a_cloud_of_every_frame_and_refuses_the_empty(tmp_path):
    video(tmp_path / "clips" / "a.mp4", 30)
    Image.new("RGB", (64, 64), "white").save(tmp_path / "clips" / "white.png")
    frames.run(settings_with(), tmp_path)
    summary = points.run(settings_with(points={"num_points": 300}), tmp_path)
    assert summary | {"rows": 5, "computed": 6, "quarantined": 1} == summary
    assert refused(tmp_path, "points").keys() == {"white.png/000000"}
    for row in tables.read(tmp_path / "data" / "points.parquet"):
        assert row["points"].shape == (300, 2) and np.abs(row["points"]).max() <= 3
        assert Image.open(io.BytesIO(row["weights"]["bytes"])).size == (96, 64)
        assert len(row["weights"]["bytes"]) < 4000


def test_points_depend_on_the_frame_alone_and_are_not_computed_twice(tmp_path):
    for name in ("b", "c"):
        video(tmp_path / "clips" / f"{name}.mp4", 20, first=ord(name))

    def clouds():
        frames.run(settings_with(), tmp_path)
        summary = points.run(settings_with(), tmp_path)
        return summary, {
            row["frame_id"]: row["points"].tobytes() for row in tables.read(tmp_path / "data/points.parquet")
        }

    _, before = clouds()
    video(tmp_path / "clips" / "a.mp4", 20)
    summary, after = clouds()
    assert (summary["computed"], summary["reused"]) == (4, 8)
    assert before.items() <= after.items()
