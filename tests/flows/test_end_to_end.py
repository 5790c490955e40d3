"""The ways Stipple is used, as a user uses them: real checkpoints, real Prefect and DVC, a small project of its own."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from tests.support import ROOT

BIN = Path(sys.executable).parent
Command = Callable[..., str]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """No server of the developer's own, no state shared with it."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "DVC_"))}
    home = str(tmp_path_factory.mktemp("prefect"))
    return kept | {"PATH": f"{BIN}:{kept['PATH']}", "PREFECT_HOME": home, "DVC_NO_ANALYTICS": "1"}


@pytest.fixture(scope="module")
def run(environment: dict[str, str]) -> Command:
    def command(project: Path, *words: str) -> str:
        done = subprocess.run(words, cwd=project, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    return command


def make_project(folder: Path, run: Command, clips: int) -> Path:
    """A clone of this repository with a few clips and a training of seconds."""
    for name in ("dvc.yaml", ".dvcignore", "prefect.yaml", "prefect.toml", "profiles", "flows", "tasks", "fm"):
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / name)
    (folder / "models").mkdir()
    (folder / "models" / "demo").symlink_to(ROOT / "models" / "demo")
    shutil.copy(ROOT / "models" / "start.json", folder / "models")
    (folder / "clips").mkdir()
    for clip in sorted((ROOT / "demo" / "clips").glob("*.mp4"))[:clips]:
        shutil.copy(clip, folder / "clips")
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["input"] = "clips"
    params["train"]["recipes"]["film"] |= {"steps": 20, "checkpoint_every": 10}
    params["evaluate"] |= {"steps": 4, "baseline_steps": 2}
    params["draw"]["steps"] = 4
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    run(folder, "git", "init", "-q")
    run(folder, "dvc", "init", "-q")
    return folder


def computed(output: str) -> dict[str, int]:
    """How many rows each stage of a run says it computed."""
    return {stage: int(rows) for stage, rows in re.findall(r"(\w+): .*?(\d+) computed", output)}


