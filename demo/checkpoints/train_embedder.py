"""The demo's embedder: a small CLIP text tower that learns where each face, and each way of putting it, belongs.

Every face has a place in the 512 dimensions, written down in `places`: a direction that all share (all are faces), a
large part for orientation and for expression, and smaller parts for what stays the same. The tower learns to send
summaries, parts of them and free phrasings to the place of what they name. What a text leaves open has no part in its
place, so that whoever draws from it may settle it either way.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from demo import words
from demo.checkpoints.learning import clip_tokenizer, fit, hf, random_facts
from demo.phrasings import phrase
from demo.words import VALUES, Facts

DIMENSIONS = 512
TOKENS = 77
WAYS = {"front": (0, 0), "left": (-1, 0), "right": (1, 0), "up": (0, 1), "down": (0, -1), "none": (0, 0)}
TURN = {"slightly": 0.75, "clearly": 1.0, "far": 1.25}
LEAN = 0.25
STRENGTH = {"faint": 0.75, "plain": 1.0}
WEIGHTS = {
    "expression": 0.7,
    "gender": 0.2,
    "skin": 0.1,
    "hair_style": 0.45,
    "hair_color": 0.1,
    "eye_color": 0.05,
    "glasses": 0.4,
    "facial_hair": 0.4,
    "headwear": 0.4,
    "earrings": 0.1,
    "top_color": 0.06,
}
ORIENTATION = 0.75
SPREAD = 0.52  # how far apart places are beside the part that all share, which has length 1


def places(faces: list[Facts]) -> Tensor:
    """Where the embedding of each face, or of some facts of it, belongs: float32[len(faces), 512], not normalized."""
    rows = np.zeros((len(faces), 2 + sum(len(VALUES[key]) for key in WEIGHTS)))
    for row, face in zip(rows, faces, strict=True):
        row[:2] = np.array(WAYS[face.get("orientation", "none")]) * ORIENTATION * TURN[face.get("degree", "clearly")]
        row[:2] += np.array(WAYS[face.get("lean", "none")]) * ORIENTATION * LEAN
        start = 2
        for key, weight in WEIGHTS.items():
            values = VALUES[key]
            strength = STRENGTH[face["intensity"]] if key == "expression" and key in face else 1.0
            if face.get(key, "hidden") != "hidden":
                row[start + values.index(face[key])] = weight * strength
            start += len(values)
    directions, _ = np.linalg.qr(np.random.default_rng(512).normal(size=(DIMENSIONS, 1 + rows.shape[1])))
    shared = np.ones((len(faces), 1))
    return torch.tensor(np.hstack([shared, SPREAD * rows]) @ directions.T, dtype=torch.float32)


def example(rng: np.random.Generator) -> tuple[str, Facts]:
    """A text, and what it says of a face."""
    facts = random_facts(rng)
    kind = rng.choice(3, p=(0.4, 0.2, 0.4))
    if kind == 0:
        return words.summary(facts), facts
    return (words.keywords if kind == 1 else phrase)(facts, rng)


def train(folder: Path, *, steps: int = 1800, batch: int = 96, seed: int = 3) -> None:
    """Train the embedder and save it with its tokenizer."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    tokenizer = clip_tokenizer((example(rng)[0] for _ in range(20_000)), size=1500)
    model = hf.CLIPTextModelWithProjection(
        hf.CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=3,
            num_attention_heads=4,
            projection_dim=DIMENSIONS,
            max_position_embeddings=TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )

    def loss(step: int) -> Tensor:
        texts, faces = zip(*(example(rng) for _ in range(batch)), strict=True)
        vectors = model(**tokenizer(list(texts), padding=True, return_tensors="pt")).text_embeds
        return (vectors - places(list(faces))).square().sum(dim=1).mean()

    fit(model.parameters(), loss, steps=steps, learning_rate=2e-3, desc="embedder")
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
