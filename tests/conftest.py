"""Fixtures that several packages' tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

LONG = {"test_two_doors.py", "test_faults.py", "test_deployments.py", "test_end_to_end.py", "test_stopping.py"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Minutes before seconds, so that no core is left alone with a long file at the end."""
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """What a test draws without a generator of its own is the same in every run."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three small real checkpoints that know a few texts by heart, see tests/support/tiny_models.py."""
    from tests.support import tiny_models  # with transformers, which most tests do without

    folder = tmp_path_factory.mktemp("tiny")
    tiny_models.save(folder)
    return folder


@pytest.fixture(scope="session")
def trained(models_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small project with a trained model, see tests/support/small_project.py. Tests that write work on a copy."""
    from tests.support import small_project

    return small_project.trained(tmp_path_factory.mktemp("trained"), models_folder / "embedder")
