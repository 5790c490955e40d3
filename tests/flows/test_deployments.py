"""The deployments of prefect.yaml, served by `stipple serve-local`: a real server and worker on loopback."""

import json
import shutil
import signal
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tasks.pipeline import STAGES
from tasks.project import lock
from tasks.store import tables
from tests.support import projects
from tests.support.projects import CLIPS, Environment, edited

DATASET = tuple(name for name, stage in STAGES.items() if not stage.trains)
Command = Callable[..., subprocess.CompletedProcess]
LOGIN = "stipple:a word that nobody else knows"
AWKWARD = "$(touch pwned); 'clip'.mp4"


@pytest.fixture(scope="module")
def environment(home: Path) -> Environment:
    """Another port than that of the developer's own server, and a login."""
    port = projects.free_port()
    return projects.environment(home) | {
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_API_AUTH_STRING": LOGIN,
        "PREFECT_API_AUTH_STRING": LOGIN,
        "PREFECT_SERVER_SERVICES_DB_VACUUM_LOOP_SECONDS": "1",
        "COLUMNS": "200",
    }


@pytest.fixture(scope="module")
def project(new_project: Callable[[int], Path]) -> Path:
    project = new_project(2)
    next((project / "clips").iterdir()).rename(project / "clips" / AWKWARD)
    return project


@pytest.fixture(scope="module")
def command(project: Path, environment: Environment) -> Command:
    return partial(projects.command, environment, project)


@pytest.fixture(scope="module")
def served(project: Path, environment: Environment, home: Path) -> Iterator[psutil.Popen]:
    log = home / "serve-local.log"
    with log.open("w") as out:
        process = psutil.Popen(["stipple", "serve-local"], cwd=project, env=environment, stdout=out, stderr=out)
    until(lambda: "Ctrl-C stops" in log.read_text() or process.poll() is not None)
    assert process.poll() is None, log.read_text()
    yield process
    stop(process)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 300  # a busy machine takes its time
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def stop(process: psutil.Popen) -> list[psutil.Process]:
    """Press Ctrl-C; return what outlives it."""
    if process.poll() is not None:
        return []
    family = process.children(recursive=True)
    process.send_signal(signal.SIGINT)
    process.wait(100)
    _, left = psutil.wait_procs(family, timeout=10)  # they look around once more when the parent has gone
    return [member for member in left if member.is_running() and member.status() != psutil.STATUS_ZOMBIE]


def answered(environment: Environment, path: str) -> Any:
    """What the server's API answers to a filter that lets everything through."""
    request = urllib.request.Request(
        environment["PREFECT_API_URL"] + path,
        b"{}",
        {"Content-Type": "application/json", "Authorization": f"Basic {b64encode(LOGIN.encode()).decode()}"},
    )
    return json.load(urllib.request.urlopen(request))


def test_a_deployment_run_completes_and_dvc_has_nothing_to_do(
    served: psutil.Popen, command: Command, project: Path, environment: Environment
) -> None:
    done = command("prefect", "deployment", "run", "dataset/dataset", "--watch")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Completed" in done.stdout
    assert "up to date" in command("dvc", "status", *DATASET).stdout
    assert AWKWARD in {frame["source"] for frame in tables.read(project / "data" / "frames.parquet", ["source"])}
    assert not list(project.rglob("pwned"))
    said = [log["message"] for log in answered(environment, "/logs/filter") if log["name"].startswith("stipple")]
    of_stages = [line for line in said if " out, " in line or line.startswith("dataset:")]
    assert [line.partition(":")[0] for line in of_stages] == list(DATASET)
    assert len([line for line in said if line.startswith(("Done in ", "2 files in, "))]) == 2
    assert [run["name"].split(",")[0] for run in answered(environment, "/flow_runs/filter")] == ["dataset"]


def test_a_run_with_other_settings_writes_them_where_dvc_reads_them(
    served: psutil.Popen, command: Command, project: Path
) -> None:
    def asked(overrides: str, *more: str) -> subprocess.CompletedProcess:
        return command("prefect", "deployment", "run", "dataset/dataset", "--param", f"overrides={overrides}", *more)

    before = yaml.safe_load((project / "params.yaml").read_text())
    for wrong, says in (
        ('{"frames.every": 0}', "0 is less than the minimum of 1"),
        ('{"every": 7}', "'every' was unexpected"),
    ):
        refused = asked(wrong)
        assert refused.returncode == 1 and says in refused.stdout + refused.stderr
    assert yaml.safe_load((project / "params.yaml").read_text()) == before

    assert asked('{"frames.every": 10}', "--watch").returncode == 0
    before["frames"]["every"] = 10
    assert yaml.safe_load((project / "params.yaml").read_text()) == before
    assert "up to date" in command("dvc", "status", *DATASET).stdout
    ten = tables.count(project / "data" / "frames.parquet")

    text = (project / "params.yaml").read_text().replace("every: 10", "every: 20")
    (project / "params.yaml").write_text(text)
    assert command("prefect", "deployment", "run", "dataset/dataset", "--watch").returncode == 0
    assert (project / "params.yaml").read_text() == text
    assert "up to date" in command("dvc", "status", *DATASET).stdout
    assert tables.count(project / "data" / "frames.parquet") < ten


