"""Files of an input folder that are wrong in every way we could think of, and what the quarantine says of each."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.clips import sound, video


def unix_socket(path: Path) -> None:
    """Make a socket at `path`, which may be longer than a socket's address."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("bad-files.socket")
    Path("bad-files.socket").rename(path)


BAD: list[tuple[str, Callable[[Path], Any], str]] = [
    ("cut.mp4", lambda p: p.write_bytes(video(p).read_bytes()[:2000]), "damaged, cut short"),
    ("empty.mp4", lambda p: p.write_bytes(b""), r"is empty \(0 bytes\)"),
    ("empty.png", lambda p: p.write_bytes(b""), r"is empty \(0 bytes\)"),
    ("text.mp4", lambda p: p.write_text("I am a letter, not a film.\n" * 50), "not a video or picture"),
    ("text.jpg", lambda p: p.write_text("I am a letter, not a photo.\n" * 50), "not a video or picture"),
    ("list.mp4", lambda p: p.write_text("ffconcat version 1.0\nfile good.mp4\n"), "not a video or picture"),
    ("sound.mp4", sound, "sound only"),
    ("folder.mp4", lambda p: os.mkfifo(p), "not a regular file"),
    ("socket.mp4", unix_socket, "not a regular file"),
    ("dead [1] #2!.mp4", lambda p: p.symlink_to("nowhere.mp4"), "is a link to a file that is not there"),
    ("round.mp4", lambda p: p.symlink_to("round.mp4"), "is a link to a file that is not there"),
    (os.fsdecode(b"caf\xe9 au\nlait.mp4"), lambda p: video(p.with_name("_.mp4")).rename(p), "name that is not UTF-8"),
]
"""Name, how to make it at a path, and a pattern of its reason."""
