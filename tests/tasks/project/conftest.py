"""Fixtures of the tests of what a project's record says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support import doubling


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """See tests/support/doubling.py; the current folder meanwhile."""
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    monkeypatch.chdir(tmp_path)
    return doubling.make(tmp_path)
