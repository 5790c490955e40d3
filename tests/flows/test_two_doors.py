"""`dvc` and `stipple run` take turns on one project, as people do, and come to the bytes of a single clean run."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tasks.store import tables
from tests.support import ROOT
from tests.support.bad_files import BAD
from tests.support.projects import CLIPS, Run, computed, digests, edited


@pytest.fixture(scope="module")
def empty(new_project: Callable[[int], Path], run: Run) -> Path:
    """A committed project in which nothing was computed yet."""
    project = new_project(2)
    (project / ".gitignore").write_text(".stipple/\n__pycache__/\n")
    commit(project, run)
    return project


@pytest.fixture(scope="module")
def clean(empty: Path, tmp_path_factory: pytest.TempPathFactory, run: Run) -> Path:
    """The same after one undisturbed run."""
    project = shutil.copytree(empty, tmp_path_factory.mktemp("clean") / "project", symlinks=True)
    run(project, "stipple", "run")
    commit(project, run)
    return project


@pytest.fixture(scope="module")
def tried(clean: Path, tmp_path_factory: pytest.TempPathFactory, run: Run) -> Path:
    """The same after one experiment more."""
    project = shutil.copytree(clean, tmp_path_factory.mktemp("tried") / "project", symlinks=True)
    assert "Running stage 'train'" in run(project, "dvc", "exp", "run", "-S", "train.recipes.latent.steps=21")
    return project


def commit(project: Path, run: Run) -> None:
    run(project, "git", "add", "-A")
    run(project, "git", "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-qm", "as it is")


def nothing_is_left(project: Path, run: Run) -> None:
    assert "up to date" in run(project, "dvc", "status")
    assert run(project, "stipple", "run").startswith("Nothing to do: ")


def test_a_table_that_was_removed_is_forecast_to_come_back(clean: Path, run: Run, tmp_path: Path) -> None:
    project = shutil.copytree(clean, tmp_path / "project", symlinks=True)
    (project / "data" / "frames.parquet").unlink()
    forecast = run(project, "stipple", "run", "--dry-run").splitlines()
    assert forecast[1].split(maxsplit=1) == ["frames", "come back from DVC's cache"]
    assert not [line for line in forecast if " run" in line]
    assert "would take from DVC's cache frames" in run(project, "stipple", "status")


def test_every_bad_file_is_quarantined_behind_both_doors(
    clean: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = shutil.copytree(clean, tmp_path / "project", symlinks=True)
    monkeypatch.chdir(project)
    with edited(project / "params.yaml") as params:
        params["dataset"]["max_quarantined"] = 1.0
    for name, make, _ in BAD:
        make(project / "clips" / name)
    assert "would compute frames" in run(project, "stipple", "status")
    run(project, "stipple", "run")
    refused = {row["source"]: row["reason"] for row in tables.read(project / "data/quarantine/frames.parquet")}
    assert len(refused) == len(BAD)
    for name, _, reason in BAD:
        assert re.search(reason, refused[os.fsencode(name).decode("utf-8", "backslashreplace")])
    assert "up to date" in run(project, "dvc", "status")
    result = digests(project)
    shutil.rmtree(project / ".dvc" / "cache" / "runs")
    run(project, "dvc", "repro", "--force", "--single-item", "frames")
    assert digests(project) == result
    for name, _, _ in BAD:
        (project / "clips" / name).unlink()
    assert computed(run(project, "stipple", "run"))["frames"] == 0
    assert (project / ".dvcignore").read_text() == (ROOT / ".dvcignore").read_text()


def test_after_an_experiment_there_is_nothing_to_do_and_the_way_back_is_free(
    clean: Path, tried: Path, run: Run, tmp_path: Path
) -> None:
    project = shutil.copytree(tried, tmp_path / "project", symlinks=True)
    assert digests(project)["data/model.safetensors"] != digests(clean)["data/model.safetensors"]
    nothing_is_left(project, run)
    assert "Running stage" not in run(project, "dvc", "exp", "run", "-S", "train.recipes.latent.steps=20")
    assert digests(project) == digests(clean)
    assert "up to date" in run(project, "dvc", "status")


def test_what_dvc_shows_of_two_runs_fits_a_terminal_and_needs_no_network(tried: Path, run: Run, tmp_path: Path) -> None:
    project = shutil.copytree(tried, tmp_path / "project", symlinks=True)
    metrics = {"chamfer", "energy", "own_frame", "told_apart"}
    shown = run(project, "dvc", "metrics", "show")
    assert set(shown.split()) >= metrics and max(map(len, shown.splitlines())) <= 100
    shown = run(project, "dvc", "exp", "show", "--only-changed", "--drop", "data/|Created")
    header = next(line for line in shown.splitlines() if "Experiment" in line).split()
    assert header == ["Experiment", *(name for name in header if name in metrics), "train.recipes.latent.steps"]
    same = len(metrics) + 2 - len(header)  # scores that came out the same are not shown, and would take 12 columns each
    assert max(map(len, shown.splitlines())) + 12 * same <= 120
    run(project, "dvc", "plots", "diff", "HEAD")
    page = (project / "dvc_plots" / "index.html").read_text()
    assert "http" not in page and "<script" not in page
    pictures = {path.name: path.read_bytes() for path in (project / "dvc_plots" / "static").iterdir()}
    assert all(f'src="static/{name}"' in page for name in pictures)
    galleries = [content for name, content in pictures.items() if name.endswith("gallery.png")]
    assert len(set(galleries)) == 2 and len([name for name in pictures if "drawings" in name]) == 6


def test_a_clone_that_pulled_computes_the_rows_of_a_new_clip_alone(clean: Path, run: Run, tmp_path: Path) -> None:
    project, clone = shutil.copytree(clean, tmp_path / "project", symlinks=True), tmp_path / "clone"
    run(project, "dvc", "remote", "add", "-d", "store", str(tmp_path / "store"))
    run(project, "dvc", "push")
    commit(project, run)
    run(tmp_path, "git", "clone", "-q", str(project), str(clone))
    run(clone, "dvc", "pull")
    assert digests(clone) == digests(clean)
    assert "up to date" in run(clone, "dvc", "status")
    shutil.copy(CLIPS[2], clone / "clips")
    rows = computed(run(clone, "stipple", "run"))
    sources = pq.read_table(clone / "data" / "frames.parquet", columns=["source"])["source"].to_pylist()
    new = sources.count(CLIPS[2].name)
    assert 0 < new < len(sources)
    assert rows["points"] == rows["captions"] == new
    assert 0 < rows["summaries"] <= new and 0 < rows["embeddings"] <= new
    assert "up to date" in run(clone, "dvc", "status")
