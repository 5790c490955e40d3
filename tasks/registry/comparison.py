"""Challenger and champion draw the same held-out frames; the gate decides; the registry keeps what came of it.

Both start from the same noise, so luck cancels, and the noise follows from the two models' digests: no evaluation has
seen it, and nobody can draw again until it fits.
"""

import hashlib
import json
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fm import metrics
from tasks.clips import sources
from tasks.clouds import artifacts, density, drawing, generation, scoring, training_set
from tasks.errors import StippleError
from tasks.progress import progress
from tasks.registry import gate, versions, warm_start
from tasks.registry.gate import Scores
from tasks.settings import Settings
from tasks.store.digests import digest_of

MEAN_CLOUD = "mean cloud"
"""Stands in for the champion while there is none: points of all training frames, whatever the text."""


def judge(settings: Settings, root: Path, question: str) -> dict[str, Any]:
    """Judge the model in `data/` and promote it if the gate opens; the report of both, `version` None if refused."""
    against = versions.load(root).champion
    content = {name: (root / "data" / name).read_bytes() for name in (versions.MODEL, versions.CARD)}
    data = training_set.load(root)
    clips = clips_of(settings, root, data)
    card = json.loads(content[versions.CARD])
    seen = versions.seen(root, against) | versions.seen(root, card["start"]["version"])
    frames = unseen(data, clips, seen, settings.params.promote.frames)
    scores = measure(settings, root, data, frames, versions.champion(root))
    reference = scores["champion" if against else MEAN_CLOUD]
    decision = gate.decide(reference, scores["challenger"], scores["floor"], settings.params.promote)
    report = {
        "against": against or MEAN_CLOUD,
        "promoted": decision.promote,
        "reasons": decision.reasons,
        "scores": {
            metric: {name: round(score.mean(metric), 4) for name, score in scores.items()} for metric in gate.BETTER
        },
        "held_out": {"frames": len(frames), "clips": len({data["clips"][i] for i in frames})},
        "rules": settings.params.promote.model_dump(),
        "data": hashlib.sha256((root / artifacts.TRAIN_DATA).read_bytes()).hexdigest(),
        "trained_on": card["trained_on"],
        "start": card["start"]["version"],
        "commit": commit(root),
    }
    judged = versions.Judgement(
        question, versions.rules_of(settings), against, None, decision.reasons,
        {versions.MODEL: hashlib.sha256(content[versions.MODEL]).hexdigest()},
    )  # fmt: skip
    if not decision.promote:
        versions.refuse(root, judged)
        return report | {"version": None}
    content |= {name: _json(value) for name, value in ((versions.REPORT, report), (versions.CLIPS, clips))}
    return report | {"version": versions.publish(root, judged, content)}


def measure(
    settings: Settings, root: Path, data: dict[str, Any], frames: Tensor, champion: Path | None
) -> dict[str, Scores]:
    """What challenger (the model in `data/`), champion, floor and mean cloud score on `frames` [F]."""
    models = {"challenger": root / artifacts.MODEL} | ({"champion": root / champion} if champion else {})
    digest = digest_of(**{name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in models.items()})
    seed = int(digest[:12], 16)
    loaded = {name: generation.load(path) for name, path in models.items()}
    numbers = {name: model.network.dim for name, model in loaded.items()}
    if len(set(numbers.values())) > 1:
        raise StippleError(
            f"the champion's points have {numbers['champion']} numbers, the challenger's {numbers['challenger']}: they "
            f"cannot be compared; set points.colour back, or move {versions.POINTER.parent} away to begin anew"
        )
    contenders = {name: _drawer(model, settings, root, data, frames) for name, model in loaded.items()}
    texts = [data["summaries"][i] for i in frames]
    truths: list[Tensor] = []
    drawn: dict[str, list[Tensor]] = {}
    draws = settings.params.promote.draws
    with progress(" against ".join(contenders), draws * len(contenders) * len(frames), "drawing") as bar:
        for number in range(draws):
            generator = torch.Generator().manual_seed(seed + number)
            truth, again = (density.draw(data["density"], frames, data["num_points"], generator) for _ in range(2))
            mean_cloud = scoring.mean_clouds(data, truth.shape[:2], generator)
            clouds = {name: draw(seed + number, bar.advance) for name, draw in contenders.items()}
            truths.append(truth)
            for name, x in {**clouds, "floor": again, MEAN_CLOUD: mean_cloud}.items():
                drawn.setdefault(name, []).append(x)
    clips = tuple(data["clips"][i] for i in frames)
    return {name: Scores(clips, scored(found, truths, texts)) for name, found in drawn.items()}


