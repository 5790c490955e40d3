"""The server that a run brings along."""

import subprocess
import sys
from pathlib import Path

import pytest

from flows.local import address
from tests.support import projects
from tests.support.projects import Environment, free_port

REPORT = """
from flows.local import temporary
with temporary.reporting():
    from prefect.client.orchestration import get_client
    with get_client(sync_client=True) as client:
        print(client.api_url)
        client.api_healthcheck() and exit("it does not answer")
"""


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return projects.environment(tmp_path / "home")


def reported(folder: Path, environment: Environment) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", REPORT], cwd=folder, env=environment, capture_output=True, text=True)


def test_it_listens_on_this_machine_alone_and_ends_with_the_run(tmp_path: Path, environment: Environment) -> None:
    done = reported(tmp_path, environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"http://{address.HOST}:") and done.stderr == ""
    assert not address.answers(done.stdout.strip())


def test_one_that_a_profile_of_the_users_names_comes_first(tmp_path: Path, environment: Environment) -> None:
    url = f"http://127.0.0.1:{free_port()}/api"
    (tmp_path / "home").mkdir()
    profiles = f'active = "mine"\n[profiles.mine]\nPREFECT_API_URL = "{url}"\n'
    (tmp_path / "home" / "profiles.toml").write_text(profiles)
    done = reported(tmp_path, environment)
    assert done.returncode == 1
    assert f"PREFECT_API_URL is {url}, but nobody answers there" in done.stderr


def test_one_that_cannot_start_is_one_line(tmp_path: Path, environment: Environment) -> None:
    nowhere = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{tmp_path}/nowhere/prefect.db"}
    done = reported(tmp_path, environment | nowhere)
    assert done.returncode == 1
    assert (
        "StippleError: a temporary Prefect server did not start; the last lines of .stipple/server.log" in done.stderr
    )
    assert "unable to open database file" in (tmp_path / ".stipple" / "server.log").read_text()
