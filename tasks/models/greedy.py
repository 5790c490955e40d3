"""Greedy decoding with a fixed number of rows at work: a row that has ended makes room for one that waits.

`generate` decodes a batch until its longest row has ended, and on an accelerator spends most of a step on launching it.
Here keys and values lie in a ring of fixed shape, so that a step is always the same step and CUDA replays it as one
graph. The rows share the place in the ring that is written next; where a row began, its mask says, and as keys carry
their positions (RoPE), it does not matter where in the ring they lie.
"""

from collections.abc import Callable
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.models import hf

LOOK = 8  # steps between two looks at what was written; a row that has ended runs on for as many
REFILL = 0.125  # of the rows at work, the least share that has to be free before others begin
BEGUN = 64  # rows that begin at a time; more would only need more memory
MOST = 512  # rows at work, from where on an accelerator has enough to do
ATTENTION = "grouped"

Inputs = Callable[[list[int]], tuple[Tensor, Tensor]]
"""Rows → their embedded prompts [R, T, H], padded on the left, and which of it is theirs [R, T]"""


def register() -> str:
    """Let models attend by `attention`, and return the name to load them with."""
    library = hf.transformers()
    library.AttentionInterface.register(ATTENTION, attention)
    library.AttentionMaskInterface.register(ATTENTION, library.masking_utils.sdpa_mask)
    return ATTENTION