def scored(drawn: list[Tensor], truths: list[Tensor], texts: list[str]) -> dict[str, np.ndarray]:
    """Each metric of the gate, for drawings [F, N, 2] of each text, 2 or more times, and true clouds: metric → [F]."""
    pairs = list(zip(drawn, truths, strict=True))
    nearest = [metrics.pairwise_sliced_w2(x, truth).argmin(dim=1) for x, truth in pairs]
    found = [torch.tensor([texts[i] == text for i, text in zip(index, texts, strict=True)]) for index in nearest]
    return {
        "energy": scoring.energy(drawn, truths).double().numpy(),
        "chamfer": _mean([metrics.chamfer(x, truth) for x, truth in pairs]),
        "sliced_w2": _mean([metrics.sliced_w2(x, truth) for x, truth in pairs]),
        "retrieval": _mean(found),
    }


def _mean(values: list[Tensor]) -> np.ndarray:
    return torch.stack(values).double().mean(0).numpy()


def unseen(data: dict[str, Any], clips: dict[str, Any], seen: set[str], most: int) -> Tensor:
    """At most `most` held-out frames, evenly spread, of clips of which nothing is among `seen`: [F].

    `clips` are the input files of today, as `versions.clips` has them; `seen` are digests of files and identities.
    """
    held_out = training_set.rows_of(data, training_set.HELD_OUT)
    names = map(training_set.clip_of, data["frame_ids"])
    known = {clip for name, clip in zip(names, data["clips"], strict=True) if clips[name]["sha256"] in seen} | seen
    fresh = torch.tensor([data["clips"][i] not in known for i in held_out])
    if not fresh.any():
        raise StippleError("the champion was trained on every clip that is held out now; add clips, then retrain")
    return scoring.spread(held_out[fresh], most)


def clips_of(settings: Settings, root: Path, data: dict[str, Any]) -> dict[str, dict[str, str]]:
    """The input files of today: name → `sha256`, `use` (train, held_out, or none) and `clip` of its frames."""
    used = {
        training_set.clip_of(name): {"use": side, "clip": clip}
        for name, side, clip in zip(data["frame_ids"], data["split"], data["clips"], strict=True)
    }
    found = sources.digests(root / settings.params.input)
    if lacking := sorted(used.keys() - found.keys()):
        raise StippleError(f"{lacking[0]} left the input folder while its frames were in use; run again")
    return {name: {"sha256": digest, **used.get(name, {"use": "none"})} for name, digest in found.items()}


def commit(root: Path) -> str | None:
    """The git commit whose code and settings these are, or None if they were edited since (or there is none).

    dvc.lock, .dvcignore and models/start.json do not count: runs write them.
    """

    def git(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True)

    try:
        others = ":(exclude)dvc.lock", ":(exclude).dvcignore", f":(exclude){warm_start.FILE}"
        same = git("diff", "--quiet", "HEAD", "--", ".", *others).returncode == 0
        return git("rev-parse", "HEAD").stdout.strip() if same else None
    except OSError:
        return None


def markdown(report: dict[str, Any]) -> str:
    """The report as a page: what was decided, why, and the scores side by side."""
    version, against, held = report["version"], report["against"], report["held_out"]
    trained = report["trained_on"]
    began = f", beginning as {report['start']}" if report["start"] else ""
    title = f"{version} is the champion" if version else f"Not promoted; {against} stays"
    names = list(report["scores"]["chamfer"])
    lines = [
        f"# {title}",
        "",
        f"Trained on {trained['frames']} frames of {trained['clips']} clips{began}; compared with {against} on "
        f"{held['frames']} frames of {held['clips']} held-out clips.",
        "",
        *(f"- {reason}" for reason in report["reasons"]),
        "",
        f"| | {' | '.join(names)} |",
        f"| --- | {' | '.join('---:' for _ in names)} |",
        *(f"| {metric} | {' | '.join(f'{v:.4f}' for v in row.values())} |" for metric, row in report["scores"].items()),
    ]
    return "\n".join(lines) + "\n"


def summary(report: dict[str, Any]) -> str:
    """The report in one line."""
    if report["version"]:
        return f"{report['version']} is the champion now: {'; '.join(report['reasons'])}"
    return f"Not promoted, {report['against']} stays: {'; '.join(versions.unmet(report['reasons']))}"


def _drawer(
    model: generation.Model, settings: Settings, root: Path, data: dict[str, Any], frames: Tensor
) -> Callable[[int, Callable[[int], None]], Tensor]:
    """seed → what `model` draws of the texts of `frames`, [F, N, 2]; the texts are read as it learned to read them."""
    evaluate = settings.params.evaluate
    conditions = data["embeddings"][frames]
    if model.card["embedder"] != data["embedder"]:
        texts = [data["summaries"][i] for i in frames]
        conditions = generation.embed(texts, generation.embedder_of(model, root))
    drawn = partial(drawing.draw, model.network, conditions, data["num_points"])
    return lambda seed, on_clouds: drawn(
        steps=evaluate.steps, guidance=evaluate.guidance, seed=seed, on_clouds=on_clouds
    )


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
