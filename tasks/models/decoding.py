"""Texts out of a language model, greedily: the same input always gives the same text."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tasks import settings
from tasks.errors import StippleError
from tasks.models import greedy, hf

AGAIN = {"repetition_penalty": 1.2}
"""How a text that was no use is asked for once more."""


@dataclass(frozen=True)
class Written:
    """A generated text, and whether the model ended it (or ran into `max_new_tokens`)."""

    text: str
    ended: bool


def decode_greedily(model: Any, tokenizer: Any, checkpoint: settings.GeneratorCheckpoint) -> None:
    """Replace the checkpoint's sampling defaults, so that the same input always gives the same text."""
    stated = model.generation_config.eos_token_id
    found = set(stated if isinstance(stated, list) else [stated]) | {tokenizer.eos_token_id}
    found |= {tokenizer.get_vocab().get(marker) for marker in ("<|im_end|>", "<|endoftext|>")}
    ends = sorted(found - {None})
    if not ends:
        raise StippleError(
            f"{checkpoint.model} names no token that ends a text; set eos_token in its tokenizer_config.json"
        )
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else ends[0]
    model.generation_config = hf.transformers().GenerationConfig(
        do_sample=False, max_new_tokens=checkpoint.max_new_tokens, eos_token_id=ends, pad_token_id=pad
    )


def generate(model: Any, tokenizer: Any, inputs: Mapping[str, Tensor], **more: Any) -> list[Written]:
    here = {name: value.to(model.device) for name, value in inputs.items()}
    tokens = model.generate(**here, **more)[:, inputs["input_ids"].shape[1] :].cpu()
    ended = torch.isin(tokens, torch.tensor(model.generation_config.eos_token_id)).any(dim=1).tolist()
    texts = tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return [Written(" ".join(text.split()), end) for text, end in zip(texts, ended, strict=True)]


def write(
    model: Any, language: Any, tokenizer: Any, number: int, inputs: greedy.Inputs, *, at_once: int | None, longest: int
) -> list[Written]:
    """The texts that follow `number` embedded prompts, at most `at_once` in the making; see `greedy.decode`."""
    config = model.generation_config
    ends = config.eos_token_id
    said = greedy.decode(
        language, model.get_output_embeddings(), number, inputs,
        at_once=at_once, longest=longest, ends=ends, limit=config.max_new_tokens,
        graph=not getattr(model, "is_quantized", False),
    )  # fmt: skip
    texts = tokenizer.batch_decode(said, skip_special_tokens=True)
    return [Written(" ".join(text.split()), tokens[-1] in ends) for text, tokens in zip(texts, said, strict=True)]


def whole_sentences(text: str) -> list[str]:
    """The sentences of `text`, without a last one that lacks its full stop."""
    return [found.group().strip() for found in re.finditer(r".*?[.!?…。！？]+[\"'”’)\]]*(?=\s|$)", text, re.DOTALL)]
