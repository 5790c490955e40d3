"""Real checkpoints that are small enough to make in a test: FastVLM, Qwen2 and CLIP, taught a few texts by heart."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tokenizers import ByteLevelBPETokenizer
from tokenizers.pre_tokenizers import ByteLevel

from tasks.models.decoding import Written
from tasks.models.hf import transformers
from tasks.settings import CaptionerCheckpoint, Checkpoint, GeneratorCheckpoint, Profile, Settings, load
from tests.support import ROOT

hf = transformers()

SIDE = 64
PROMPT = "Describe."
CAPTIONS = {
    "red": "A red face looks left. It smiles.",
    "green": "A green face looks right. It is sad.",
    "blue": "A blue face looks up. It talks and walks and runs and jumps and sings and never ever comes to an end.",
    "white": "a face of which there is so very much to say that no end to this one sentence can ever be in sight",
    "black": "",
}
INSTRUCTION = "At most {max_words}."
LONG = "Left, smiling. It is red. It is round. It is here. It is far too long."
ENDLESS = "Right and sad and green and round and here and there and everywhere"
SUMMARIES = {  # text → answer to the first, second and third request
    "obeys": ("Left, smiling.",) * 3,
    "second": (LONG, "Left, smiling. It is red.", "Left."),
    "stubborn": (LONG,) * 3,
    "endless": (ENDLESS,) * 3,
    "silent": ("",) * 3,
}
LIMITS = (12, 8, 5)
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for part in m.content %}{% if part.type == 'image' %}<image>\n{% else %}{{ part.text }}{% endif %}{% endfor %}"
    "{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def picture(color: str, size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    return Image.new("RGB", size, color)


def described(captioner: Any, pictures: Sequence[Image.Image], prompt: str = PROMPT) -> list[Written]:
    return captioner(map(captioner.prepare, pictures), len(pictures), prompt)


def profile() -> Profile:
    """The settings that load what `save` has saved, from that folder."""
    common = {"revision": None, "dtype": "float32"}
    generator = common | {"quantization": None, "batch_size": 4}
    return Profile(
        captioner=CaptionerCheckpoint(model="captioner", **generator, image_side=SIDE, max_new_tokens=60),
        summarizer=GeneratorCheckpoint(model="summarizer", **generator, max_new_tokens=80),
        embedder=Checkpoint(model="embedder", **common, batch_size=4),
        autoencoder=None,
    )


def settings() -> Settings:
    """The project's own params.yaml with the requests that these models know, and their profile."""
    own = load(ROOT).params
    captions = own.captions.model_copy(update={"prompt": PROMPT})
    summaries = own.summaries.model_copy(update={"prompt": INSTRUCTION, "max_words": LIMITS[0]})
    return Settings(params=own.model_copy(update={"captions": captions, "summaries": summaries}), profile=profile())


def save(folder: Path) -> None:
    """Write the three checkpoints under `folder`, with `save_pretrained` and nothing else."""
    torch.manual_seed(0)
    _save_captioner(folder / "captioner")
    _save_summarizer(folder / "summarizer")
    _save_embedder(folder / "embedder")


def _alphabet() -> list[str]:
    return sorted(ByteLevel.alphabet())


def _qwen_tokenizer(texts: Iterable[str]):
    learned = ByteLevelBPETokenizer()
    learned.train_from_iterator(texts, vocab_size=500, min_frequency=1, show_progress=False)
    bpe = json.loads(learned.to_str())["model"]
    return hf.Qwen2Tokenizer(
        vocab=bpe["vocab"],
        merges=[tuple(merge) for merge in bpe["merges"]],
        extra_special_tokens=["<|im_start|>", "<|im_end|>", "<image>"],
        eos_token="<|im_end|>",
        chat_template=TEMPLATE,
    )