def test_the_deployments_take_one_run_at_a_time_and_the_schedule_is_off(
    served: psutil.Popen, environment: Environment
) -> None:
    deployments = {deployment["name"]: deployment for deployment in answered(environment, "/deployments/filter")}
    assert set(deployments) == {"dataset", "train", "retrain"}
    for deployment in deployments.values():
        assert deployment["parameters"] == {}, "values of the day it was deployed would outlive an edit of params.yaml"
        assert deployment["global_concurrency_limit"]["limit"] == 1
        assert deployment["concurrency_options"]["collision_strategy"] == "ENQUEUE"
        assert deployment["description"]
    assert [schedule["active"] for schedule in deployments["retrain"]["schedules"]] == [False]


def test_nobody_enters_without_the_login(served: psutil.Popen, environment: Environment, home: Path) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(environment["PREFECT_API_URL"] + "/admin/version")
    assert LOGIN not in (home / "serve-local.log").read_text()
    family = [served, *served.children(recursive=True)]
    listening = {c.laddr.ip for member in family for c in member.net_connections() if c.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}


def test_a_result_is_kept_as_json_and_never_as_pickle(served: psutil.Popen, command: Command, home: Path) -> None:
    done = command("python", "-c", "from prefect import flow; flow(lambda: [1], name='kept', persist_result=True)()")
    assert done.returncode == 0, done.stderr
    assert [json.loads(path.read_text()) for path in (home / "storage").iterdir()] == [[1]]


def test_a_run_that_ended_long_ago_is_forgotten(served: psutil.Popen, command: Command, home: Path) -> None:
    done = command("python", "-c", "from prefect import flow; flow(lambda: 1, name='old')()")
    assert done.returncode == 0, done.stderr
    old = "WHERE flow_id = (SELECT id FROM flow WHERE name = 'old')"
    with closing(sqlite3.connect(home / "prefect.db", timeout=60)) as history:
        history.execute(f"UPDATE flow_run SET end_time = '2020-01-01 00:00:00.000000' {old}")
        history.commit()
        until(lambda: history.execute(f"SELECT count(*) FROM flow_run {old}").fetchone() == (0,))


def test_a_retraining_completes_and_its_page_says_what_came_of_it(
    served: psutil.Popen, command: Command, project: Path
) -> None:
    done = command("prefect", "deployment", "run", "retrain/retrain", "--watch")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Not promoted; mean cloud stays" in command("prefect", "artifact", "inspect", "retraining").stdout
    judged = json.loads((project / "models" / "registry" / "registry.json").read_text())
    assert judged["champion"] is None and "not enough held-out clips" in judged["history"][0]["reasons"][0]
    assert "up to date" in command("dvc", "status").stdout


def test_nights_promote_rest_and_go_on_when_a_clip_came(served: psutil.Popen, command: Command, project: Path) -> None:
    def night() -> str:
        done = command("prefect", "deployment", "run", "retrain/retrain", "--watch")
        assert done.returncode == 0, done.stdout + done.stderr
        return command("prefect", "artifact", "inspect", "retraining").stdout

    def judged() -> dict:
        return json.loads((project / "models" / "registry" / "registry.json").read_text())

    for clip in CLIPS[2:6]:
        shutil.copy(clip, project / "clips")
    with edited(project / "params.yaml") as params:
        params["frames"]["every"] = 8
        params["dataset"]["held_out"] = 0.5
        params["train"]["recipes"]["latent"] |= {"steps": 300, "clouds": 16}
        rules = params["promote"]
        rules |= {"metric": "sliced_w2", "min_clips": 2, "margin": 0.0, "confidence": 0.01, "frames": 12, "draws": 2}
        rules["tolerance"] = dict.fromkeys(rules["tolerance"], 1.0)
    assert "v1 is the champion" in night()
    assert judged()["champion"] == "v1"

    before = judged()
    assert "Nothing to do: data and recipe are those of v1, the champion." in night()
    assert judged() == before

    known = {row["frame_id"] for row in tables.read(project / "data" / "captions.parquet", ["frame_id"])}
    shutil.copy(CLIPS[6], project / "clips")
    night()
    assert len(judged()["history"]) == len(before["history"]) + 1
    assert "up to date" in command("dvc", "status").stdout
    captions = {row["frame_id"] for row in tables.read(project / "data" / "captions.parquet", ["frame_id"])}
    assert known < captions and {name.partition("/")[0] for name in captions - known} == {CLIPS[6].name}


def test_a_second_server_says_that_the_port_is_taken(served: psutil.Popen, command: Command) -> None:
    done = command("stipple", "serve-local")
    assert done.returncode == 1
    assert done.stderr.startswith("stipple: port ") and done.stderr.count("\n") == 1


def test_beside_a_deployment_run_a_command_ends_and_ctrl_c_ends_them_all(
    served: psutil.Popen, command: Command, project: Path, home: Path
) -> None:
    with edited(project / "params.yaml") as params:
        params["train"]["recipes"]["latent"]["steps"] = 100_000
    assert command("prefect", "deployment", "run", "training/train").returncode == 0
    until((project / ".stipple" / "lock").read_text)
    done = command("stipple", "run")
    assert done.returncode == 1
    assert done.stderr.startswith("stipple: `flow run ") and done.stderr.count("\n") == 1
    assert stop(served) == []
    with closing(sqlite3.connect(home / "prefect.db")) as history:
        states = history.execute("SELECT state_name FROM flow_run ORDER BY start_time").fetchall()
    assert states.pop() == ("Crashed",) and set(states) == {("Completed",)}
    with lock.hold(project, "test"):
        pass
