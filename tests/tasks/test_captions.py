"""Frames to captions: every frame has one or a reason, nothing is described twice, no text ends in mid-sentence."""

from __future__ import annotations

import hashlib
import weakref

import matplotlib.cbook
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tasks import captions
from tasks.captions import palette_share
from tasks.errors import StippleError
from tasks.models.captioner import load_captioner
from tasks.models.decoding import whole_sentences
from tasks.store import tables
from tasks.store.schemas import SCHEMAS
from tests.support import tiny_models
from tests.support.clips import png


def frame(source: str, index: int, content: bytes) -> tables.Row:
    name = f"{source}/{index:06d}"
    digest = hashlib.sha256(content).hexdigest()
    image = {"bytes": content, "path": name}
    return {"frame_id": name, "source": source, "frame_index": index, "sha256": digest, "image": image}


def colors(*names: str) -> list[tables.Row]:
    return [frame(f"{name}.mp4", number, png(tiny_models.picture(name))) for number, name in enumerate(names)]


def run(root, frames, profile=None, **options):
    tables.write(root / "data" / "frames.parquet", SCHEMAS["frames"], frames)
    chosen = tiny_models.settings()
    return captions.run(chosen.model_copy(update={"profile": profile or chosen.profile}), root, **options)


def table(root) -> dict[str, str]:
    return {row["frame_id"]: row["caption"] for row in tables.read(root / "data" / "captions.parquet")}


def quarantine(root) -> dict[str, str]:
    rows = tables.read(root / "data" / "quarantine" / "captions.parquet")
    return {row["frame_id"]: row["reason"] for row in rows}


def limited(count: int):
    profile = tiny_models.profile()
    return profile.model_copy(update={"captioner": profile.captioner.model_copy(update={"max_new_tokens": count})})


def test_each_frame_has_a_caption_or_a_reason(tiny_root):
    broken = frame("broken.png", 0, b"\x89PNG\r\n\x1a\n and then nothing")
    summary = run(tiny_root, [*colors("red", "green", "black"), broken, *colors("blue")])
    assert table(tiny_root) == {
        "red.mp4/000000": tiny_models.CAPTIONS["red"],
        "green.mp4/000001": tiny_models.CAPTIONS["green"],
        "blue.mp4/000000": tiny_models.CAPTIONS["blue"],
    }
    reasons = quarantine(tiny_root)
    assert reasons["black.mp4/000002"] == "the captioner had nothing to say about it"
    assert reasons["broken.png/000000"].startswith("its picture does not decode: ")
    assert summary["rows"] + summary["quarantined"] == 5
    assert summary["words_mean"] == pytest.approx(
        sum(len(text.split()) for text in table(tiny_root).values()) / 3, 0.01
    )


def test_a_stage_gives_its_model_back(tiny_root):
    held = weakref.ref(load_captioner(tiny_models.profile().captioner, tiny_root).model)
    assert run(tiny_root, colors("red"))["computed"] == 1
    assert held() is None


def test_only_new_frames_are_described_and_the_table_is_the_same_bytes(tiny_root):
    first = colors("red", "green", "black")
    assert run(tiny_root, first)["computed"] == 3
    before = (tiny_root / "data" / "captions.parquet").read_bytes()
    again = run(tiny_root, first)
    assert (again["computed"], again["reused"]) == (0, 3)
    assert (tiny_root / "data" / "captions.parquet").read_bytes() == before
    more = run(tiny_root, [*first, *colors("blue"), *colors("red")])
    assert (more["computed"], more["reused"]) == (1, 4)


def test_a_lost_row_store_refills_from_the_table_and_from_its_earlier_version(tiny_root):
    run(tiny_root, colors("red", "green"))
    expected = (tiny_root / "data" / "captions.parquet").read_bytes()
    (tiny_root / "data" / "captions.parquet").rename(tiny_root / "old.parquet")
    for path in (tiny_root / ".stipple").iterdir():
        path.unlink()
    asked = []

    def previous(name):
        asked.append(name)
        return tiny_root / "old.parquet" if name == "data/captions.parquet" else None

    assert run(tiny_root, colors("red", "green"), previous=previous)["computed"] == 0
    assert asked == ["data/captions.parquet", "data/quarantine/captions.parquet"]
    assert (tiny_root / "data" / "captions.parquet").read_bytes() == expected


