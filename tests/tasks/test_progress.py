"""What a stage says of how far it is, in a terminal and elsewhere."""

import logging
import os
import re
import select
import sys
import termios

import pytest

from tasks import progress
from tasks.progress import duration


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_elsewhere_than_in_a_terminal_it_says_lines_and_fewer_as_time_goes_on(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    caplog.set_level(logging.INFO, "stipple")
    with progress.progress("train", 2000, "step") as bar:
        bar.skip(1000)
        for step in range(1, 1000):
            now = float(step)
            bar.advance(said="loss 0.5000")
    said = lines(caplog)
    assert said[0] == "train: 1,005 of 2,000 steps, loss 0.5000, 16 min 35 s left"
    times = [int(line.split()[1].replace(",", "")) - 1000 for line in said]
    assert times[:4] == [5, 10, 15, 20] and times[-1] - times[-2] == 20
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_in_a_terminal_it_draws_a_bar_and_leaves_nothing_behind(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, its = os.openpty()
    termios.tcsetwinsize(its, (24, 80))
    with os.fdopen(its, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with progress.progress("captions", 4, "row") as bar:
            bar.advance(4)
        shown = ""
        while select.select([ours], [], [], 2)[0]:
            shown += os.read(ours, 10_000).decode()
    os.close(ours)
    assert "captions:   0%" in shown
    assert re.split(r"[\r\n]", shown)[-1].strip() == ""
    assert lines(caplog) == []


def test_a_signal_takes_along_what_is_kept() -> None:
    with pytest.raises(KeyboardInterrupt) as stop, progress.progress("captions", 4, "row", kept=True) as bar:
        bar.advance(3)
        raise KeyboardInterrupt
    assert stop.value.__notes__ == ["in captions at 3 of 4 rows"]
    with pytest.raises(KeyboardInterrupt) as stop, progress.progress("drawing", 4, "picture"):
        raise KeyboardInterrupt
    assert not hasattr(stop.value, "__notes__")


@pytest.mark.parametrize(
    "seconds, said", [(0.04, "0.04 s"), (9.5, "9.5 s"), (59.4, "59 s"), (59.7, "1 min 0 s"), (7384, "2 h 3 min")]
)
def test_times_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said
