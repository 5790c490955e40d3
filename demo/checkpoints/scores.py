"""How good the demo checkpoints are on the demo clips, which they never saw: `python -m demo.checkpoints.scores`.

The pipeline's own code makes captions, summaries and embeddings; the renderer's script says what is true. A frame
counts for orientation, or for expression, only if it shows one clearly.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from demo import reader
from demo.faces.characters import CAST, EXPRESSIONS, ORIENTATIONS, Pose
from demo.phrasings import read
from demo.words import facts, summary
from fm import grids, metrics
from fm.autoencoder import Autoencoder
from tasks import captions, points, settings, summaries
from tasks.clips import media
from tasks.clouds import density, latents
from tasks.errors import Refused
from tasks.models import checkpoints, loading
from tasks.models.embedder import Embedder, load_embedder
from tasks.store.tables import chunks

BATCH = 64
CLIPS, TRUTH = Path("demo/clips"), Path("demo/truth.json")
GOALS = {
    "captions name the orientation": 0.99,
    "captions name the expression": 0.97,
    "words per caption, mean": 200,
    "summaries keep both facts": 0.97,
    "embeddings: the nearest agrees on both": 0.90,
    "embeddings: free phrasings land right": 0.90,
}
READER_GOALS = {
    f"the reader tells {fact.replace('_', ' ')}": 0.99 if fact == "orientation" else 0.95 for fact in reader.FACTS
}
RECONSTRUCTION = ("encoded, decoded: the reader tells expression", "encoded, decoded: Chamfer", "floor: Chamfer")
PHRASINGS = {
    "a face looking to the left, smiling": ("left", "smiling"),
    "Front-facing, smiling expression": ("front", "smiling"),
    "Left-facing, neutral expression": ("left", "neutral"),
    "Right-facing, happy expression": ("right", "smiling"),
    "Left-facing memoji with a smiling expression": ("left", "smiling"),
    "someone who looks up at the ceiling and laughs": ("up", "laughing"),
    "she is sad and looks down": ("down", "sad"),
    "an angry man turned to the left": ("left", "angry"),
    "surprised, facing right": ("right", "surprised"),
    "a cheerful woman looking straight at the camera": ("front", "smiling"),
    "winking at you from the front": ("front", "winking"),
    "furious face, head turned left": ("left", "angry"),
    "shocked man seen from the front": ("front", "surprised"),
    "calm person looking up": ("up", "neutral"),
    "a man with glasses, facing right, laughing": ("right", "laughing"),
    "girl looking left with a wink": ("left", "winking"),
}


@dataclass(frozen=True)
class Words:
    """What the checkpoints said of some frames: ids, truth, caption, summary row and embedding [N, 512]."""

    frame_ids: list[str]
    truth: list[dict[str, Any]]
    captions: list[str]
    summaries: list[dict[str, Any]]
    embeddings: np.ndarray


def pictures(given: settings.Settings, clips: Sequence[str] | None = None, root: Path = Path()) -> dict[str, bytes]:
    """The kept frames of the demo clips (or of those named), as PNGs by frame id."""
    params = given.params.frames
    return {
        f"{path.name}/{picture.index:06d}": _png(picture)
        for path in sorted((root / CLIPS).iterdir())
        if clips is None or path.name in clips
        for picture in media.pictures(path, params.every, params.max_side)
    }


def describe(given: settings.Settings, clips: Sequence[str] | None = None, root: Path = Path()) -> Words:
    """Run captioner, summarizer and embedder over the kept frames of the demo clips (or of those named)."""
    truth = json.loads((root / TRUTH).read_text())
    profile, params = given.profile, given.params
    frames = pictures(given, clips, root)
    encoded = list(frames.values())
    said = []
    for some in chunks(encoded, loading.gathered(profile.captioner.batch_size)):
        said += captions.caption(some, checkpoint=profile.captioner, prompt=params.captions.prompt, root=root)
    texts = [json.loads(_good(row))["caption"] for row in said]
    answers = []
    for some_texts in chunks(texts, loading.gathered(profile.summarizer.batch_size)):
        answers += summaries.summarize(
            some_texts,
            checkpoint=profile.summarizer,
            embedder=profile.embedder,
            params=params.summaries,
            root=root,
        )
    rows = [json.loads(_good(answer)) for answer in answers]
    embeddings = load_embedder(profile.embedder, root)([row["summary"] for row in rows])
    return Words(list(frames), [truth[frame] for frame in frames], texts, rows, embeddings)


def score(words: Words, given: settings.Settings, root: Path = Path()) -> dict[str, float]:
    """The scores by name; shares lie between 0 and 1."""
    read_captions = [read(text) for text in words.captions]
    shown = [(true["orientation"], true["expression"]) for true in words.truth]
    both = zip(read_captions, shown, words.truth, strict=True)
    right = [(said[0] == fact[0], said[1] == fact[1], true) for said, fact, true in both]
    clear = np.array([true["orientation_clear"] and true["expression_clear"] for true in words.truth])
    cosines = words.embeddings @ words.embeddings.T
    others = cosines[~np.eye(len(cosines), dtype=bool)]
    clip = np.array([frame.rpartition("/")[0] for frame in words.frame_ids])
    tellers: dict[str, set[str]] = {}
    for text, true in zip(words.captions, words.truth, strict=True):
        tellers.setdefault(text, set()).add(true["character"])
    lengths = [len(text.split()) for text in words.captions]
    return {
        "frames": len(words.captions),
        "captions name the orientation": _mean(good for good, _, true in right if true["orientation_clear"]),
        "captions name the expression": _mean(good for _, good, true in right if true["expression_clear"]),
        "words per caption, mean": float(np.mean(lengths)),
        "words per caption, min": min(lengths),
        "captions that two characters share": sum(len(characters) > 1 for characters in tellers.values()),
        "summaries keep both facts": _mean(
            read(row["summary"]) == said for row, said in zip(words.summaries, read_captions, strict=True)
        ),
        "words per summary, max": max(row["words"] for row in words.summaries),
        "tokens per summary, max": max(row["clip_tokens"] for row in words.summaries),
        "attempts per summary, max": max(row["attempts"] for row in words.summaries),
        "embeddings: the nearest agrees on both": _agreement(cosines, shown, clear, np.eye(len(clip), dtype=bool)),
        "embeddings: the nearest of another clip agrees": _agreement(cosines, shown, clear, clip[:, None] == clip),
        "embeddings: free phrasings land right": phrasings_land(load_embedder(given.profile.embedder, root)),
        "cosine, mean": float(others.mean()),
        "cosine, std": float(others.std()),
        "cosine, min": float(others.min()),
    }


def true_maps(
    given: settings.Settings, clips: Sequence[str] | None = None, root: Path = Path(), *, every: int = 1
) -> tuple[dict[str, Tensor], list[dict[str, str]]]:
    """Where kept frames of the demo clips (or of those named) have points, and the facts that each of them shows."""
    truth, cast = json.loads((root / TRUTH).read_text()), {member.name: member for member in CAST}
    frames = dict(list(pictures(given, clips, root).items())[::every])
    weighing = given.params.points.weighting
    maps = density.from_maps(points.encode(points.weigh(points.decode(png), weighing)) for png in frames.values())
    return maps, [reader.truth_of(cast[truth[frame]["character"]], truth[frame]) for frame in frames]


def score_reader(clouds: Tensor, true: Sequence[Mapping[str, str]]) -> dict[str, float]:
    """The share of clouds of which the reader tells each fact right."""
    said = reader.read(clouds)
    return {
        f"the reader tells {fact.replace('_', ' ')}": _mean(
            said[fact][row] == facts[fact] for row, facts in enumerate(true) if fact in facts
        )
        for fact in reader.FACTS
    }


def read_all(given: settings.Settings) -> dict[str, float]:
    """The reader's score on a cloud of each kept frame of the demo clips, and on what the autoencoder makes of it."""
    maps, true = true_maps(given)
    generator = torch.Generator().manual_seed(given.params.seed)
    frames = torch.arange(len(true))
    clouds, again = (density.draw(maps, frames, reader.POINTS, generator) for _ in range(2))
    noise = torch.randn(clouds.shape, generator=generator)
    assert given.profile.autoencoder is not None
    model = latents.load(checkpoints.folder(given.profile.autoencoder))
    decoded = torch.cat([reconstructed(model, maps, some, noise[some]) for some in frames.split(BATCH)])
    expression = score_reader(decoded, true)["the reader tells expression"]
    apart = [float(metrics.chamfer(some, clouds).mean()) for some in (decoded, again)]
    return score_reader(clouds, true) | dict(zip(RECONSTRUCTION, [expression, *apart], strict=True))


