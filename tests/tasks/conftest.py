"""What tests of several stages share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def tiny_root(models_folder: Path, tmp_path: Path) -> Path:
    """An empty project's folder, with the tiny models where the profile of `tiny_models.settings` has them."""
    for folder in models_folder.iterdir():
        (tmp_path / folder.name).symlink_to(folder)
    return tmp_path
