"""What the three trainings share: tokenizers made from the texts, the loop, and one way to save."""

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor, nn
from tqdm.auto import tqdm

from demo import words
from demo.faces.characters import random_character, random_pose
from tasks.models.hf import transformers

if TYPE_CHECKING:
    import transformers as hf
else:
    hf = transformers()

CHAT_TEMPLATE = """{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content -%}
{% if part.type == 'image' %}<image>
{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def random_facts(rng: np.random.Generator) -> dict[str, str]:
    """The facts of a random face that is none of the demo's cast."""
    return words.facts(random_character(rng), random_pose(rng))


def fit(
    parameters: Iterable[nn.Parameter],
    loss: Callable[[int], Tensor],
    *,
    steps: int,
    learning_rate: float,
    desc: str,
) -> None:
    """Minimize `loss(step)`: AdamW, warm-up over the first twentieth, then down to nothing along a cosine."""
    parameters = [parameter for parameter in parameters if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, total_steps=steps, pct_start=0.05, cycle_momentum=False
    )
    with tqdm(range(steps), desc=desc, unit="step") as bar:
        for step in bar:
            optimizer.zero_grad()
            value = loss(step)
            value.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            if step % 10 == 0:
                bar.set_postfix(loss=f"{value.item():.4f}")


def qwen_tokenizer(texts: Iterable[str], size: int, special: tuple[str, ...] = ()) -> hf.Qwen2Tokenizer:
    """A Qwen2 tokenizer with byte-level BPE learned from `texts`: at most `size` tokens, ChatML's and `special`."""
    vocabulary, merges = _learn_bpe(hf.Qwen2Tokenizer(), texts, size, "")
    return hf.Qwen2Tokenizer(
        vocab=vocabulary,
        merges=merges,  # type: ignore[arg-type]  # pairs, which it hands to tokenizers' BPE
        extra_special_tokens=["<|im_start|>", "<|im_end|>", *special],
        eos_token="<|im_end|>",
        padding_side="left",
        model_max_length=4096,
        chat_template=CHAT_TEMPLATE,
    )


def clip_tokenizer(texts: Iterable[str], size: int) -> hf.CLIPTokenizer:
    """A CLIP tokenizer (lower case, begin and end tokens) whose BPE was learned from `texts`; about `size` tokens."""
    vocabulary, merges = _learn_bpe(hf.CLIPTokenizer(), texts, size, "</w>")
    for token in ("<|startoftext|>", "<|endoftext|>"):
        vocabulary[token] = len(vocabulary)
    return hf.CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77)  # type: ignore[arg-type]  # pairs, as above


def _learn_bpe(
    like: hf.PreTrainedTokenizerBase, texts: Iterable[str], size: int, suffix: str
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """BPE on words split as `like` splits them. Every byte is a token, so that no text is unknown."""
    ending: dict[str, Any] = {"end_of_word_suffix": suffix} if suffix else {}
    backend = Tokenizer(models.BPE(**ending))
    backend.normalizer = like.backend_tokenizer.normalizer
    backend.pre_tokenizer = like.backend_tokenizer.pre_tokenizer
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False, **ending)
    backend.train_from_iterator(texts, trainer)
    merges = [tuple(merge) for merge in json.loads(backend.to_str())["model"]["merges"]]
    tokens = [*alphabet, *(letter + suffix for letter in alphabet if suffix), *(left + right for left, right in merges)]
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}, merges


def language_model(tokenizer: hf.Qwen2Tokenizer) -> hf.Qwen2Config:
    """A Qwen2 of 128 dimensions and 3 layers for this vocabulary."""
    return hf.Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        initializer_range=0.06,  # the usual 0.02 is meant for widths of thousands: attention would take long to form
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def conversation(tokenizer: hf.Qwen2Tokenizer, content: str | list[dict], answer: str) -> tuple[list[int], list[int]]:
    """Token ids of a chat with one question, and of its answer with the end token."""
    chat = [{"role": "user", "content": content}]
    # Its type forgets content that is a list of parts.
    question = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)  # type: ignore[arg-type]
    return tokenizer(question).input_ids, [*tokenizer(answer).input_ids, tokenizer.eos_token_id]


def batch_of(chats: list[tuple[list[int], list[int]]], pad: int) -> tuple[Tensor, Tensor]:
    """Inputs and next-token targets int64[B, T]; targets are -1 outside the answers."""
    length = max(len(question) + len(answer) for question, answer in chats)
    inputs = torch.full((len(chats), length), pad)
    targets = torch.full((len(chats), length), -1)
    for row, (question, answer) in enumerate(chats):
        tokens = torch.tensor(question + answer)
        inputs[row, : len(tokens)] = tokens
        targets[row, len(question) - 1 : len(tokens) - 1] = tokens[len(question) :]
    return inputs, targets