@torch.no_grad()
def reconstructed(model: Autoencoder, maps: dict[str, Tensor], frames: Tensor, noise: Tensor) -> Tensor:
    """Clouds [B, N, 2] of `frames` [B], encoded and decoded by the autoencoder, from noise [B, N, 2]."""
    mean, _ = model.encode(density.raster(maps, frames, model.side))
    return grids.transport(model.decode(mean).exp(), noise, extent=density.EXTENT)


def phrasings_land(embedder: Embedder) -> float:
    """Share of `PHRASINGS` that lie nearest to a summary of what they mean, of all faces of every fifth character."""
    ways = {"front": (0.0, 0.0), "left": (-0.7, 0.0), "right": (0.7, 0.0), "up": (0.0, 0.7), "down": (0.0, -0.7)}
    faces = [
        facts(member, Pose(*ways[orientation], expression))
        for member in CAST[::5]
        for orientation in ORIENTATIONS
        for expression in EXPRESSIONS
    ]
    near = (embedder(list(PHRASINGS)) @ embedder([summary(face) for face in faces]).T).argmax(axis=1)
    found = [(faces[number]["orientation"], faces[number]["expression"]) for number in near]
    return _mean(a == b for a, b in zip(found, PHRASINGS.values(), strict=True))


def _agreement(cosines: np.ndarray, shown: list[tuple], clear: np.ndarray, barred: np.ndarray) -> float:
    """Share of the clear frames, of those that can, whose nearest clear frame that is not barred shows the same."""
    eligible = clear & ~barred
    near = np.where(eligible, cosines, -2.0).argmax(axis=1)
    same = np.array([[a == b for b in shown] for a in shown])
    asked = np.flatnonzero(clear & (same & eligible).any(axis=1))
    return _mean(same[asked, near[asked]]) if len(asked) else float("nan")


def _mean(values: Any) -> float:
    return float(np.mean(list(values)))


def _good(row: bytes | Refused) -> bytes:
    if isinstance(row, Refused):
        raise row
    return row


def _png(picture: media.Picture) -> bytes:
    file = BytesIO()
    picture.image.save(file, "PNG")
    return file.getvalue()


def show(scored: dict[str, float]) -> None:
    """Print the scores beside the goals."""
    goals = GOALS | READER_GOALS
    for name, value in scored.items():
        print(f"{name:48} {value:8.4g}" + (f"   (goal: {goals[name]})" if name in goals else ""))


if __name__ == "__main__":
    given = settings.load()
    show(score(describe(given), given) | read_all(given))
