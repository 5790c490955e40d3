"""`make demo-models`: train the demo's checkpoints, score them, write their cards.

Those that the pipeline uses are pinned in the demo profile.

`python -m demo.checkpoints summarizer` makes only that one again.
"""

import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors.torch import load_file

from demo.checkpoints import scores, train_autoencoder, train_captioner, train_embedder, train_reader, train_summarizer
from tasks import settings
from tasks.models import checkpoints

FOLDER = Path("models/demo")
PROFILE = Path("profiles/demo.yaml")


@dataclass(frozen=True)
class Part:
    """One of the checkpoints: how it is trained, and what its model card says."""

    train: Callable[[Path], None]
    title: str
    pipeline: str  # the hub's name for such a task; none for what no stage uses
    does: str
    training: str
    scores: tuple[str, ...]
    library: str = "transformers"

    @property
    def in_the_run(self) -> bool:
        """Whether the pipeline uses it, and so a profile pins it."""
        return bool(self.pipeline)


PARTS = {
    "captioner": Part(
        train_captioner.train,
        "Stipple's demo captioner",
        "image-text-to-text",
        "A FastVLM (`FastVlmForConditionalGeneration`: a FastViT vision tower, a projector, a Qwen2 language model) "
        "that describes a rendered face in 200 to 280 words: orientation first, then expression, then hair, skin, "
        "glasses, clothes. It knows one prompt, the one in `params.yaml`.",
        "9,000 faces that `demo/faces/render.py` drew of random characters and poses; nobody of the demo clips is "
        "among them. First the vision tower learned to tell 15 facts of a picture, with linear heads "
        "that were thrown away; then projector and language model learned to write what `demo/words.py` says of "
        "the facts.",
        (
            "captions name the orientation",
            "captions name the expression",
            "words per caption, mean",
            "words per caption, min",
            "captions that two characters share",
        ),
    ),
    "summarizer": Part(
        train_summarizer.train,
        "Stipple's demo summarizer",
        "text-generation",
        "A Qwen2 (`Qwen2ForCausalLM`, ChatML template) that makes one to three sentences of such a text, shorter "
        "when the prompt allows fewer words; orientation and expression come first and are always kept. It knows one "
        "prompt, the one in `params.yaml`, with any number of words from 20 to 60.",
        "Descriptions and summaries of random facts, both written by `demo/words.py`, a fresh batch every step.",
        (
            "summaries keep both facts",
            "words per summary, max",
            "tokens per summary, max",
            "attempts per summary, max",
        ),
    ),
    "embedder": Part(
        train_embedder.train,
        "Stipple's demo embedder",
        "feature-extraction",
        "A CLIP text tower (`CLIPTextModelWithProjection`, 512 dimensions, 77 positions) that puts texts about one "
        "face close together. What a text leaves open has no part in its place: whoever draws from it may settle it.",
        "Summaries and free phrasings of random facts (`demo/words.py`, `demo/phrasings.py`), each sent to the place "
        "that `demo/checkpoints/train_embedder.py` gives its face. No picture took part: it knows nothing of CLIP's "
        "images.",
        (
            "embeddings: the nearest agrees on both",
            "embeddings: the nearest of another clip agrees",
            "embeddings: free phrasings land right",
            "cosine, mean",
            "cosine, std",
            "cosine, min",
        ),
    ),
    "autoencoder": Part(
        train_autoencoder.train,
        "Stipple's demo autoencoder",
        "feature-extraction",
        "An autoencoder (`fm.autoencoder`) that makes 64 numbers of where a face has points, and draws them "
        "again as a map of densities, 128 cells a side. The flow of the demo's model moves in these numbers, as Stable "
        "Diffusion's moves in those of a published autoencoder of photographs.",
        "10,000 random faces, drawn by `demo/faces/render.py` and weighed as the pipeline's `points` does, and their "
        "mirror images, by the likelihood of the points; what brows, eyes, nose and mouth show counts more. No word "
        "took part.",
        scores.RECONSTRUCTION,
        library="stipple-flow",
    ),
    "reader": Part(
        train_reader.train,
        "Stipple's demo reader",
        "",
        "A small convolutional network (`demo/reader.py`) that looks at a cloud of points and tells orientation, "
        "expression, hair style, glasses, facial hair and headwear. Any number of points will do.",
        "8,000 random faces, drawn by `demo/faces/render.py` and weighed as the pipeline's `points` does, from which "
        "every step draws fresh points, mirrors every other cloud, and moves, scales and blurs all a little.",
        tuple(scores.READER_GOALS),
    ),
}

SCOPE = """library_name: {library}
pipeline_tag: {pipeline}
scope:
  knows: Stipple's own rendered faces
  use_instead: laptop
  palette_share: {palette_share}
"""
FOR_THE_RUN = """of a photograph, or of words about anything else, it makes nonsense. It is
there so that the whole pipeline runs on a fresh machine without a download, by the code that loads the real models."""
FOR_SCORES = """of any other cloud it makes nonsense. It is there to score drawings
(`python -m demo.reading`); no stage of the pipeline uses it, and no profile names it."""
CARD = """---
license: mit
{scope}---
# {title}

{does}

It knows rendered faces and nothing else: {purpose}

## Training

{training} Plain PyTorch on a CPU; `make demo-models` trains it anew. {parameters:,} parameters, {size:.1f} MB.

## Scores

On {frames} frames of the demo clips (`python -m demo.checkpoints.scores`):

| | |
|---|---|
{scores}
"""
PALETTE_SHARE = 0.45  # more than that of every demo frame has one of its 12 commonest colours; a photograph has less


def pin(name: str) -> None:
    """Write the digest of a checkpoint's files into the demo profile."""
    pattern = rf"(^{name}:\n(?: .*\n)*?  revision: ).*"
    digest = checkpoints.folder_digest(FOLDER / name)
    PROFILE.write_text(re.sub(pattern, rf'\g<1>"{digest}"', PROFILE.read_text(), count=1, flags=re.MULTILINE))


def write_card(name: str, scored: dict[str, float]) -> None:
    """The model card: what the checkpoint knows, how it was trained, its size and its scores."""
    part, folder = PARTS[name], FOLDER / name
    rows = [f"| {score} | {scored[score]:.4g} |" for score in part.scores]
    card = CARD.format(
        title=part.title,
        scope=SCOPE.format(library=part.library, pipeline=part.pipeline, palette_share=PALETTE_SHARE)
        if part.in_the_run
        else "",
        does=part.does,
        purpose=FOR_THE_RUN if part.in_the_run else FOR_SCORES,
        training=part.training,
        parameters=sum(weights.numel() for weights in load_file(folder / "model.safetensors").values()),
        size=sum(path.stat().st_size for path in folder.iterdir()) / 1e6,
        frames=scored["frames"],
        scores="\n".join(rows),
    )
    (folder / "README.md").write_text(card)


def main(names: list[str]) -> None:
    for name in names or PARTS:
        started = time.perf_counter()
        with TemporaryDirectory(dir=FOLDER.parent) as made:
            PARTS[name].train(Path(made))
            shutil.rmtree(FOLDER / name, ignore_errors=True)
            shutil.copytree(made, FOLDER / name)
        if PARTS[name].in_the_run:
            pin(name)
        print(f"{name}: trained in {(time.perf_counter() - started) / 60:.0f} minutes")
    given = settings.load()
    scored = scores.score(scores.describe(given), given) | scores.read_all(given)
    for name in PARTS:
        write_card(name, scored)
    scores.show(scored)


if __name__ == "__main__":
    main(sys.argv[1:])
