"""Summaries to embeddings: unit length, computed once, and a word of warning when they are all alike."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tokenizers
import torch
from hypothesis import given
from hypothesis import strategies as st

from tasks import embeddings
from tasks.errors import StippleError
from tasks.models import hf
from tasks.models.embedder import load_embedder
from tasks.store import tables
from tasks.store.schemas import SCHEMAS
from tests.support import tiny_models

TEXTS = ["Left, smiling.", "Right, sad.", "Up, angry and far away.", "Front.", "Left, smiling."]


@pytest.fixture
def root(models_folder, tmp_path):
    """A folder with the tiny embedder, which a test may change."""
    shutil.copytree(models_folder / "embedder", tmp_path / "embedder")
    return tmp_path


def run(root, texts, **options):
    rows = [{"frame_id": f"clip.mp4/{n:06d}", "summary": text, "row_key": str(n)} for n, text in enumerate(texts)]
    tables.write(root / "data" / "summaries.parquet", SCHEMAS["summaries"], rows)
    return embeddings.run(tiny_models.settings(), root, **options)


def table(root) -> np.ndarray:
    return np.stack([row["embedding"] for row in tables.read(root / "data" / "embeddings.parquet")])


def change_weights(folder, change):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    save_file(change(weights), folder / "model.safetensors", metadata={"format": "pt"})


def test_embeddings_have_length_one_in_the_order_of_the_summaries(root):
    summary = run(root, TEXTS)
    vectors = table(root)
    assert vectors.dtype == np.float32 and vectors.shape == (5, 512)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(vectors[0], vectors[4])
    assert (summary["computed"], summary["reused"]) == (4, 1)
    assert summary["cosine"]["max"] == 1
    assert summary["cosine"]["min"] < 0.999


def test_shorter_wordings_are_embedded_beside_each_summary(root):
    text = "Left, smiling. He has red hair, a beard and glasses. He wears a hat."
    run(root, [text, "Left, smiling."])
    first, second = tables.read(root / "data" / "embeddings.parquet")
    assert first["wordings"][0] == "Left, smiling" and 2 <= len(first["wordings"]) <= embeddings.WORDINGS
    parts = {"Left", "smiling", "He has red hair", "a beard", "glasses", "He wears a hat"}
    assert all(
        wording.startswith("Left, smiling") and set(wording.split(", ")) < parts for wording in first["wordings"]
    )
    embedder = load_embedder(tiny_models.settings().profile.embedder, root)
    np.testing.assert_allclose(np.array(first["wording_embeddings"]), embedder(first["wordings"]), atol=1e-6)
    assert second["wordings"] == ["Left, smiling"] and embeddings.wordings(text) == first["wordings"]


@given(st.text())
def test_any_text_has_few_wordings_none_of_which_is_empty_or_itself(text):
    found = embeddings.wordings(text)
    assert len(found) <= embeddings.WORDINGS and len(set(found)) == len(found)
    assert all(wording and wording != text for wording in found)


def test_embeddings_come_back_from_the_store_and_from_the_table_with_the_same_bytes(root):
    run(root, TEXTS)
    before = (root / "data" / "embeddings.parquet").read_bytes()
    assert run(root, TEXTS)["computed"] == 0
    shutil.rmtree(root / ".stipple")
    assert run(root, TEXTS)["computed"] == 0
    assert (root / "data" / "embeddings.parquet").read_bytes() == before


def test_other_weights_are_other_embeddings(root):
    run(root, TEXTS)
    change_weights(root / "embedder", lambda weights: {name: 2 * w for name, w in weights.items()})
    assert run(root, TEXTS)["computed"] == 4


def test_a_summary_that_is_too_long_is_refused_alone(root):
    summary = run(root, [*TEXTS, "word" * 30])
    assert (summary["rows"], summary["quarantined"]) == (5, 1)
    refused = list(tables.read(root / "data" / "quarantine" / "embeddings.parquet"))
    assert refused[0]["frame_id"] == "clip.mp4/000005"
    assert "122 tokens, and the embedder reads at most 77" in refused[0]["reason"]


def tokenizer(most: int):
    """Every word is a token; begin and end are two more."""
    words = {word: number for number, word in enumerate(("[PAD]", "[UNK]", "<s>", "</s>", *"abcdefgh"))}
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    model.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", words["<s>"]), ("</s>", words["</s>"])]
    )
    return hf.transformers().PreTrainedTokenizerFast(
        tokenizer_object=model, model_max_length=most, pad_token="[PAD]", unk_token="[UNK]", bos_token="<s>",
        eos_token="</s>",
    )  # fmt: skip


SIZES = {"vocab_size": 12, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def checkpoint(folder, kind: str):
    """A random one: Long-CLIP has more positions and another width, SigLIP another pooling, a sentence encoder none."""
    library, sizes = hf.transformers(), SIZES | {"hidden_size": 24}
    ends = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    match kind:
        case "longer clip":
            config = library.CLIPTextConfig(**sizes, **ends, max_position_embeddings=100, projection_dim=20)
            model, most = library.CLIPTextModelWithProjection(config), 100
        case "siglip":
            config = library.SiglipTextConfig(**sizes, **ends, max_position_embeddings=16, projection_size=24)
            model, most = library.SiglipTextModel(config), 16
        case _:
            model, most = library.BertModel(library.BertConfig(**sizes, max_position_embeddings=50)), 40
    model.save_pretrained(folder)
    tokenizer(most).save_pretrained(folder)
    return most


@pytest.mark.parametrize("kind, width", [("longer clip", 20), ("siglip", 24), ("sentence encoder", 24)])
def test_other_embedders_say_themselves_how_wide_they_are_and_how_much_they_read(tmp_path, kind, width):
    torch.manual_seed(0)
    most = checkpoint(tmp_path / "embedder", kind)
    counts = run(tmp_path, ["a b c, d", "e f", " ".join("abcdefgh" * 16)])
    assert (counts["rows"], counts["quarantined"]) == (2, 1)
    vectors = table(tmp_path)
    assert vectors.shape == (2, width)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    (refused,) = tables.read(tmp_path / "data" / "quarantine" / "embeddings.parquet")
    assert refused["reason"].endswith(f"tokens, and the embedder reads at most {most}")
    embedder = load_embedder(tiny_models.settings().profile.embedder, tmp_path)
    np.testing.assert_allclose(embedder(["a b c, d", "e f"]), vectors, atol=1e-5)
    np.testing.assert_allclose(embedder(["e f"])[0], vectors[1], atol=1e-5, err_msg="alone as in a batch")


def test_an_embedding_that_is_not_a_number_is_refused(root):
    change_weights(root / "embedder", lambda weights: {n: torch.full_like(w, torch.nan) for n, w in weights.items()})
    with pytest.raises(StippleError, match=r"none of 5 rows .* its embedding is not a number"):
        run(root, TEXTS)


def test_summaries_that_are_all_alike_are_pointed_out(root, caplog):
    assert run(root, ["Left, smiling."] * 3)["cosine"] == {"min": 1.0, "mean": 1.0, "std": 0.0, "max": 1.0}
    assert "the summaries are nearly all alike (mean cosine similarity 1.000" in caplog.text


@given(st.integers(2, 30), st.integers(0, 2**32))
def test_similarities_are_those_of_all_pairs(count, seed):
    vectors = np.random.default_rng(seed).normal(size=(count, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = [vectors[i] @ vectors[j] for i in range(count) for j in range(i)]
    found = embeddings.similarities(vectors)
    expected = {"min": np.min(pairs), "mean": np.mean(pairs), "std": np.std(pairs), "max": np.max(pairs)}
    assert found == pytest.approx(expected, abs=1e-4)
