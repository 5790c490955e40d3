"""What the next run would do: counted in real tables and a real store, and then done."""

from __future__ import annotations

import hashlib

import pytest

from tasks import captions
from tasks.project import forecast
from tasks.project.forecast import Forecast
from tasks.project.reproduction import Outcome
from tasks.store import tables
from tasks.store.rows import STORE, no_previous
from tasks.store.schemas import SCHEMAS
from tests.support import clips, tiny_models

COLORS = ("red", "green", "blue")
RUNS = [
    Forecast("captions", Outcome.COMPUTED),
    Forecast("summaries", Outcome.COMPUTED, ("captions",)),
    Forecast("embeddings", Outcome.COMPUTED, ("summaries",)),
    Forecast("dataset", Outcome.COMPUTED, ("embeddings",)),
]


def frame(number: int, color: str) -> tables.Row:
    content = clips.png(tiny_models.picture(color))
    image = {"bytes": content, "path": None}
    digest = hashlib.sha256(content).hexdigest()
    return {"frame_id": f"{color}.mp4/{number:06d}", "source": f"{color}.mp4", "sha256": digest, "image": image}


@pytest.fixture
def project(tiny_root):
    """A folder whose frames have captions, and one frame more that has none."""
    chosen = tiny_models.settings()
    frames = [frame(number, color) for number, color in enumerate(COLORS)]
    tables.write(tiny_root / "data" / "frames.parquet", SCHEMAS["frames"], frames[:2])
    captions.run(chosen, tiny_root)
    tables.write(tiny_root / "data" / "frames.parquet", SCHEMAS["frames"], frames)
    return tiny_root, chosen


def work(project, stages=RUNS):
    root, chosen = project
    return list(forecast.amounts(chosen, root, stages, no_previous))


def test_what_is_forecast_is_what_is_computed(project):
    root, chosen = project
    before = sorted(root.rglob("*"))
    first, second, third, dataset = work(project)
    assert sorted(root.rglob("*")) == before
    assert (first.rows, first.known) == (1, 2)
    assert (second.rows, third.rows) == (3, 3)  # the summaries of two old captions and of the new one
    assert dataset is None
    assert captions.run(chosen, root)["computed"] == 1
    assert [found.rows for found in work(project)[:3]] == [0, 3, 3]


def test_rows_of_a_lost_store_are_known_from_the_tables(project):
    root, _ = project
    (root / STORE).unlink()
    assert work(project)[0].known == 2
    assert not (root / STORE).exists()


def test_rows_of_a_table_that_is_yet_to_come_back_are_not_counted(project):
    root, _ = project
    (root / "data" / "frames.parquet").unlink()
    stages = [Forecast("frames", Outcome.RESTORED), *RUNS]
    assert work(project, stages) == [None] * 5
    line = forecast.line(forecast.planned(stages, work(project, stages)))
    assert "compute captions, summaries, embeddings, dataset; take from" in line


def test_new_files_count_as_files_until_they_are_decoded(tmp_path):
    clips.video(tmp_path / "clips" / "a.mp4", 7)
    found = [Forecast("frames", Outcome.COMPUTED), Forecast("points", Outcome.COMPUTED, ("frames",))]
    amounts = list(forecast.amounts(clips.settings_with(), tmp_path, found, no_previous))
    assert [str(amount) for amount in amounts] == ["the frames of 1 file"] * 2


def test_the_page_and_the_line_say_the_same(project):
    stages = [Forecast("points", Outcome.UNCHANGED), *RUNS, Forecast("draw", Outcome.RESTORED)]
    lines = list(forecast.page(forecast.planned(stages, work(project, stages))))
    assert lines[1].split() == ["points", "do", "nothing"]
    assert lines[2].split() == ["captions", "run", "2", "1", "row"]
    assert lines[3].split() == ["summaries", "run:", "follows", "from", "captions", "0", "at", "most", "3", "rows"]
    assert forecast.line(forecast.planned(stages, work(project, stages))) == (
        "The next run would compute captions (1 row), summaries (at most 3 rows), embeddings (at most 3 rows), "
        "dataset; take from DVC's cache draw."
    )
    assert forecast.line(forecast.planned(stages[:1], [None])) == "The next run would do nothing."
