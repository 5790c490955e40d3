"""Small real projects, and the commands of a user in them. All of a file's share one Prefect home."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.support import projects
from tests.support.projects import CLIPS, Environment, Run


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def environment(home: Path) -> Environment:
    return projects.environment(home)


@pytest.fixture(scope="module")
def run(environment: Environment) -> Run:
    """`run(project, *words)`: what a command says that has to succeed."""
    return partial(projects.run, environment)


@pytest.fixture(scope="module")
def new_project(tmp_path_factory: pytest.TempPathFactory, environment: Environment) -> Callable[[int], Path]:
    """`new_project(clips)`: a project with the first few of the demo's clips, in which nothing ran yet."""
    return lambda clips: projects.make(tmp_path_factory.mktemp("project"), environment, CLIPS[:clips])
