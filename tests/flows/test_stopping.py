"""Ctrl-C at every door, in a real terminal: within seconds, in a line or two, and the next run goes on from there.

One project is stopped again and again on its way to the bytes of another that nobody disturbed.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.support.projects import Environment, Run, computed, digests, edited
from tests.support.terminal import Terminal

STEPS = 100
as_in_a_terminal = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background job ignores it


@pytest.fixture(scope="module")
def new(new_project: Callable[[int], Path]) -> Callable[[], Path]:
    """A project whose captions come in several batches, and whose training can be met and leaves no checkpoints."""

    def new() -> Path:
        project = new_project(2)
        with edited(project / "profiles" / "demo.yaml") as profile:
            profile["captioner"]["batch_size"] = 4
        with edited(project / "params.yaml") as params:
            params["train"]["recipes"]["latent"] |= {"steps": STEPS, "clouds": 8, "checkpoint_every": 10 * STEPS}
            params["promote"]["frames"] = 8
        return project

    return new


@pytest.fixture(scope="module")
def undisturbed(new: Callable[[], Path], run: Run) -> dict[str, str]:
    project = new()
    said = run(project, "stipple", "run")
    assert "\r" not in said and "'" not in said, "no bars where there is no terminal, and no names by chance"
    ends = said.splitlines()[-4:]
    assert [line.split()[0] for line in ends] == ["Done", "2", "On", "Look"]
    assert len(re.findall(r"^captions: .* out, ", said, re.MULTILINE)) == 1
    return digests(project)


def stopped(at: Terminal, pattern: str) -> tuple[int, list[str]]:
    """Press Ctrl-C when the terminal shows `pattern`."""
    at.until(pattern)
    at.press_ctrl_c()
    return at.end()


def test_a_run_that_is_stopped_again_and_again_comes_to_the_same_bytes(
    new: Callable[[], Path], undisturbed: dict[str, str], environment: Environment, run: Run
) -> None:
    project = new()
    code, said = stopped(Terminal(project, environment, "stipple", "run"), r"captions: .*? [1-9]\d*/")
    assert code == 130 and len(said) == 1
    assert re.fullmatch(r"stipple: stopped in captions at \d+ of \d+ rows; .* the next run goes on from there", said[0])
    assert not (project / "data" / "captions.parquet").exists()
    run(project, "dvc", "repro", "captions")

    code, said = stopped(Terminal(project, environment, "stipple", "run"), rf"train: .*? \d\d/{STEPS}")
    assert code == 130 and said[0].startswith("stipple: stopped in train at ") and len(said) == 1

    code, said = stopped(Terminal(project, environment, "dvc", "repro"), rf"train: .*? [5-9]\d/{STEPS}")
    assert code == 255 and len(said) == 2
    theirs, ours = sorted(said)  # whose comes first depends on the shell that DVC asks to run the stage
    assert ours.startswith("stipple: stopped in train at ") and "ERROR: failed to reproduce 'train'" in theirs

    output = run(project, "stipple", "run")
    assert computed(output) == {}, "what was computed by then is kept"
    assert "up to date" in run(project, "dvc", "status")
    assert int(output.partition(" resumed at")[0].rpartition(" ")[2]) >= 50
    assert digests(project) == undisturbed

    code, said = stopped(Terminal(project, environment, "stipple", "retrain"), r"challenger: .*? [1-9]\d*/")
    assert code == 130 and len(said) == 1
    assert said[0].startswith("stipple: stopped in the comparison with the champion; ")
    assert not (project / "models" / "registry").exists()
    assert "Not promoted, mean cloud stays" in run(project, "stipple", "retrain")


def test_sigterm_ends_a_run_as_quietly(new: Callable[[], Path], environment: Environment) -> None:
    process = subprocess.Popen(
        ["stipple", "run"], cwd=new(), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline().startswith("frames:")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate()
    assert process.returncode == 143
    assert err.startswith("stipple: stopped ") and "goes on from there" in err and err.count("\n") == 1
    assert "Done" not in out


def test_a_toy_is_stopped_in_one_line(tmp_path: Path, environment: Environment) -> None:
    at = Terminal(tmp_path, environment, "stipple", "toy", "moons", "--steps", "100000")
    assert stopped(at, r"train, independent: .*? [1-9]\d*/") == (130, ["stipple: stopped"])


def test_a_command_that_is_still_being_loaded_is_stopped_in_one_line(environment: Environment) -> None:
    script = (
        "import os, signal, sys; from flows.__main__ import main\n"
        "class Presses:\n"
        "    def find_spec(name, *_):\n"
        "        if name == 'typer': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Presses); main()"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, preexec_fn=as_in_a_terminal)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stipple: stopped\n")


def test_a_second_one_ends_a_command_that_takes_its_time_at_once(environment: Environment) -> None:
    script = (
        "import time; from flows.local import stopping; stopping.listen()\n"
        "try: print('ready', flush=True); time.sleep(600)\n"
        "except KeyboardInterrupt: print('on its way out', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env=environment, stdout=subprocess.PIPE, text=True, preexec_fn=as_in_a_terminal,
    )  # fmt: skip
    assert process.stdout is not None
    for line in ("ready\n", "on its way out\n"):
        assert process.stdout.readline() == line
        process.send_signal(signal.SIGINT)
    assert process.wait() == 130