def test_a_lost_row_store_remembers_refusals_from_the_quarantine(tiny_root):
    run(tiny_root, colors("red", "black"))
    expected = quarantine(tiny_root)
    (tiny_root / ".stipple" / "rows.sqlite").unlink()
    assert run(tiny_root, colors("red", "black", "green"))["computed"] == 1
    assert quarantine(tiny_root) == expected


def test_another_prompt_or_precision_is_another_caption_and_another_batch_size_is_not(tiny_root):
    run(tiny_root, colors("red"))
    profile = tiny_models.profile()
    larger = profile.captioner.model_copy(update={"batch_size": 32})
    assert run(tiny_root, colors("red"), profile.model_copy(update={"captioner": larger}))["computed"] == 0
    bfloat16 = profile.captioner.model_copy(update={"dtype": "bfloat16"})
    assert run(tiny_root, colors("red"), profile.model_copy(update={"captioner": bfloat16}))["computed"] == 1


def test_a_caption_that_is_too_long_ends_with_its_last_whole_sentence(tiny_root, caplog):
    summary = run(tiny_root, colors("red", "blue", "white"), limited(20))
    assert table(tiny_root) == {
        "red.mp4/000000": tiny_models.CAPTIONS["red"],
        "blue.mp4/000001": "A blue face looks up.",
    }
    assert "no whole sentence within max_new_tokens" in quarantine(tiny_root)["white.mp4/000002"]
    assert summary["cut"] == 1
    assert "1 captions, the first of blue.mp4/000001, ran into max_new_tokens = 20" in caplog.text


def test_no_caption_at_all_is_an_error_that_says_why(tiny_root):
    with pytest.raises(StippleError, match=r"none of 1 rows .*'black.mp4/000000': the captioner had nothing to say"):
        run(tiny_root, colors("black"))


def test_rows_in_equal_rows_out_and_pictures_are_found_in_any_row_group(tiny_root, monkeypatch):
    monkeypatch.setattr(tables, "GROUP_ROWS", 64)
    names = [("red", "green", "blue")[number % 3] for number in range(150)]
    frames = [frame("clip.mp4", n, png(tiny_models.picture(name, (64 + n, 64 + n)))) for n, name in enumerate(names)]
    profile = tiny_models.profile()
    larger = profile.captioner.model_copy(update={"batch_size": 75})
    assert run(tiny_root, frames, profile.model_copy(update={"captioner": larger}))["computed"] == 150
    assert list(table(tiny_root).values()) == [tiny_models.CAPTIONS[name] for name in names]


def test_pictures_unlike_what_the_model_knows_are_pointed_out_once(tiny_root, caplog):
    (tiny_root / "captioner").unlink()
    folder = tiny_root / "captioner"
    folder.mkdir()
    for path in (tiny_root / "embedder").resolve().parent.joinpath("captioner").iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "README.md").write_text(
        "---\nscope:\n  knows: plain colours\n  use_instead: laptop\n  palette_share: 0.5\n---\n# Card\n"
    )
    photo = png(Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg")))
    summary = run(
        tiny_root, [*colors("red"), frame("one.mp4", 0, photo), frame("one.mp4", 6, photo), frame("two.mp4", 0, photo)]
    )
    assert summary["unfamiliar_sources"] == 1  # equal pictures are described once
    notices = [record.message for record in caplog.records if "looks unlike" in record.message]
    assert len(notices) == 1
    assert "'one.mp4' looks unlike plain colours, the only thing that captioner knows" in notices[0]
    assert "`profile: laptop` in params.yaml" in notices[0]


def test_a_photograph_has_many_colors_and_a_drawing_few():
    assert palette_share(tiny_models.picture("red")) == 1
    assert palette_share(Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg"))) < 0.5


def test_sentences_end_where_they_end():
    assert whole_sentences('One. Two is 2.5 long! "Three?" And then') == ["One.", "Two is 2.5 long!", '"Three?"']
    assert whole_sentences("nothing ends") == []
    assert whole_sentences("…") == ["…"]


@given(st.lists(st.text("ab ,", min_size=1).map(lambda text: "x" + text.strip() + "."), max_size=5), st.text("ab ,"))
def test_whole_sentences_leave_out_only_the_unfinished_end(sentences, rest):
    assert whole_sentences(" ".join([*sentences, rest])) == sentences
