"""Texts → shorter texts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tasks import settings
from tasks.models import checkpoints, decoding, endpoint, greedy, hf, loading


class Summarizer:
    """Texts → texts, with a chat checkpoint (Qwen2.5)."""

    def __init__(self, checkpoint: settings.GeneratorCheckpoint, root: Path) -> None:
        library = hf.transformers()
        self.tokenizer = loading.pretrained(library.AutoTokenizer, checkpoint, root)
        self.rows = checkpoint.batch_size
        self.model = loading.model(
            library.AutoModelForCausalLM, checkpoint, root, ["lm_head"], attention=greedy.register()
        )
        self.language = greedy.supported(self.model.model)
        self.markers = sorted({*self.tokenizer.get_added_vocab(), *self.tokenizer.all_special_tokens}, key=len)
        decoding.decode_greedily(self.model, self.tokenizer, checkpoint)

    def prompt(self, instruction: str, text: str) -> str:
        """The chat that asks `instruction` of `text`. Chat markers inside `text`, a model's words, become spaces."""
        for marker in reversed(self.markers):
            text = text.replace(marker, " ")
        chat = [{"role": "user", "content": f"{instruction}\n\n{text}"}]
        return self.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)

    def __call__(self, texts: Sequence[str], instruction: str, *, again: bool = False) -> list[decoding.Written]:
        """Follow `instruction` on each text, greedily, all in one batch; `again`: so that it repeats itself less."""
        prompts = [self.prompt(instruction, text) for text in texts]
        with loading.accelerator, torch.inference_mode():
            if again or self.language is None:
                more = decoding.AGAIN if again else {}
                return decoding.generate(self.model, self.tokenizer, self.tokens(prompts), **more)
            embed, tokens = self.model.get_input_embeddings(), self.tokens(prompts).to(self.model.device)

            def inputs_of(rows: list[int]) -> tuple[Tensor, Tensor]:
                ids, own = tokens["input_ids"][rows], tokens["attention_mask"][rows]
                used = own.any(0)  # no more padding than the longest of these rows asks for
                return embed(ids[:, used]), own[:, used]

            longest = tokens["input_ids"].shape[1]
            return decoding.write(
                self.model, self.language, self.tokenizer, len(prompts), inputs_of,
                at_once=self.rows, longest=longest,
            )  # fmt: skip

    def tokens(self, prompts: Sequence[str]) -> Any:
        return self.tokenizer(
            list(prompts), add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt"
        )


def load_summarizer(given: settings.AnySummarizer, root: Path = Path()) -> Summarizer | endpoint.Summarizer:
    """The summarizer of a profile, loaded once per process."""
    return endpoint.Summarizer(given) if isinstance(given, settings.Endpoint) else loading.load(Summarizer, given, root)


def identity(given: settings.AnySummarizer, root: Path) -> str:
    """What a row key needs to know of a summarizer."""
    return (
        endpoint.server(given).identity if isinstance(given, settings.Endpoint) else checkpoints.identity(given, root)
    )
