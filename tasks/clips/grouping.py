"""Which input files belong together, so that the split keeps them on one side and a contest counts them once: a clip.

- Files of the same content, whatever they are called and however they came to be two.
- The pictures of a numbered sequence, `walk/0001.png` and so on: one folder, and names that differ in the number at
  their end alone. Pictures straight in the input folder are pictures in their own right, and a folder of which at least
  half are copies or near-copies of such is no sequence.
- Pictures that are near-copies by their dHash, and what is a near-copy of one of these.

A clip's identity is the sha256 of its content, or the sequence's name. Where several are joined it is that of a
sequence before that of a single picture, and else of the file with the shortest name, as copies mostly have longer
ones. So a new file moves no clip to the other side, unless it joins two clips, or is a near-copy whose name comes
first. No rule that looks at today's files alone can keep near-copies together and avoid that.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_NUMBERED = re.compile(r"(.*/[^/]*?)\d+\.[^./]+", re.DOTALL)


@dataclass(frozen=True)
class File:
    """An input file: its name, its content, and the dHash of its picture; None for one of several frames."""

    name: str
    sha256: str
    dhash: int | None = None

    @property
    def sequence(self) -> str | None:
        """The sequence that it would belong to by its name."""
        numbered = _NUMBERED.fullmatch(self.name) if self.dhash is not None else None
        return unicodedata.normalize("NFC", numbered[1]) if numbered else None


def identities(files: Sequence[File], distance: int) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The clip that each of `files` belongs to: name → identity; and what was grouped: why → names.

    Near-copies differ in `distance` bits at most. Grouped are the copies of earlier files, the pictures of sequences,
    and what was joined to something that only looks like it.
    """
    look = _looks({file.dhash for file in files if file.dhash is not None}, distance)
    of_its_own = {label for file in files if not file.sequence for label in (file.sha256, look.get(file.dhash))} - {
        None
    }
    inside = Counter(file.sequence for file in files)
    outside = Counter(file.sequence for file in files if {file.sha256, look.get(file.dhash)} & of_its_own)
    alone = {
        file.name: file.sequence
        if file.sequence and 2 * outside[file.sequence] < inside[file.sequence]
        else file.sha256
        for file in files
    }
    clip = _joined({file.name: [alone[file.name], file.sha256, look.get(file.dhash)] for file in files})
    first: dict[Hashable, str] = {}
    for file in sorted(files, key=lambda file: (alone[file.name] == file.sha256, len(file.name), file.name)):
        first.setdefault(clip[file.name], alone[file.name])
    found = {file.name: first[clip[file.name]] for file in files}
    original = {file.sha256: file.name for file in reversed(files)}
    members = Counter(alone.values())
    return found, {
        "copies": [file.name for file in files if original[file.sha256] != file.name],
        "in_sequences": [
            file.name for file in files if alone[file.name] != file.sha256 and members[alone[file.name]] > 1
        ],
        "near_copies": [name for name in found if found[name] != alone[name]],
    }


def _looks(hashes: set[int], distance: int) -> dict[int | None, int]:
    """dHash → one that it is a near-copy of, or a near-copy of a near-copy, and so on: the same for all of these."""
    left = np.array(sorted(hashes), np.uint64)
    found: dict[int | None, int] = {}
    while len(left):
        alike, left = [left[0]], left[1:]
        for one in alike:  # grows meanwhile
            near = np.bitwise_count(left ^ one) <= distance
            if near.any():
                alike.extend(left[near])
                left = left[~near]
        found |= dict.fromkeys(map(int, alike), int(alike[0]))
    return found


def _joined(labels: Mapping[str, Sequence[Hashable]]) -> dict[str, Hashable]:
    """Name → one label, the same for names that share a label, and for what these share one with. None is no label."""
    parent: dict[Hashable, Hashable] = {}

    def root(label: Hashable) -> Hashable:
        while (above := parent.setdefault(label, label)) != label:
            parent[label] = label = parent[above]
        return label

    for own in labels.values():
        for label in own[1:]:
            if label is not None:
                parent[root(label)] = root(own[0])
    return {name: root(own[0]) for name, own in labels.items()}
