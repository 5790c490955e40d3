"""What training begins as: random weights, or those of a promoted version.

`models/start.json` says which. The train stage depends on it, so the version that it names, with the digest of its
weights, is part of what determines the model. Only a retraining writes it, once it has something new to train on:
promoting what came of v1 does not make that stale.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from tasks.clouds import training_set
from tasks.errors import StippleError
from tasks.registry import versions
from tasks.settings import Settings
from tasks.store import files

FILE = Path("models/start.json")


@dataclass(frozen=True)
class WarmStart:
    """A promoted version and the sha256 of its weights; both None for random weights."""

    version: str | None = None
    sha256: str | None = None

    def weights(self, root: Path) -> dict[str, Tensor] | None:
        """The version's weights; None for random ones."""
        if self.version is None:
            return None
        if versions.load(root).judgement(self.version).sha256[versions.MODEL] != self.sha256:
            raise StippleError(f"{FILE} means another {self.version} than {versions.POINTER}; restore both with git")
        return load_file(root / versions.read(root, self.version) / versions.MODEL)


def load(root: Path) -> WarmStart:
    """What `models/start.json` says; random weights if it is not there."""
    path = root / FILE
    try:
        return WarmStart(**json.loads(path.read_text()))
    except FileNotFoundError:
        return WarmStart()
    except (OSError, ValueError, TypeError) as error:
        raise StippleError(f"{path} cannot be read ({error!r}); restore it with git") from None


def choose(settings: Settings, root: Path) -> str:
    """Write what `retrain.start` in params.yaml comes to today, and return it in words."""
    version, said = None, "with random weights"
    if settings.params.retrain.start == "champion":
        champion = versions.load(root).champion
        if champion is None:
            said += ", as there is no champion yet"
        elif not _same_kind(settings, root, champion):
            said += f", as {champion} is another kind of network or reads with another embedder"
        else:
            version, said = champion, f"as {champion}"
    sha256 = versions.load(root).judgement(version).sha256[versions.MODEL] if version else None
    if load(root) != (chosen := WarmStart(version, sha256)):
        files.write(root / FILE, json.dumps(asdict(chosen), indent=2) + "\n")
    return said


def _same_kind(settings: Settings, root: Path, version: str) -> bool:
    card = versions.card(root, version)
    data = training_set.load(root)
    wanted = settings.params.train.network, data["point_clouds"].shape[2], data["embedder"]
    return (card["network"]["name"], card["network"].get("dim", 2), card["embedder"]) == wanted
