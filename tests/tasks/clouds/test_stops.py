"""Signals that wait for the end of a training step."""

import os
import signal

import pytest

from tasks.clouds import stops


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_waits_until_it_is_let_through() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), stops.held() as let_through:
        for step in range(3):
            if step == 1:
                press()
            done.append(step)
            let_through()
    assert done == [0, 1]


def test_the_second_one_goes_through_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), stops.held():
        press()
        press()
        pytest.fail("it waited")


def test_one_that_nobody_asked_for_comes_at_the_end() -> None:
    with pytest.raises(KeyboardInterrupt), stops.held():
        press()
    before = signal.getsignal(signal.SIGINT)
    with stops.held():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