def _qwen_config(tokenizer) -> dict:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _learn(model, tokenizer, prompts: list[str], answers: list[str], steps: int, more=dict) -> None:
    """Teach `model` to continue each prompt with its answer and `<|im_end|>`."""
    asked = [tokenizer(prompt, add_special_tokens=False).input_ids for prompt in prompts]
    said = [tokenizer(answer + "<|im_end|>", add_special_tokens=False).input_ids for answer in answers]
    width = max(len(a) + len(s) for a, s in zip(asked, said, strict=True))
    ids = torch.full((len(asked), width), tokenizer.pad_token_id)
    labels = torch.full_like(ids, -100)
    mask = torch.zeros_like(ids)
    for row, (a, s) in enumerate(zip(asked, said, strict=True)):
        ids[row, : len(a) + len(s)] = torch.tensor(a + s)
        labels[row, len(a) : len(a) + len(s)] = torch.tensor(s)
        mask[row, : len(a) + len(s)] = 1
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 5e-3 * (1 - step / steps)
        optimizer.zero_grad()
        loss = model(input_ids=ids, attention_mask=mask, labels=labels, **more()).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if loss < 1e-2:
            return
    raise AssertionError(f"the tiny model has not learned its texts: loss {loss:.4f}")


def _see(tower: torch.nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """What the untrained tower sees, [B, 1, C], after one pass that sets its batch norms so that colours differ."""
    for module in tower.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        tower.train()(pixels)
        return tower.eval()(pixels).last_hidden_state.flatten(2).permute(0, 2, 1)


def _save_captioner(folder: Path) -> None:
    tokenizer = _qwen_tokenizer([*CAPTIONS.values(), PROMPT, "user", "assistant"])
    config = hf.FastVlmConfig(
        vision_config={
            "model_type": "timm_wrapper",
            "architecture": "fastvit_mci3",
            "do_pooling": True,
            "global_pool": "avg",
            "hidden_size": 128,
            "model_args": {
                "inference_mode": False,
                "layers": [1] * 5,
                "embed_dims": [8, 16, 32, 32, 64],
                "mlp_ratios": [2] * 5,
            },
        },
        text_config={"model_type": "qwen2", **_qwen_config(tokenizer)},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(SIDE // 64) ** 2,
    )
    model = hf.FastVlmForConditionalGeneration(config)
    images = hf.CLIPImageProcessor(
        size={"shortest_edge": SIDE}, crop_size=SIDE, image_mean=[0.0] * 3, image_std=[1.0] * 3
    )
    processor = hf.LlavaProcessor(images, tokenizer, patch_size=64, chat_template=TEMPLATE)
    content = [{"type": "image"}, {"type": "text", "text": PROMPT}]
    chat = [{"role": "user", "content": content}]
    prompt = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    pixels = images([picture(color) for color in CAPTIONS], return_tensors="pt").pixel_values
    features = _see(model.model.vision_tower, pixels)

    def encoded() -> dict:
        output = hf.modeling_outputs.BaseModelOutputWithPooling(
            pooler_output=model.model.multi_modal_projector(features)
        )
        return {"mm_encoder_outputs": {"image": output}}

    _learn(model, tokenizer, [prompt] * len(CAPTIONS), list(CAPTIONS.values()), 300, encoded)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def _save_summarizer(folder: Path) -> None:
    texts = [text for answered in SUMMARIES.items() for text in (answered[0], *answered[1])]
    tokenizer = _qwen_tokenizer(
        [*texts, *(INSTRUCTION.format(max_words=limit) for limit in LIMITS), "user", "assistant"]
    )
    model = hf.Qwen2ForCausalLM(hf.Qwen2Config(**_qwen_config(tokenizer)))
    prompts, answers = [], []
    for text, replies in SUMMARIES.items():
        for limit, reply in zip(LIMITS, replies, strict=True):
            chat = [{"role": "user", "content": f"{INSTRUCTION.format(max_words=limit)}\n\n{text}"}]
            prompts.append(tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False))
            answers.append(reply)
    _learn(model, tokenizer, prompts, answers, 600)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _save_embedder(folder: Path) -> None:
    tokens = [*_alphabet(), *(letter + "</w>" for letter in _alphabet()), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = hf.CLIPTokenizer(vocab={t: i for i, t in enumerate(tokens)}, merges=[], model_max_length=77)
    config = hf.CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    hf.CLIPTextModelWithProjection(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