def digests(project: Path, folder: str = "data") -> dict[str, str]:
    files = sorted(path for path in (project / folder).rglob("*") if path.is_file() and path.name != ".gitignore")
    return {str(path.relative_to(project)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def flow_project(tmp_path_factory: pytest.TempPathFactory, run: Command) -> Path:
    """A project after its first `stipple run`."""
    project = make_project(tmp_path_factory.mktemp("flow"), run, clips=6)
    run(project, "stipple", "run")
    return project


def test_after_a_flow_run_dvc_has_nothing_to_do(flow_project: Path, run: Command) -> None:
    assert "up to date" in run(flow_project, "dvc", "status")
    output = run(flow_project, "dvc", "repro")
    assert "Running stage" not in output


def test_a_second_flow_run_computes_nothing(flow_project: Path, run: Command) -> None:
    before = digests(flow_project)
    output = run(flow_project, "stipple", "run")
    assert output.count("Cached('unchanged'") == 9
    assert computed(output) == {}
    assert digests(flow_project) == before


def test_a_deleted_artifact_comes_back_to_the_byte(flow_project: Path, run: Command) -> None:
    before = digests(flow_project)
    (flow_project / "data" / "captions.parquet").unlink()
    shutil.rmtree(flow_project / "data" / "drawings")
    output = run(flow_project, "stipple", "run")
    assert computed(output) == {}
    assert digests(flow_project) == before


def test_dvc_repro_gives_the_same_bytes(
    flow_project: Path, run: Command, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = make_project(tmp_path_factory.mktemp("repro"), run, clips=6)
    run(other, "dvc", "repro")
    assert digests(other) == digests(flow_project)
    assert "up to date" in run(other, "dvc", "status")


def test_a_new_clip_computes_its_own_rows_alone(flow_project: Path, run: Command, tmp_path: Path) -> None:
    project = tmp_path / "grown"
    shutil.copytree(flow_project, project, symlinks=True)
    clip = sorted((ROOT / "demo" / "clips").glob("*.mp4"))[6]
    shutil.copy(clip, project / "clips")
    before = digests(project)
    forecast = run(project, "stipple", "run", "--dry-run").splitlines()
    assert forecast[1].split() == ["frames", "run", "6", "the", "frames", "of", "1", "file"]
    assert forecast[3].endswith("at most the frames of 1 file")
    assert digests(project) == before
    output = run(project, "stipple", "run")
    frames = pq.read_table(project / "data" / "frames.parquet", columns=["source"])["source"].to_pylist()
    new = frames.count(clip.name)
    assert 0 < new < len(frames)
    rows = computed(output)
    assert {rows[stage] for stage in ("points", "captions")} == {new}
    assert rows["summaries"] <= new and rows["embeddings"] <= new


def test_too_much_in_quarantine_ends_both_doors_before_training(
    flow_project: Path, run: Command, environment: dict[str, str], tmp_path: Path
) -> None:
    project = tmp_path / "spoilt"
    shutil.copytree(flow_project, project, symlinks=True)
    for number in range(7):
        (project / "clips" / f"spoilt-{number}.mp4").write_bytes(b"")
    model = digests(project)["data/model.safetensors"]
    for command in (["stipple", "run"], ["dvc", "repro"]):
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
        assert done.returncode != 0
        assert "stipple: 7 of 13 files are in quarantine" in done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        assert digests(project)["data/model.safetensors"] == model


def test_generate_draws_a_text(flow_project: Path, run: Command) -> None:
    run(flow_project, "stipple", "generate", "Front-facing, smiling expression", "--output", "face.png", "--steps", "4")
    assert (flow_project / "face.png").read_bytes().startswith(b"\x89PNG")


def test_retraining_promotes_what_is_better_and_nothing_else(flow_project: Path, run: Command, tmp_path: Path) -> None:
    project = tmp_path / "retrained"
    shutil.copytree(flow_project, project, symlinks=True)
    params = yaml.safe_load((project / "params.yaml").read_text())
    rules = params["promote"]
    params["dataset"]["held_out"] = 0.5
    rules |= {"min_clips": 3, "frames": 12, "draws": 1, "tolerance": dict.fromkeys(rules["tolerance"], 1.0)}

    def retrain(steps: int, metric: str) -> str:
        params["train"]["recipes"]["film"] |= {"steps": steps, "clouds": 16}
        rules["metric"] = metric
        (project / "params.yaml").write_text(yaml.safe_dump(params))
        return run(project, "stipple", "retrain")

    output = retrain(60, "sliced_w2")
    assert "v1 is the champion now" in output
    assert "captions" not in computed(output)
    assert "up to date" in run(project, "dvc", "status")
    first, data = digests(project, "models/registry/v1"), digests(project)
    assert "Nothing to do: data and recipe are those of v1, the champion." in retrain(60, "sliced_w2")
    assert digests(project) == data

    assert "Not promoted, v1 stays: not better by the margin" in retrain(1, "chamfer")
    assert digests(project, "models/registry/v1") == first
    drawn = run(project, "stipple", "generate", "Smiling", "--steps", "2")
    assert "with models/registry/v1/model.safetensors, the champion" in drawn

    params["retrain"]["start"] = "champion"
    output = retrain(150, "chamfer")
    assert "Training begins as v1." in output and "v2 is the champion now" in output
    assert json.loads((project / "models" / "registry" / "v2" / "model.json").read_text())["start"]["version"] == "v1"
    assert "up to date" in run(project, "dvc", "status")
    assert "Nothing to do: data and recipe are those of v2" in retrain(150, "chamfer")
    shutil.copy(sorted((ROOT / "demo" / "clips").glob("*.mp4"))[6], project / "clips" / "new.mp4")
    status = run(project, "stipple", "status")
    assert "Champion: v2, trained on 3 clips, tested on 3." in status
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
def test_what_cannot_run_ends_in_one_line(
    flow_project: Path, environment: dict[str, str], tmp_path: Path, change: dict, says: str
) -> None:
    project = tmp_path / "broken"
    shutil.copytree(flow_project, project, symlinks=True)
    params = yaml.safe_load((project / "params.yaml").read_text()) | change
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    done = subprocess.run(["stipple", "run"], cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr + done.stdout
    assert says in done.stderr.splitlines()[-1] or any(
        line.startswith("stipple: ") and says in line for line in done.stderr.splitlines()
    )
    assert digests(project) == digests(flow_project)
