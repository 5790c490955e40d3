"""The whole pipeline, in order. A stage whose inputs and parameters are unchanged is not run again."""

from __future__ import annotations

from prefect import flow

from flows.stages import stage

DATASET = ("frames", "points", "captions", "summaries", "embeddings", "dataset")
TRAINING = ("train", "evaluate", "draw")


@flow
def dataset() -> None:
    """Clips in, training data out."""
    for name in DATASET:
        stage(name)


@flow
def training() -> None:
    """Train the model on the data set, measure it on held-out clips, and draw the prompts with it."""
    for name in TRAINING:
        stage(name)


@flow
def pipeline() -> None:
    """From clips to a model that draws text."""
    dataset()
    training()
