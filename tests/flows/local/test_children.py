"""What a killed process leaves behind: nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from tests.support import ROOT

PARENT = """
import subprocess, sys, time
from flows.local import children
children.end_with_parent()
deaf = "import signal, time; signal.signal(signal.SIGHUP, signal.SIG_IGN); time.sleep(600)"
for session in (False, True):
    child = subprocess.Popen([sys.executable, "-c", deaf], start_new_session=session)
    print(child.pid, flush=True)
time.sleep(600)
"""


def test_children_end_with_a_parent_that_was_killed_and_nobody_else_does(tmp_path: Path) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with subprocess.Popen([sys.executable, "-c", PARENT], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        children = [psutil.Process(int(parent.stdout.readline())) for _ in range(2)]
        os.kill(parent.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()
