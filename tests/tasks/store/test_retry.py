"""Failures inside a batch, real ones: torch without memory, a server that hangs up, a picture that breaks Pillow."""

from __future__ import annotations

import http.server
import io
import subprocess
import sys
import textwrap
import threading
import urllib.request
from functools import partial

import pytest
import torch

from tasks import captions
from tasks.errors import Refused, StippleError
from tasks.store import retry
from tasks.store.retry import RowResult, attempt
from tests.support import ROOT, tiny_models


@pytest.fixture(autouse=True)
def slept(monkeypatch) -> list[float]:
    """The waits, noted and left out; what a process learned about its memory is forgotten."""
    waits: list[float] = []
    monkeypatch.setattr(retry, "sleep", waits.append)
    monkeypatch.setattr(retry, "_fits", {})
    return waits


def hungry(rows: int):
    """A function that asks torch for 280 TB when its batch has more than `rows` rows; and the sizes of its batches."""
    sizes = []

    def fn(batch: list[int]) -> list[bytes]:
        sizes.append(len(batch))
        if len(batch) > rows:
            torch.empty(2**46)
        return [b"%d" % n for n in batch]

    return fn, sizes


def test_too_little_memory_halves_the_batch_and_the_size_is_remembered(slept):
    fn, sizes = hungry(3)
    assert attempt("captions", fn, list(range(8))) == [RowResult(b"%d" % n) for n in range(8)]
    assert sizes == [8, 4, 2, 2, 2, 2]
    attempt("captions", fn, list(range(5)))
    assert sizes[6:] == [2, 2, 1]
    attempt("summaries", fn, [1, 2, 3])
    assert sizes[9:] == [3]
    assert slept == []


def test_a_row_without_memory_is_tried_again_and_then_refused_for_now(slept):
    fn, sizes = hungry(0)
    (outcome,) = attempt("captions", fn, [1])
    assert outcome.transient and "DefaultCPUAllocator: can't allocate memory" in outcome.reason
    assert "\n" not in outcome.reason
    assert slept == [1, 4, 16] and len(sizes) == 4


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("no such")]
)
def test_memory_errors_are_told_from_others(error):
    assert retry.out_of_memory(error) == (not str(error).startswith("no such"))


@pytest.fixture
def server():
    """An endpoint that hangs up on as many requests as the test says, and answers from then on."""

    class Handler(http.server.BaseHTTPRequestHandler):
        failures = 0

        def do_GET(self) -> None:
            if Handler.failures:
                Handler.failures -= 1
                self.connection.close()
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"said")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield Handler, f"http://127.0.0.1:{served.server_port}"
        served.shutdown()


def test_a_lost_connection_is_tried_again_with_growing_waits(server, slept):
    handler, url = server
    handler.failures = 2

    def ask(batch: list[int]) -> list[bytes]:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return [answer.read()] * len(batch)

    assert attempt("summaries", ask, [1, 2]) == [RowResult(b"said")] * 2
    assert slept == [1, 4]


def test_a_server_that_is_gone_ends_the_run_after_the_waits_of_one_batch(slept):
    def ask(batch: list[int]) -> list[bytes]:
        urllib.request.urlopen("http://127.0.0.1:9", timeout=10)
        return []

    with pytest.raises(StippleError, match=r"all 8 rows of a batch failed, so it is not the rows: .*refused"):
        attempt("summaries", ask, list(range(8)))
    assert slept == [1, 4, 16]


def test_what_will_not_pass_is_not_tried_again(slept):
    seen = []

    def fn(batch: list[int]) -> list[bytes]:
        seen.append(len(batch))
        if 5 in batch:
            raise ValueError("five\nis odd")
        if 6 in batch:
            raise Refused("six is even")
        return [b"%d" % n for n in batch]

    outcomes = attempt("points", fn, list(range(8)))
    assert [outcome.value for outcome in outcomes[:5]] == [b"0", b"1", b"2", b"3", b"4"]
    assert outcomes[5] == RowResult(reason="ValueError: five is odd", transient=True)
    assert outcomes[6] == RowResult(reason="six is even")
    assert seen == [8, 4, 4, 2, 1, 1, 2, 1, 1]
    assert slept == []


def test_an_error_of_the_run_is_not_a_rows(slept):
    def fn(batch: list[int]) -> list[bytes]:
        raise StippleError("no space left")

    with pytest.raises(StippleError, match="no space left"):
        attempt("points", fn, [1, 2])


def test_a_picture_that_breaks_the_decoder_costs_no_other(models_folder):
    """Pillow meets a DDS picture of an unknown kind with an error that `captions` does not expect of a picture."""
    good, strange = io.BytesIO(), io.BytesIO()
    tiny_models.picture("red").save(good, "png")
    tiny_models.picture("red").save(strange, "dds")
    strange.getbuffer()[80:84] = bytes(4)
    pictures = [good.getvalue(), strange.getvalue(), good.getvalue()]
    checkpoint = tiny_models.profile().captioner
    fn = partial(captions.caption, checkpoint=checkpoint, prompt=tiny_models.PROMPT, root=models_folder)
    first, broken, last = attempt("captions", fn, pictures)
    assert tiny_models.CAPTIONS["red"].encode() in first.value and first == last
    assert broken == RowResult(reason="NotImplementedError: Unknown pixel format flags 0", transient=True)


def test_a_process_short_of_memory_embeds_in_smaller_batches_and_gets_the_same_vectors(models_folder):
    """A limit of the operating system on a process of its own: the whole batch does not fit, its parts do."""
    script = """
        import resource, sys
        from pathlib import Path
        import numpy as np
        from tasks import embeddings
        from tasks.store import retry
        from tests.support import tiny_models
        embedder = tiny_models.profile().embedder.model_copy(update={"batch_size": 1024})
        fn = lambda batch: embeddings.embed(batch, checkpoint=embedder, root=Path(sys.argv[1]))
        texts = [f"{number} " + "word " * 12 for number in range(1024)]
        fn(texts[:64])
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + (64 << 20), -1))
        outcomes = retry.attempt("embeddings", fn, texts)
        resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
        vectors = lambda values: np.stack([embeddings.unpack(value)["embedding"] for value in values])
        parts, whole = (vectors(values) for values in ([o.value for o in outcomes], fn(texts)))
        print(retry._fits["embeddings"] < 1024, np.abs(parts - whole).max() < 1e-5)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(models_folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["True", "True"], done.stderr
    assert "no memory for 1024 rows at a time" in done.stderr
