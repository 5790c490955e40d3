"""The checkpoints of a profile that come from the Hugging Face hub: which commit of each, how large, and fetched ahead.

A branch or tag is resolved to a commit once, and `models/hub.json` keeps that. The stages depend on this file, so they
stay what they were until somebody resolves anew.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.errors import StippleError
from tasks.models import checkpoints
from tasks.settings import Pinned, Profile
from tasks.store import files

FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]


def checkpoints_of(profile: Profile, root: Path) -> dict[str, Pinned]:
    """Part of the profile → checkpoint, of those that the hub has."""
    parts = {name: getattr(profile, name) for name in Profile.model_fields}
    return {
        name: part
        for name, part in parts.items()
        if isinstance(part, Pinned) and part.revision is not None and not (root / part.model).is_dir()
    }


def resolve(profile: Profile, root: Path) -> None:
    """Write down which commits the profile's branches are, of those that are not written down yet."""
    before = checkpoints.resolved(root)
    known = dict(before)
    for part in checkpoints_of(profile, root).values():
        name = checkpoints.branch(part)
        if not checkpoints.is_commit(part.revision or "") and name not in known:
            known[name] = _look(part, part.revision or "")[0].commit_hash
    if known != before:
        files.write(root / checkpoints.RESOLVED, json.dumps(known, indent=2, sort_keys=True) + "\n")


def pull(profile: Profile, root: Path) -> Iterator[str]:
    """Fetch what the profile needs into the hub's own cache; a line for each checkpoint before it comes."""
    from huggingface_hub import HfApi, snapshot_download

    resolve(profile, root)
    for name, part in checkpoints_of(profile, root).items():
        commit = checkpoints.commit_of(part, root)
        found = _look(part, commit)
        size = sum(file.file_size for file in found)
        lacking = sum(file.file_size for file in found if file.will_download)
        try:
            card = HfApi().model_info(part.model, revision=commit).card_data
        except OSError as error:
            raise checkpoints.unreachable(part.model, error) from None
        licence = (card.get("license_name") or card.get("license") if card else None) or "not stated"
        note = getattr(part, "licence", None)
        yield (
            f"{name}: {part.model} at {commit[:10]}, {_bytes(size)}, "
            f"{f'{_bytes(lacking)} to fetch' if lacking else 'here already'}; licence: {licence}"
            f"{f' ({note})' if note else ''}"
        )
        if lacking:
            snapshot_download(part.model, revision=commit, allow_patterns=FILES)


def _look(part: Pinned, revision: str) -> list[Any]:
    """What fetching `revision` would fetch."""
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(part.model, revision=revision, allow_patterns=FILES, dry_run=True)
    except OSError as error:
        raise checkpoints.unreachable(part.model, error) from None
    if not any(file.filename.endswith(".safetensors") for file in found):
        raise StippleError(f"{part.model} at {revision} has no safetensors, and nothing else is loaded; choose another")
    return found


def _bytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
