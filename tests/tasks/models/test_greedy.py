"""Decoding with rows that make room for each other gives the very tokens that `generate` gives."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from tasks.models import greedy, hf

LIMIT = 30


@pytest.fixture(scope="module", params=[2, 4], ids=["grouped", "ungrouped"])
def model(request: pytest.FixtureRequest):
    library = hf.transformers()
    config = library.Qwen2Config(
        vocab_size=60, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=request.param, max_position_embeddings=256, initializer_range=0.3,
    )  # fmt: skip
    config._attn_implementation = greedy.register()
    torch.manual_seed(0)
    return library.Qwen2ForCausalLM(config).eval()


@pytest.fixture(scope="module")
def prompts() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(60, (int(n),), generator=generator) for n in torch.randint(1, 20, (23,), generator=generator)]


def padded(some: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(map(len, some))
    ids = torch.stack([torch.nn.functional.pad(prompt, (longest - len(prompt), 0)) for prompt in some])
    own = torch.stack([torch.arange(longest) >= longest - len(prompt) for prompt in some]).long()
    return ids, own


def generated(model, prompt: torch.Tensor, ends: list[int]) -> list[int]:
    config = hf.transformers().GenerationConfig(
        max_new_tokens=LIMIT, do_sample=False, eos_token_id=ends, pad_token_id=0
    )
    ids = prompt.unsqueeze(0)
    return model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)[0, len(prompt) :].tolist()


def decoded(model, prompts: list[torch.Tensor], ends: list[int], at_once: int) -> list[list[int]]:
    asked: list[int] = []

    def inputs(rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        asked.extend(rows)
        ids, own = padded([prompts[row] for row in rows])
        return model.get_input_embeddings()(ids), own

    with torch.inference_mode():
        found = greedy.decode(
            model.model, model.lm_head, len(prompts), inputs,
            at_once=at_once, longest=max(map(len, prompts)), ends=ends, limit=LIMIT,
        )  # fmt: skip
    assert asked == list(range(len(prompts))), "each row begins once, in order"
    return found


@pytest.mark.parametrize("at_once", [1, 3, 8, 23, 100])
def test_tokens_are_those_of_generate(model, prompts, at_once):
    whole = [generated(model, prompt, [59]) for prompt in prompts]
    common = [token for token, _ in Counter(token for tokens in whole for token in tokens).most_common(4)]
    expected = [generated(model, prompt, common) for prompt in prompts]
    assert len({len(tokens) for tokens in expected}) > 3, "rows end at different times"
    assert decoded(model, prompts, common, at_once) == expected


def test_the_attention_is_that_of_transformers(model, prompts):
    ids, own = padded(prompts)
    with torch.inference_mode():
        mine = model(ids, attention_mask=own).logits
        model.set_attn_implementation("sdpa")
        theirs = model(ids, attention_mask=own).logits
        model.set_attn_implementation(greedy.ATTENTION)
    torch.testing.assert_close(mine[own.bool()], theirs[own.bool()])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("at_once", [3, None])
def test_a_step_that_cuda_replays_gives_the_same_tokens(model, prompts, at_once):
    def here(graph: bool) -> list[list[int]]:
        def inputs(rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
            ids, own = padded([prompts[row] for row in rows])
            return model.get_input_embeddings()(ids.cuda()), own.cuda()

        with torch.inference_mode():
            return greedy.decode(
                model.model, model.lm_head, len(prompts), inputs,
                at_once=at_once, longest=max(map(len, prompts)), ends=[59], limit=LIMIT, graph=graph,
            )  # fmt: skip

    model.cuda()
    try:
        assert here(graph=True) == here(graph=False)
    finally:
        model.cpu()
