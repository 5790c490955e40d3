"""The drawings: each prompt's, under a name of its own."""

import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import draw
from tests.support import small_project


@pytest.fixture
def root(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "project")


def test_each_prompt_is_drawn_and_nothing_else(root):
    folder = root / "data" / "drawings"
    folder.mkdir()
    (folder / "of-an-earlier-prompt.png").write_bytes(b"")
    draw.run(small_project.settings(), root)
    names = {path.name for path in folder.iterdir()}
    assert "front-facing-smiling-expression.png" in names and len(names) == 3
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    draw.run(small_project.settings(), root)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first


@given(st.lists(st.text(max_size=6), max_size=12))
def test_every_prompt_has_a_file_name_of_its_own(prompts):
    names = draw.slugs(prompts)
    assert len(set(names)) == len(prompts) and all(names)
    assert not any(set(name) & set("/\\. \n\0") for name in names)
