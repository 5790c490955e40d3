"""A captioner of one's own: the file that docs/models.md shows, in a profile."""

from __future__ import annotations

import re

import pytest

from tasks import captions
from tasks.errors import StippleError
from tasks.settings import OwnCaptioner
from tasks.store import tables
from tasks.store.schemas import SCHEMAS
from tests.support import ROOT, tiny_models
from tests.tasks.test_captions import colors

SHOWN = re.search(r"```python\n# my_captioner.py\n(.*?)```", (ROOT / "docs" / "models.md").read_text(), re.DOTALL)


def run(root, version=1):
    tables.write(root / "data" / "frames.parquet", SCHEMAS["frames"], colors("red", "green", "blue"))
    chosen = tiny_models.settings()
    mine = OwnCaptioner(own="my_captioner.py", version=version, batch_size=2)
    profile = chosen.profile.model_copy(update={"captioner": mine})
    counts = captions.run(chosen.model_copy(update={"profile": profile}), root)
    return counts, [row["caption"] for row in tables.read(root / "data" / "captions.parquet")]


def test_what_the_docs_show_describes_frames_and_its_version_is_part_of_the_row(tmp_path):
    assert SHOWN is not None
    (tmp_path / "my_captioner.py").write_text(SHOWN[1])
    counts, texts = run(tmp_path)
    assert (counts["computed"], set(texts)) == (3, {"A picture of 64 by 64 pixels."})
    assert run(tmp_path)[0]["computed"] == 0
    assert run(tmp_path, version=2)[0]["computed"] == 3


@pytest.mark.parametrize(
    "code, says",
    [
        (None, r"my_captioner.py is missing; the profile's captioner.own names a Python file"),
        ("1 / 0", r"its Captioner cannot be made \(ZeroDivisionError: division by zero\)"),
        (
            "class Captioner:\n    def __call__(self, pictures, prompt):\n        return []",
            "must return a text for each of 2",
        ),
    ],
)
def test_what_is_wrong_with_it_is_said_in_one_line(tmp_path, code, says):
    if code is not None:
        (tmp_path / "my_captioner.py").write_text(code)
    with pytest.raises(StippleError, match=says) as caught:
        run(tmp_path)
    assert "\n" not in str(caught.value)


LOOPING = """
class Captioner:
    def __init__(self):
        self.asked = []

    def __call__(self, pictures, prompt):
        colors = [picture.getpixel((0, 0)) for picture in pictures]
        self.asked += colors
        loop = "It smiles and smiles. " * 9
        return [loop if blue or green and self.asked.count((red, green, blue)) == 1 else "A face."
                for red, green, blue in colors]
"""


def test_words_that_are_no_use_are_asked_for_once_more_and_then_refused(tmp_path):
    (tmp_path / "my_captioner.py").write_text(LOOPING)
    counts, texts = run(tmp_path)
    assert (counts["rows"], counts["quarantined"], texts) == (2, 1, ["A face."] * 2)
    (refused,) = tables.read(tmp_path / "data" / "quarantine" / "captions.parquet")
    assert refused["frame_id"].startswith("blue")
    assert refused["reason"].startswith("its caption says the same again and again, asked twice: 'It smiles and")
