"""The models that were promoted, in `models/registry/`: a folder for each version, and which of them is the champion.

A version's folder (`v2/`: the model, its card, a report, the clips) never changes after it is there. `registry.json`
names the champion and remembers every decision; it is written last and at once, so whatever dies on the way leaves the
champion that was.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tasks.errors import StippleError
from tasks.settings import Settings
from tasks.store import files
from tasks.store.digests import digest_of

FOLDER = Path("models/registry")
POINTER = FOLDER / "registry.json"
MODEL, CARD, REPORT, CLIPS = "model.safetensors", "model.json", "report.json", "clips.json"


@dataclass(frozen=True)
class Judgement:
    """One challenger and what became of it."""

    question: str
    """What DVC says determines the training: a digest of its data, recipe and code."""
    rules: str
    """A digest of the rules it was judged by."""
    against: str | None
    """The champion at that time."""
    version: str | None
    """What it became; None if it was refused."""
    reasons: tuple[str, ...]
    sha256: Mapping[str, str]
    """The digests of the version's files, or of the refused model alone."""


@dataclass(frozen=True)
class Registry:
    """What registry.json holds."""

    champion: str | None = None
    history: tuple[Judgement, ...] = ()

    def judgement(self, version: str) -> Judgement:
        for judged in self.history:
            if judged.version == version:
                return judged
        raise StippleError(
            f"{POINTER} knows no {version}; `stipple models` lists what it knows, `dvc pull` fetches a team's"
        )

    @property
    def versions(self) -> list[str]:
        """Every version there was, oldest first."""
        return [judged.version for judged in self.history if judged.version]


def load(root: Path) -> Registry:
    """The registry under `root`; an empty one if nothing was ever judged."""
    path = root / POINTER
    try:
        content = json.loads(path.read_text())
        history = tuple(Judgement(**judged | {"reasons": tuple(judged["reasons"])}) for judged in content["history"])
        return Registry(content["champion"], history)
    except FileNotFoundError:
        return Registry()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StippleError(f"{path} cannot be read ({error!r}); restore it with git or `dvc pull`") from None


def nothing_new(settings: Settings, root: Path, question: str) -> str | None:
    """Why there is nothing to train or judge, where `question` is what DVC says determines the training."""
    return settled(load(root), question, rules_of(settings))


def rules_of(settings: Settings) -> str:
    """A digest of everything that settles a comparison, besides the models and the data."""
    evaluate = settings.params.evaluate
    return digest_of(**settings.params.promote.model_dump(), steps=evaluate.steps, guidance=evaluate.guidance)


def settled(registry: Registry, question: str, rules: str) -> str | None:
    """Why training by `question` and judging by `rules` could bring nothing new, or None if it could."""
    for judged in reversed(registry.history):
        if judged.question != question:
            continue
        if judged.version is None:
            if (judged.against, judged.rules) == (registry.champion, rules):
                return "what today's data and recipe give was judged before, and not promoted"
        elif judged.version == registry.champion:
            return f"data and recipe are those of {registry.champion}, the champion"
        else:
            return f"today's data and recipe gave {judged.version} before, and {registry.champion} is in its place"
    return None


def publish(root: Path, judged: Judgement, content: Mapping[str, bytes]) -> str:
    """Keep `content` (file name → bytes) as a new version, make it the champion, and return its name."""
    registry = _unmoved(root, judged)
    version = f"v{len(registry.versions) + 1}"
    folder, draft = root / FOLDER / version, root / FOLDER / f".{version}"
    for leftover in (folder, draft):  # of a run that died before registry.json named it
        shutil.rmtree(leftover, ignore_errors=True)
    files.write_folder(draft, content)
    draft.rename(folder)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    judged = replace(judged, version=version, sha256=digests)
    _write(root, Registry(version, (*registry.history, judged)))
    return version


def refuse(root: Path, judged: Judgement) -> None:
    """Remember a challenger that was not promoted, so that no later night tries the same again."""
    registry = _unmoved(root, judged)
    _write(root, replace(registry, history=(*registry.history, judged)))


def rollback(root: Path, version: str | None = None) -> tuple[str, str]:
    """Make `version`, or else the champion's predecessor, the champion; both names, the new one last."""
    registry = load(root)
    if registry.champion is None:
        raise StippleError("there is no champion yet; `stipple retrain` trains one")
    version = version or registry.judgement(registry.champion).against
    if version is None:
        raise StippleError(f"{registry.champion} is the first champion; there is none to go back to")
    if version == registry.champion:
        raise StippleError(f"{version} is the champion already")
    if version not in registry.versions:
        raise StippleError(f"there is no {version}; `stipple models` lists what there is")
    read(root, version)
    _write(root, replace(registry, champion=version))
    return registry.champion, version


def champion(root: Path) -> Path | None:
    """The champion's model file, relative to `root`, checked, its card beside it; None if there is no champion."""
    version = load(root).champion
    return read(root, version) / MODEL if version else None


def unmet(reasons: Iterable[str]) -> list[str]:
    """Those of a judgement's reasons that spoke against the challenger."""
    return [reason for reason in reasons if reason.startswith("not ")]


def read(root: Path, version: str) -> Path:
    """The folder of `version`, relative to `root`, after a look at every file in it."""
    folder = FOLDER / version
    for name, expected in load(root).judgement(version).sha256.items():
        path = root / folder / name
        if not path.is_file():
            raise StippleError(f"{path} is missing; `dvc pull` fetches it, or `stipple rollback` leaves {version}")
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                raise StippleError(f"{path} is not what was promoted (its digest differs); remove it and `dvc pull`")
    return folder


def report(root: Path, version: str) -> dict[str, Any]:
    """What was measured and decided when `version` was promoted."""
    return json.loads((root / read(root, version) / REPORT).read_text())


def card(root: Path, version: str) -> dict[str, Any]:
    """The card of `version`, as training wrote it."""
    return json.loads((root / read(root, version) / CARD).read_text())


def clips(root: Path, version: str) -> dict[str, dict[str, str]]:
    """The input files when `version` was trained: name → `sha256`, `use` (train, held_out, or none), and `clip`.

    `clip` is the identity of what the file belongs to (`tasks.clips.grouping`); versions of before 2026-11-27 lack it.
    """
    return json.loads((root / read(root, version) / CLIPS).read_text())


def seen(root: Path, version: str | None) -> set[str]:
    """Digests of the files, and clips, that `version` was trained on, or any version that its training began as."""
    if version is None:
        return set()
    trained = [file for file in clips(root, version).values() if file["use"] == "train"]
    own = {file.get(what, file["sha256"]) for file in trained for what in ("sha256", "clip")}
    return own | seen(root, card(root, version)["start"]["version"])


def _unmoved(root: Path, judged: Judgement) -> Registry:
    registry = load(root)
    if registry.champion != judged.against:
        raise StippleError(
            f"the champion changed from {judged.against} to {registry.champion} while a challenger was measured "
            "against it, so nothing was decided; run `stipple retrain` again"
        )
    return registry


def _write(root: Path, registry: Registry) -> None:
    history = [{**vars(judged), "sha256": dict(judged.sha256)} for judged in registry.history]
    files.write(root / POINTER, json.dumps({"champion": registry.champion, "history": history}, indent=2) + "\n")
