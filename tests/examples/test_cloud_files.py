"""Clouds in .ply and .npy files: there and back, what other programs write, and one line for what is no cloud."""

import struct

import numpy as np
import pytest

from examples import cloud_files
from tasks.errors import StippleError

POINTS = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
COLORS = np.random.default_rng(1).integers(0, 256, (50, 3)).astype(np.float32)
VERTEX = b"property float x\nproperty float y\nproperty float z\n"
HEADER = b"ply\nformat %s 1.0\ncomment by hand\nelement vertex %d\n" + VERTEX + b"end_header\n"


@pytest.mark.parametrize("name", ["cloud.ply", "cloud.PLY", "cloud.npy"])
@pytest.mark.parametrize("points", [POINTS, np.concatenate([POINTS, COLORS], axis=1)], ids=["places", "with colours"])
def test_what_is_written_is_read_again(tmp_path, name, points):
    cloud_files.write(tmp_path / name, points)
    assert np.array_equal(cloud_files.read(tmp_path / name), points)


def test_an_ascii_ply_with_more_properties_and_faces_is_read(tmp_path):
    text = (
        "ply\r\nformat ascii 1.0\r\nobj_info a mesh\r\nelement vertex 2\r\nproperty double x\r\nproperty double y\r\n"
        "property uchar red\r\nproperty double z\r\nelement face 1\r\nproperty list uchar int vertex_indices\r\n"
        "end_header\r\n1 2 255 3\r\n-4 5e-1 0 6\r\n3 0 1 0\r\n"
    )
    (tmp_path / "mesh.ply").write_text(text, newline="")
    assert cloud_files.read(tmp_path / "mesh.ply").tolist() == [[1, 2, 3], [-4, 0.5, 6]]


def test_both_byte_orders_are_read_and_bytes_after_the_vertices_passed_over(tmp_path):
    for order, sign in ((b"binary_little_endian", "<"), (b"binary_big_endian", ">")):
        (tmp_path / "x.ply").write_bytes(HEADER % (order, 2) + struct.pack(f"{sign}6f", 1, 2, 3, 4, 5, 6) + b"\3abc")
        assert cloud_files.read(tmp_path / "x.ply").tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.ply", b"", "damaged"),
        ("a.ply", b"solid stl\n", "damaged"),
        ("a.ply", HEADER % (b"ascii", 2) + b"1 2 3\n4 five 6\n", "damaged"),
        ("a.ply", HEADER % (b"ascii", 2) + b"1 2 3\n4 5\n", "damaged"),
        ("a.ply", HEADER % (b"ascii", -1) + b"1 2 3\n", "damaged"),
        ("a.ply", HEADER % (b"zip", 1) + b"1 2 3\n", "damaged"),
        ("a.ply", (HEADER % (b"ascii", 1)).replace(b"float z", b"list uchar int z") + b"1 2 3\n", "no lists"),
        ("a.ply", (HEADER % (b"ascii", 1)).replace(b"float z", b"float w") + b"1 2 3\n", "x, y and z"),
        ("a.ply", HEADER % (b"ascii", 3) + b"1 2 3\n4 5 6\n", "ends after 2 of its 3 vertices"),
        ("a.ply", HEADER % (b"binary_little_endian", 10**12) + bytes(30), "ends after 2 of its 1000000000000"),
        ("a.ply", HEADER % (b"ascii", 1) + b"1 nan 3\n", "NaN"),
        ("a.npy", b"\x93NUMPY\1\0", "damaged"),
        ("a.obj", b"v 1 2 3\n", r"no \.ply and no \.npy"),
    ],
)
def test_what_is_no_cloud_is_said_in_one_line(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StippleError, match=reason) as error:
        cloud_files.read(tmp_path / name)
    assert name in str(error.value) and "\n" not in str(error.value)


def test_arrays_that_are_no_clouds_and_files_that_are_not_there(tmp_path):
    for array, reason in ((np.zeros((0, 3)), "shape"), (np.zeros(3), "shape"), (np.array([{}]), "damaged")):
        np.save(tmp_path / "x.npy", array, allow_pickle=True)
        with pytest.raises(StippleError, match=reason):
            cloud_files.read(tmp_path / "x.npy")
    with pytest.raises(StippleError, match="No such file"):
        cloud_files.read(tmp_path / "none.ply")
    with pytest.raises(StippleError, match="these"):
        cloud_files.write(tmp_path / "x.obj", POINTS)
