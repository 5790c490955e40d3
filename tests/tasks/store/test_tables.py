import numpy as np
import pyarrow.parquet as pq
import pytest

from tasks.errors import StippleError
from tasks.store import tables
from tasks.store.schemas import SCHEMAS


def points_rows(n):
    rng = np.random.default_rng(0)
    return [
        {
            "frame_id": f"clip.mp4/{i:06d}",
            "weights": {"bytes": rng.bytes(100), "path": None},
            "points": rng.normal(size=(5 + i % 3, 2)).astype(np.float32),
            "row_key": str(i),
        }
        for i in range(n)
    ]


def test_rows_come_back_as_they_went_in(tmp_path):
    rows = points_rows(200)
    path = tmp_path / "data" / "points.parquet"
    assert tables.write(path, SCHEMAS["points"], rows) == tables.count(path) == 200
    for row, back in zip(rows, tables.read(path), strict=True):
        np.testing.assert_array_equal(back.pop("points"), row["points"])
        assert back == {name: row[name] for name in back}


def test_embeddings_come_back_as_float32_arrays(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(70, 512)).astype(np.float32)
    rows = ({"frame_id": str(i), "embedding": v, "row_key": ""} for i, v in enumerate(vectors))
    tables.write(tmp_path / "embeddings.parquet", SCHEMAS["embeddings"], rows)
    back = [row["embedding"] for row in tables.read(tmp_path / "embeddings.parquet", columns=["embedding"])]
    assert back[0].dtype == np.float32
    np.testing.assert_array_equal(np.stack(back), vectors)


def test_same_rows_same_bytes(tmp_path):
    for name in ("a.parquet", "b.parquet"):
        tables.write(tmp_path / name, SCHEMAS["points"], points_rows(50))
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_row_groups_close_by_bytes_so_pictures_do_not_pile_up(tmp_path):
    heavy = ({"frame_id": str(i), "image": {"bytes": bytes(1 << 20), "path": None}} for i in range(128))
    tables.write(tmp_path / "frames.parquet", SCHEMAS["frames"], heavy)
    light = ({"frame_id": str(i), "caption": "a face"} for i in range(5000))
    tables.write(tmp_path / "captions.parquet", SCHEMAS["captions"], light)
    assert pq.ParquetFile(tmp_path / "frames.parquet").num_row_groups == 2
    assert pq.ParquetFile(tmp_path / "captions.parquet").num_row_groups == 2


def test_a_failing_write_leaves_the_old_table_and_no_litter(tmp_path):
    path = tmp_path / "captions.parquet"
    tables.write(path, SCHEMAS["captions"], [{"frame_id": "a"}])
    before = path.read_bytes()

    def rows():
        yield {"frame_id": "b"}
        raise RuntimeError("the model fell over")

    with pytest.raises(RuntimeError, match="fell over"):
        tables.write(path, SCHEMAS["captions"], rows())
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["captions.parquet"]


def test_a_full_disk_is_one_line_that_names_the_file(tmp_path):
    with pytest.raises(StippleError, match=r"no space left to write .*a\.json"), tables.replacing(tmp_path / "a.json"):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_table_names_the_stage_that_writes_it(tmp_path):
    with pytest.raises(StippleError, match=r"points\.parquet is missing; run `stipple stage points`"):
        list(tables.read(tmp_path / "data" / "points.parquet"))
    with pytest.raises(StippleError, match="is missing"):
        tables.count(tmp_path / "points.parquet")


def test_a_damaged_table_says_what_to_do(tmp_path):
    path = tmp_path / "data" / "captions.parquet"
    path.parent.mkdir()
    path.write_bytes(b"not a table")
    with pytest.raises(StippleError, match="remove it and run `stipple stage captions`"):
        list(tables.read(path))
    part = tmp_path / ".stipple" / "frames" / "5f6e.parquet"  # of files that were decoded: no stage's name
    part.parent.mkdir(parents=True)
    part.write_bytes(b"not a table")
    with pytest.raises(StippleError, match="remove it and run `stipple run`"):
        list(tables.read(part))
    tables.write(path, SCHEMAS["captions"], [{"frame_id": "a"}])
    with pytest.raises(StippleError, match="no column hash"):
        list(tables.read(path, columns=["frame_id", "hash"]))


def test_quarantine_names_stage_and_reason_and_is_written_even_when_empty(tmp_path):
    path = tmp_path / "data" / "quarantine" / "frames.parquet"
    assert tables.write_quarantine(tmp_path, "frames", []) == 0
    assert list(tables.read(path)) == []
    tables.write_quarantine(tmp_path, "frames", [{"source": "a.mp4", "reason": "empty file"}])
    entry = {"source": "a.mp4", "frame_id": None, "stage": "frames", "reason": "empty file", "row_key": None}
    assert list(tables.read(path)) == [entry]


def test_a_lost_row_is_an_error():
    tables.check_balance("points", 10, 8, 2)
    with pytest.raises(StippleError, match="10 rows went in, but 8 came out and 1"):
        tables.check_balance("points", 10, 8, 1)


def test_datasets_shows_pictures(tmp_path):
    datasets = pytest.importorskip("datasets")
    from io import BytesIO

    from PIL import Image

    png = BytesIO()
    Image.new("RGB", (4, 3), "red").save(png, "png")
    frame = {"frame_id": "a", "image": {"bytes": png.getvalue(), "path": "a.png"}}
    tables.write(tmp_path / "frames.parquet", SCHEMAS["frames"], [frame])
    tables.write(tmp_path / "points.parquet", SCHEMAS["points"], points_rows(2))
    for name, column in (("frames", "image"), ("points", "weights")):
        loaded = datasets.Dataset.from_parquet(str(tmp_path / f"{name}.parquet"), cache_dir=str(tmp_path / "cache"))
        assert isinstance(loaded.features[column], datasets.Image)
    assert datasets.Dataset.from_parquet(str(tmp_path / "frames.parquet"), cache_dir=str(tmp_path / "cache"))[0][
        "image"
    ].size == (4, 3)
