"""The demo's summarizer: a small Qwen2 that picks the facts out of a caption and keeps within the words it is given."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from demo import words
from demo.checkpoints.learning import batch_of, conversation, fit, hf, language_model, qwen_tokenizer, random_facts
from tasks import settings


def train(folder: Path, *, steps: int = 900, batch: int = 16, seed: int = 2) -> None:
    """Train the summarizer and save it with its tokenizer."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    instruction = settings.load().params.summaries.prompt
    faces = [random_facts(rng) for _ in range(4_000)]
    texts = [text for face in faces for text in (words.caption(face), words.summary(face))]
    tokenizer = qwen_tokenizer([*texts, *(instruction.format(max_words=n) for n in range(10, 61))], size=1500)
    model = hf.Qwen2ForCausalLM(language_model(tokenizer))

    def loss(step: int) -> Tensor:
        faces = [random_facts(rng) for _ in range(batch)]
        limits = [50 if rng.random() < 0.6 else int(rng.integers(10, 60)) for _ in faces]
        chats = [
            conversation(
                tokenizer, f"{instruction.format(max_words=limit)}\n\n{words.caption(face)}", words.summary(face, limit)
            )
            for face, limit in zip(faces, limits, strict=True)
        ]
        inputs, targets = batch_of(chats, tokenizer.pad_token_id)
        hidden = model.model(input_ids=inputs).last_hidden_state
        answered = targets >= 0
        following = inputs.roll(-1, 1)
        asked = (following != tokenizer.pad_token_id) & ~answered
        asked[:, -1] = False
        # A caption says some things twice: predicting its words too teaches the model to look up and copy.
        read = cross_entropy(model.lm_head(hidden[asked]), following[asked])
        return cross_entropy(model.lm_head(hidden[answered]), targets[answered]) + 0.3 * read

    fit(model.parameters(), loss, steps=steps, learning_rate=2e-3, desc="summarizer")
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
