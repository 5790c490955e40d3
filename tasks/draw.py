"""Stage `draw`: the trained model draws the prompts of params.yaml to `data/drawings/*.png`."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.clouds import artifacts, drawing, generation, pictures
from tasks.settings import Settings
from tasks.store import files

FOLDER = Path("data/drawings")


def run(settings: Settings, root: Path) -> dict[str, Any]:
    """Draw every prompt of params.yaml to a PNG of its own in `data/drawings`."""
    params = settings.params.draw
    model = generation.load(root / artifacts.MODEL)
    conditions = generation.embed(params.prompts, generation.embedder_of(model, root))
    clouds = drawing.draw(
        model.network,
        conditions,
        model.card["num_points"],
        steps=params.steps,
        guidance=params.guidance,
        seed=settings.params.seed,
        alike=True,
    )
    drawn = [pictures.png(pictures.picture(cloud)) for cloud in clouds.numpy()]
    names = [f"{name}.png" for name in slugs(params.prompts)]
    files.write_folder(root / FOLDER, dict(zip(names, drawn, strict=True)))
    return {"drawings": len(names)}


def slugs(prompts: Sequence[str]) -> list[str]:
    """File names for `prompts`: lower case, words joined by hyphens, numbered where they would be the same."""
    names: list[str] = []
    for prompt in prompts:
        name = re.sub(r"[\W_]+", "-", prompt.lower()).strip("-")[:40] or "prompt"
        taken = sum(other == name or other.startswith(f"{name}--") for other in names)
        names.append(f"{name}--{taken + 1}" if taken else name)
    return names