def attention(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **more: Any) -> Any:
    """As transformers does it with `sdpa`, but for one new token of each row without a copy of its keys per query head.

    The query heads [B, H, 1, D] that share keys [B, K, L, D] ask as H / K queries at once.
    """
    heads, shared, new = query.shape[1], key.shape[1], query.shape[2]
    if new > 1 or mask is None:
        return hf.transformers().integrations.sdpa_attention.sdpa_attention_forward(
            module, query, key, value, mask, **more
        )
    asked = query.unflatten(1, (shared, heads // shared)).squeeze(3)
    found = F.scaled_dot_product_attention(asked, key, value, attn_mask=mask, scale=more.get("scaling"))
    return found.reshape(len(query), 1, heads, -1), None


def supported(language: Any) -> Any | None:
    """The language model, if every layer of it attends to all that came before, as Qwen2's do; else None."""
    kinds = getattr(getattr(language, "config", None), "layer_types", None)
    return language if kinds and set(kinds) == {"full_attention"} else None


def decode(
    language: Any,
    head: Any,
    count: int,
    inputs: Inputs,
    *,
    at_once: int | None,
    longest: int,
    ends: list[int],
    limit: int,
    graph: bool = True,
) -> list[list[int]]:
    """The tokens that follow each of `count` prompts, up to and with one of `ends`, or `limit` of them.

    Args:
        language, head: a causal language model without its head, and the head.
        inputs: called for few rows at a time, when there is room for them.
        at_once: rows at work, at most; None: as many as there is memory for.
        longest: tokens of the longest prompt. graph: whether CUDA may replay a step as a graph.
    """
    length = -(-(longest + limit + LOOK) // 64) * 64
    at_once = min(at_once or MOST, rows_that_fit(language, longest, length), count)
    ring = _Ring(language, at_once, length)
    step = ring.step(head, graph)
    waiting = iter(range(count))
    owners: list[int | None] = [None] * at_once
    said: list[list[int]] = [[] for _ in range(count)]

    def refill() -> bool:
        free = [place for place, owner in enumerate(owners) if owner is None]
        rows = list(islice(waiting, min(len(free), BEGUN))) if len(free) >= max(1, REFILL * at_once) else []
        if rows:
            first = ring.begin(head, free[: len(rows)], *inputs(rows))
            for place, row, token in zip(free, rows, first, strict=False):
                said[row].append(token)
                owners[place] = row
        return bool(rows)

    def retire() -> None:
        for place, row in enumerate(owners):
            if row is not None:
                found = next((at for at, token in enumerate(said[row][:limit]) if token in over), limit - 1)
                if len(said[row]) > found:
                    del said[row][found + 1 :]
                    owners[place] = None

    over = set(ends)
    while refill():
        retire()
    while any(owner is not None for owner in owners):
        written = torch.stack([step().clone() for _ in range(LOOK)]).tolist()
        for tokens in written:
            for owner, token in zip(owners, tokens, strict=True):
                if owner is not None:
                    said[owner].append(token)
        retire()
        while refill():
            retire()
    return said


def rows_that_fit(language: Any, longest: int, length: int) -> int:
    """Rows that an accelerator has memory for, with a ring of `length`, while others of `longest` tokens begin."""
    weight = next(language.parameters())
    if weight.device.type != "cuda":
        return MOST
    config, size = language.config, language.dtype.itemsize
    row = 2 * config.num_hidden_layers * config.num_key_value_heads * _head(config) * length * size
    begun = BEGUN * longest * (3 * config.intermediate_size + 12 * config.hidden_size) * size
    unused = torch.cuda.memory_reserved(weight.device) - torch.cuda.memory_allocated(weight.device)
    free = torch.cuda.mem_get_info(weight.device)[0] + unused
    return max(1, int((0.9 * free - begun) / row))


def _head(config: Any) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


class _Ring:
    """Keys and values [B, K, L, D] of each layer, and where in them each row's own lie."""

    def __init__(self, language: Any, rows: int, length: int) -> None:
        config = language.config
        weight = next(language.parameters())
        self.language = language
        shape = (config.num_hidden_layers, 2, rows, config.num_key_value_heads, length, _head(config))
        self.kept = torch.zeros(shape, dtype=language.dtype, device=weight.device)
        self.mask = torch.zeros(rows, length, dtype=torch.bool, device=weight.device)
        self.mask[:, 0] = True  # a place without a row attends to something
        self.next = torch.zeros(1, dtype=torch.long, device=weight.device)
        self.tokens = torch.zeros(rows, dtype=torch.long, device=weight.device)
        self.positions = torch.zeros(rows, dtype=torch.long, device=weight.device)

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """What a layer calls with the keys and values of the new tokens: those of all."""
        for kept, new in zip(self.kept[layer], (keys, values), strict=True):
            kept.index_copy_(2, self.next, new)
        return self.kept[layer, 0], self.kept[layer, 1]

    def begin(self, head: Any, places: list[int], embedded: Tensor, own: Tensor) -> list[int]:
        """Put the prompts before what is written next, and return the first token of each."""
        cache = hf.transformers().DynamicCache(config=self.language.config)
        positions = (own.long().cumsum(1) - 1).clamp(min=0)
        output = self.language(
            inputs_embeds=embedded, attention_mask=own, position_ids=positions, past_key_values=cache, use_cache=True
        )
        length, size = own.shape[1], self.mask.shape[1]
        where = (self.next - length + torch.arange(length, device=own.device)) % size
        at = torch.tensor(places, device=own.device)
        for kept, made in zip(self.kept, cache.layers, strict=True):
            for store, new in zip(kept, (made.keys, made.values), strict=True):
                store[at[:, None], :, where[None, :]] = new.transpose(1, 2)
        fresh = torch.zeros(len(places), size, dtype=torch.bool, device=own.device)
        fresh[:, where] = own.bool()
        self.mask[at] = fresh
        first = head(output.last_hidden_state[:, -1]).argmax(-1)
        self.tokens[at], self.positions[at] = first, positions[:, -1] + 1
        return first.tolist()

    def step(self, head: Any, graph: bool) -> Callable[[], Tensor]:
        """A function that writes one more token of every row and returns them [B], on CUDA as a graph."""

        def eager() -> Tensor:
            self.mask.index_fill_(1, self.next, True)
            hidden = self.language(
                inputs_embeds=self.language.get_input_embeddings()(self.tokens).unsqueeze(1),
                attention_mask={"full_attention": self.mask[:, None, None]},
                position_ids=self.positions.unsqueeze(1),
                past_key_values=self,
                use_cache=True,
            ).last_hidden_state
            self.tokens.copy_(head(hidden[:, 0]).argmax(-1))
            self.positions += 1
            self.next.copy_((self.next + 1) % self.mask.shape[1])
            return self.tokens

        if not graph or self.tokens.device.type != "cuda":
            return eager
        with torch.cuda.device(self.tokens.device):
            return self._graph(eager)

    def _graph(self, eager: Callable[[], Tensor]) -> Callable[[], Tensor]:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):  # libraries set themselves up
                eager()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            eager()
        for state in (self.mask, self.next, self.tokens, self.positions):
            state.zero_()
        self.mask[:, 0] = True

        def replay() -> Tensor:
            graph.replay()
            return self.tokens

        return replay
