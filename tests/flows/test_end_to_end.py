"""The ways Stipple is used, as a user uses them: real checkpoints, real Prefect and DVC, a small project of its own."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support import projects
from tests.support.projects import CLIPS, Environment, Run, computed, digests, edited


@pytest.fixture(scope="module")
def flow_project(new_project: Callable[[int], Path], run: Run) -> Path:
    """A project after its first `stipple run`."""
    project = new_project(6)
    run(project, "stipple", "run")
    return project


@pytest.fixture
def project(flow_project: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return shutil.copytree(flow_project, tmp_path / "project", symlinks=True)


def test_after_a_flow_run_dvc_has_nothing_to_do(flow_project: Path, run: Run) -> None:
    assert "up to date" in run(flow_project, "dvc", "status")
    output = run(flow_project, "dvc", "repro")
    assert "Running stage" not in output


def test_a_second_run_says_so_in_one_line_and_starts_no_server(
    flow_project: Path, environment: Environment, tmp_path: Path
) -> None:
    before = digests(flow_project)
    done = projects.command(environment | {"PREFECT_HOME": str(tmp_path / "home")}, flow_project, "stipple", "run")
    assert done.stdout.startswith("Nothing to do: ") and done.stdout.count("\n") == 1 and done.stderr == ""
    assert not (tmp_path / "home").exists()
    assert digests(flow_project) == before


def test_a_deleted_artifact_comes_back_to_the_byte(flow_project: Path, run: Run) -> None:
    before = digests(flow_project)
    (flow_project / "data" / "captions.parquet").unlink()
    shutil.rmtree(flow_project / "data" / "drawings")
    output = run(flow_project, "stipple", "run")
    assert computed(output) == {}
    assert digests(flow_project) == before


def test_dvc_repro_gives_the_same_bytes(flow_project: Path, new_project: Callable[[int], Path], run: Run) -> None:
    other = new_project(6)
    run(other, "dvc", "repro")
    assert digests(other) == digests(flow_project)
    assert "up to date" in run(other, "dvc", "status")


def test_a_new_clip_computes_its_own_rows_alone(project: Path, run: Run) -> None:
    shutil.copy(CLIPS[6], project / "clips")
    before = digests(project)
    forecast = run(project, "stipple", "run", "--dry-run").splitlines()
    assert forecast[1].split() == ["frames", "run", "6", "the", "frames", "of", "1", "file"]
    assert forecast[3].endswith("at most the frames of 1 file")
    assert digests(project) == before
    output = run(project, "stipple", "run")
    frames = pq.read_table(project / "data" / "frames.parquet", columns=["source"])["source"].to_pylist()
    new = frames.count(CLIPS[6].name)
    assert 0 < new < len(frames)
    rows = computed(output)
    assert {rows[stage] for stage in ("points", "captions")} == {new}
    assert rows["summaries"] <= new and rows["embeddings"] <= new


def test_too_much_in_quarantine_ends_both_doors_before_training(project: Path, environment: Environment) -> None:
    for number in range(7):
        (project / "clips" / f"spoilt-{number}.mp4").write_bytes(b"")
    model = digests(project)["data/model.safetensors"]
    for words in (["stipple", "run"], ["dvc", "repro"]):
        done = projects.command(environment, project, *words)
        assert done.returncode != 0
        assert "stipple: 7 of 13 files are in quarantine" in done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        assert digests(project)["data/model.safetensors"] == model


def test_generate_draws_a_text(flow_project: Path, run: Run) -> None:
    run(flow_project, "stipple", "generate", "Front-facing, smiling expression", "--output", "face.png", "--steps", "4")
    assert (flow_project / "face.png").read_bytes().startswith(b"\x89PNG")


def test_retraining_promotes_what_is_better_and_nothing_else(project: Path, run: Run) -> None:
    with edited(project / "params.yaml") as params:
        rules = params["promote"]
        rules |= {
            "metric": "sliced_w2",  # by which so short a training gains most
            "min_clips": 3,
            "confidence": 0.1,
            "frames": 12,
            "draws": 2,
            "tolerance": dict.fromkeys(rules["tolerance"], 1.0),
        }
        params["dataset"]["held_out"] = 0.6  # four of the six clips
        params["points"]["num_points"] = 1024  # with fewer the mean cloud is as good

    def retrain(steps: int, start: str = "scratch") -> str:
        with edited(project / "params.yaml") as params:
            params["train"]["recipes"]["latent"] |= {"steps": steps, "clouds": 16}
            params["retrain"]["start"] = start
        return run(project, "stipple", "retrain")

    output = retrain(100)
    assert "v1 is the champion now" in output
    assert "captions" not in computed(output)
    assert "up to date" in run(project, "dvc", "status")
    first, data = digests(project, "models/registry/v1"), digests(project)
    assert "Nothing to do: data and recipe are those of v1, the champion." in retrain(100)
    assert digests(project) == data

    assert "Not promoted, v1 stays: not better by the margin" in retrain(1)
    assert digests(project, "models/registry/v1") == first
    drawn = run(project, "stipple", "generate", "Smiling", "--steps", "2")
    assert "with models/registry/v1/model.safetensors, the champion" in drawn

    output = retrain(400, start="champion")
    assert "Training begins as v1." in output and "v2 is the champion now" in output
    assert json.loads((project / "models" / "registry" / "v2" / "model.json").read_text())["start"]["version"] == "v1"
    assert "up to date" in run(project, "dvc", "status")
    assert "Nothing to do: data and recipe are those of v2" in retrain(400, start="champion")
    shutil.copy(CLIPS[6], project / "clips" / "new.mp4")
    status = run(project, "stipple", "status")
    assert "Champion: v2, trained on 2 clips, tested on 4." in status
    assert "New since (1):\n  new.mp4" in status
    assert "The next run would compute frames (the frames of 1 file), points (at most" in status
    assert "v1 is the champion again" in run(project, "stipple", "rollback")
    assert "* v1" in run(project, "stipple", "models")
    assert digests(project, "models/registry/v1") == first


@pytest.mark.parametrize(
    "change, says",
    [
        ({"profile": "cloud"}, "profile is 'cloud'"),
        ({"input": "nowhere"}, "nowhere"),
    ],
)
def test_what_cannot_run_ends_in_one_line(project: Path, environment: Environment, change: dict, says: str) -> None:
    before = digests(project)
    with edited(project / "params.yaml") as params:
        params |= change
    done = projects.command(environment, project, "stipple", "run")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr + done.stdout
    assert says in done.stderr.splitlines()[-1] or any(
        line.startswith("stipple: ") and says in line for line in done.stderr.splitlines()
    )
    assert digests(project) == before
