"""Which server a run reports to."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.local import address
from tasks.errors import StippleError
from tests.support.projects import free_port


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(address.VARIABLE, "")
    address.OWN.parent.mkdir()


@pytest.fixture
def up() -> Iterator[str]:
    with socket.create_server((address.HOST, 0)) as server:
        yield f"http://{address.HOST}:{server.getsockname()[1]}/api"


def test_the_projects_own_server_is_found(up: str) -> None:
    address.OWN.write_text(up)
    address.choose()
    assert os.environ[address.VARIABLE] == up


def test_one_that_is_named_comes_first(up: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(address.VARIABLE, up)
    address.OWN.write_text("http://127.0.0.1:1/api")
    address.choose()
    assert os.environ[address.VARIABLE] == up


def test_what_a_killed_server_left_is_passed_over() -> None:
    address.OWN.write_text(f"http://127.0.0.1:{free_port()}/api")
    address.choose()
    assert not os.environ[address.VARIABLE]


def test_a_named_one_that_is_down_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(address.VARIABLE, f"http://127.0.0.1:{free_port()}/api")
    with pytest.raises(StippleError, match=r"PREFECT_API_URL is http.* but nobody answers there"):
        address.choose()
