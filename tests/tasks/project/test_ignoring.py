"""What DVC cannot hash is named in .dvcignore, and everything else that it says stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import StippleError
from tasks.project import ignoring
from tests.support.bad_files import BAD


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The input folder of a project in the current folder."""
    (tmp_path / "project" / "clips" / "sub").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    return Path("clips")


def test_it_is_named_while_it_is_there_and_no_longer(folder: Path) -> None:
    ignoring.FILE.write_text("*.tmp")
    assert not ignoring.update([folder])
    for name, make, _ in BAD:
        make(folder / "sub" / name)
    (folder / ".#lock").symlink_to("nowhere")
    assert ignoring.update([folder])
    with ignoring.FILE.open("a") as file:
        file.write("of-a-user\n")
    assert ignoring.update([folder]) and not ignoring.update([folder])
    lines = ignoring.FILE.read_text().splitlines()
    assert lines[0] == "*.tmp" and "of-a-user" in lines
    assert "/clips/.\\#lock" in lines and "/clips/sub/folder.mp4" in lines and not [x for x in lines if "empty" in x]
    for path in (*(folder / "sub").iterdir(), folder / ".#lock"):
        path.unlink()
    assert ignoring.update([folder])
    assert ignoring.FILE.read_text().split() == ["*.tmp", "of-a-user"]


def test_a_folder_beyond_the_project_is_one_line_with_the_file(folder: Path) -> None:
    beyond = Path("../clips")
    beyond.mkdir()
    assert ignoring.pending([beyond]) is None
    (beyond / "dead.mp4").symlink_to("nowhere")
    with pytest.raises(StippleError, match=r"DVC cannot hash '../clips/dead.mp4' .* move it out of the input folder"):
        ignoring.pending([beyond])
