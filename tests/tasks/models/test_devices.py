"""Each process takes an accelerator that no other one has."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support import ROOT

CLAIM = "from tasks.models.devices import claim; print(claim(('one', 'two')), flush=True); input()"


@contextmanager
def process(folder: object) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that claims one of two, and what it got."""
    claiming = subprocess.Popen(
        [sys.executable, "-c", CLAIM], cwd=ROOT, env=os.environ | {"TMPDIR": str(folder)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with claiming:
        assert claiming.stdout is not None
        yield claiming, int(claiming.stdout.readline())
        claiming.kill()


def test_each_process_has_one_until_it_ends_and_a_third_shares_the_first(tmp_path):
    with process(tmp_path) as (one, first), process(tmp_path) as (_, second):
        assert [first, second] == [0, 1]
        with process(tmp_path) as (_, third):
            assert third == 0
        one.kill()
        one.wait()
        with process(tmp_path) as (_, next_one):
            assert next_one == 0
