"""The limit of 77 tokens, counted with the vocabulary of the real CLIP, which open_clip ships."""

from __future__ import annotations

import gzip
import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from demo.faces.characters import CAST, Pose
from demo.words import caption, facts
from tasks import settings, summaries
from tasks.errors import Refused
from tasks.models import hf
from tasks.models.embedder import count_tokens, load_embedder, load_tokenizer, max_tokens
from tasks.settings import Checkpoint
from tests.support import ROOT

CLIP = Checkpoint(model="clip", revision=None, dtype="float32", batch_size=4)
A_CAT = [49406, 320, 1125, 539, 320, 2368, 49407]  # "a photo of a cat" between its two ends, as CLIP has it


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small text tower behind the real tokenizer."""
    library, root = hf.transformers(), tmp_path_factory.mktemp("clip")
    package = find_spec("open_clip")
    assert package is not None and package.origin is not None
    with gzip.open(Path(package.origin).parent / "bpe_simple_vocab_16e6.txt.gz", "rt", encoding="utf-8") as stream:
        merges = [tuple(line.split()) for line in stream.read().split("\n")[1 : 49152 - 256 - 2 + 1]]
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(byte) for byte in visible] + [chr(256 + number) for number in range(256 - len(visible))]
    words = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    tokenizer = library.CLIPTokenizer(
        vocab={word: number for number, word in enumerate(words)}, merges=merges, model_max_length=77
    )
    tokenizer.save_pretrained(root / "clip")
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = library.CLIPTextConfig(**sizes, vocab_size=49408, bos_token_id=49406, eos_token_id=49407, pad_token_id=1)
    torch.manual_seed(0)
    library.CLIPTextModelWithProjection(config).save_pretrained(root / "clip")
    return root


def test_tokens_are_those_of_clip(root):
    tokenizer = load_tokenizer(CLIP, root)
    assert tokenizer("a photo of a cat")["input_ids"] == A_CAT
    assert count_tokens(tokenizer, "A photo of a CAT") == len(A_CAT)
    assert max_tokens(CLIP, root) == 77


def test_seventy_seven_tokens_are_read_and_no_more(root):
    embedder = load_embedder(CLIP, root)
    assert embedder([" ".join(["cat"] * 75)]).shape == (1, 512)
    with pytest.raises(Refused, match="78 tokens, and the embedder reads at most 77"):
        embedder([" ".join(["cat"] * 76)])


def test_summaries_stay_below_it(root):
    chosen = settings.load(ROOT)
    texts = [caption(facts(person, Pose())) for person in CAST[:6]]
    long = "Front-facing, smiling, with \N{GRINNING FACE} and " + "supercalifragilistic " * 40 + "hair. Young."
    own = chosen.profile.summarizer
    summarizer = own.model_copy(update={"model": str(ROOT / own.model)})
    said = summaries.summarize(
        [*texts, long], checkpoint=summarizer, embedder=CLIP, params=chosen.params.summaries, root=root
    )
    rows = [json.loads(value) for value in said if isinstance(value, bytes)]
    assert len(rows) >= len(texts)
    tokenizer = load_tokenizer(CLIP, root)
    for row in rows:
        assert row["clip_tokens"] == len(tokenizer(row["summary"])["input_ids"]) < 77
