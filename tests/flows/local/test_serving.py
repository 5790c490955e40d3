"""`stipple serve-local` in a real terminal, with a home that Prefect has never seen."""

import os
import pty
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.support import projects


def test_in_a_terminal_it_asks_nothing_says_little_and_leaves_the_users_profiles_alone(
    new_project: Callable[[int], Path], tmp_path: Path
) -> None:
    project, home = new_project(1), tmp_path / "home"
    port = projects.free_port()
    environment = projects.environment(home) | {"PREFECT_SERVER_API_PORT": str(port), "COLUMNS": "200"}
    environment.pop("PREFECT_API_URL", None)
    shutil.rmtree(home, ignore_errors=True)
    own, terminal = pty.openpty()
    process = subprocess.Popen(
        ["stipple", "serve-local"], cwd=project, env=environment, stdin=terminal, stdout=terminal, stderr=terminal,
        start_new_session=True,
    )  # fmt: skip
    os.close(terminal)
    said, end = "", time.monotonic() + 300
    while "retrain/retrain --watch" not in said:
        assert time.monotonic() < end and process.poll() is None, said
        if select.select([own], [], [], 1)[0]:
            said += os.read(own, 4096).decode()
    assert (project / ".stipple/server").read_text() == f"http://127.0.0.1:{port}/api"
    process.send_signal(signal.SIGINT)
    assert process.wait(100) == 0
    assert "?" not in said and len(said.splitlines()) < 10, said
    assert not (home / "profiles.toml").exists()
    assert not (project / ".stipple/server").exists()
