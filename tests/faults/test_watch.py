"""What the suite watches is there: a name that moved is an error, and not silence."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import world

SCRIPT = """
import importlib, operator, sitecustomize
for module, names in sitecustomize.WATCHED.items():
    loaded = importlib.import_module(module)
    for name in names:
        where = operator.attrgetter(name)(loaded).__code__.co_filename
        assert where == sitecustomize.__file__, f"{module}.{name} is not watched"
"""


def test_every_name_that_is_watched_is_there_and_wrapped(tmp_path: Path) -> None:
    env = world.environment(tmp_path) | {"STIPPLE_TRACE": str(tmp_path / "trace")}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_whole_run_that_leaves_no_trace_of_something_ends_the_suite_with_a_sentence() -> None:
    events = [{"stage": stage, "kind": kind} for stage, kinds in world.EXPECTED.items() for kind in kinds]
    world.check_trace(events)
    events.remove({"stage": "summaries", "kind": "answer"})
    with pytest.raises(SystemExit, match=r"^the undisturbed run left no trace of summaries: answer; .*"):
        world.check_trace(events)
