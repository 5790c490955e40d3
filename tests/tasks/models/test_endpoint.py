"""Captions and summaries by a server of OpenAI's protocol: a real one, and a proxy before it that misbehaves."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tasks import captions, summaries
from tasks.errors import StippleError
from tasks.models import endpoint
from tasks.settings import CaptionerEndpoint, Endpoint, Settings
from tasks.store import tables
from tasks.store.schemas import SCHEMAS
from tests.support import ROOT, tiny_models
from tests.support.projects import free_port
from tests.tasks.test_captions import colors

SERVE = """
from tasks.models import hf
hf.transformers()
import numpy, torch, torchvision.io
from transformers import image_processing_backends, image_utils
if not torchvision.io.image._has_image_ops():
    def load(image):
        return torch.from_numpy(numpy.array(image_utils.load_image(image).convert("RGB"))).permute(2, 0, 1)
    image_processing_backends.load_image_as_tensor = load
from transformers.cli.transformers import main
main()
"""
"""`transformers`, also beside a torchvision that was built for another torch and decodes no pictures."""
COMMON = {"concurrency": 2, "timeout": 30.0}


@pytest.fixture(scope="module")
def served(models_folder: Path) -> Iterator[str]:
    """The address of `transformers serve`, which serves the tiny checkpoints."""
    port = free_port()
    command = [sys.executable, "-c", SERVE, "serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    env = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, cwd=models_folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while True:
        assert process.poll() is None, "transformers serve ended by itself"
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
            break
        time.sleep(0.2)
    yield f"http://127.0.0.1:{port}/v1"
    process.kill()
    process.wait()


class Proxy:
    """Passes requests on to a server, but for what `faults` says of the first of them."""

    def __init__(self, target: str) -> None:
        self.faults: list[Callable[[BaseHTTPRequestHandler], None]] = []
        self.asked: list[dict] = []
        self.keys: set[str | None] = set()
        self.at_once, self.most = 0, 0
        lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.passed_on(None)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                with lock:
                    proxy.asked.append(json.loads(body))
                    proxy.keys.add(self.headers["authorization"])
                    proxy.at_once += 1
                    proxy.most = max(proxy.most, proxy.at_once)
                    fault = proxy.faults.pop(0) if proxy.faults else None
                try:
                    self.passed_on(body) if fault is None else fault(self)
                finally:
                    with lock:
                        proxy.at_once -= 1

            def passed_on(self, body: bytes | None) -> None:
                url = target + self.path.removeprefix("/v1")
                request = urllib.request.Request(url, body, {"content-type": "application/json"})
                try:
                    with urllib.request.urlopen(request) as response:
                        answer(self, response.status, response.read())
                except urllib.error.HTTPError as error:
                    answer(self, error.code, error.read())

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}/v1"


def answer(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def busy(handler: BaseHTTPRequestHandler) -> None:
    answer(handler, 429, b"too many", retry_after="0.2")


def broken(handler: BaseHTTPRequestHandler) -> None:
    answer(handler, 500, b"oh no")


def cut_off(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("content-length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.close_connection = True


def no_json(handler: BaseHTTPRequestHandler) -> None:
    answer(handler, 200, b"<html>Bad gateway</html>")


def no_choices(handler: BaseHTTPRequestHandler) -> None:
    answer(handler, 200, b'{"model": "captioner", "choices": []}')


def slow(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(1.5)
    with suppress(OSError):
        answer(handler, 200, b"{}")


def another(handler: BaseHTTPRequestHandler) -> None:
    said = {"model": "llama", "choices": [{"message": {"content": "A llama."}, "finish_reason": "stop"}]}
    answer(handler, 200, json.dumps(said).encode())


def not_allowed(handler: BaseHTTPRequestHandler) -> None:
    answer(handler, 401, b"who are you")


def later(handler: BaseHTTPRequestHandler) -> None:
    answer(handler, 429, b"quota", retry_after="3600")


def too_long(handler: BaseHTTPRequestHandler) -> None:
    answer(handler, 400, b"maximum context length exceeded")


@pytest.fixture
def proxy(served: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    monkeypatch.setattr(endpoint, "WAITS", (0.05, 0.1, 0.2))
    proxy = Proxy(served)
    yield proxy
    proxy.server.shutdown()


def settings(address: str, **changes: object) -> Settings:
    """The tiny models, the captioner and the summarizer of them behind `address`."""
    given = tiny_models.settings()
    values = COMMON | {"endpoint": address} | changes
    served = {
        "captioner": CaptionerEndpoint(**{"model": "captioner", "max_new_tokens": 60, "image_side": 64} | values),
        "summarizer": Endpoint(**{"model": "summarizer", "max_new_tokens": 80} | values),
    }
    return given.model_copy(update={"profile": given.profile.model_copy(update=served)})


def captioned(root: Path, address: str, *names: str, **changes: object) -> dict[str, str]:
    tables.write(root / "data" / "frames.parquet", SCHEMAS["frames"], colors(*names))
    captions.run(settings(address, **changes), root)
    return {row["frame_id"][:-11]: row["caption"] for row in tables.read(root / "data" / "captions.parquet")}


EXPECTED = {name: tiny_models.CAPTIONS[name] for name in ("red", "green", "blue")}


def test_captions_and_summaries_are_those_of_the_checkpoints_here(proxy: Proxy, tiny_root: Path) -> None:
    assert captioned(tiny_root, proxy.address, *EXPECTED) == EXPECTED
    rows = [{"frame_id": f"{name}/0", "caption": name, "words": 1, "row_key": name} for name in ("obeys", "second")]
    tables.write(tiny_root / "data" / "captions.parquet", SCHEMAS["captions"], rows)
    summaries.run(settings(proxy.address), tiny_root)
    found = {row["frame_id"][:-2]: row["summary"] for row in tables.read(tiny_root / "data" / "summaries.parquet")}
    assert found == {"obeys": tiny_models.SUMMARIES["obeys"][0], "second": tiny_models.SUMMARIES["second"][1]}
    assert proxy.most == COMMON["concurrency"]


def test_rows_are_kept_whatever_the_address_and_computed_anew_for_another_model(
    proxy: Proxy, served: str, tiny_root: Path
) -> None:
    captioned(tiny_root, proxy.address, *EXPECTED)
    asked = len(proxy.asked)
    assert captioned(tiny_root, served, *EXPECTED) == EXPECTED
    keys = {row["row_key"] for row in tables.read(tiny_root / "data" / "captions.parquet")}
    captioned(tiny_root, proxy.address, *EXPECTED, model="captioner@main")
    assert len(proxy.asked) == asked + len(EXPECTED)
    assert keys.isdisjoint(row["row_key"] for row in tables.read(tiny_root / "data" / "captions.parquet"))


@pytest.mark.parametrize("fault", [busy, broken, cut_off, no_json, no_choices])
def test_what_passes_is_asked_again_and_nothing_else_is(proxy: Proxy, tiny_root: Path, fault: Callable) -> None:
    proxy.faults = [fault, fault]
    assert captioned(tiny_root, proxy.address, *EXPECTED) == EXPECTED
    assert len(proxy.asked) == len(EXPECTED) + 2


def test_a_slow_answer_is_waited_for_no_longer_than_the_profile_says(proxy: Proxy, tiny_root: Path) -> None:
    proxy.faults = [slow]
    assert captioned(tiny_root, proxy.address, "red", timeout=1.0) == {"red": EXPECTED["red"]}
    assert len(proxy.asked) == 2


def test_what_is_never_answered_is_set_aside_until_the_next_run(proxy: Proxy, tiny_root: Path) -> None:
    for fault, attempts, says in (
        (broken, 4, "gave no answer in 4 attempts, at last: HTTP 500"),
        (too_long, 1, "HTTP 400"),
    ):
        proxy.faults = [fault] * attempts
        found = captioned(tiny_root, proxy.address, *EXPECTED, concurrency=1)
        assert found == {name: EXPECTED[name] for name in ("green", "blue")}
        (lost,) = tables.read(tiny_root / "data" / "quarantine" / "captions.parquet")
        assert says in lost["reason"]
        assert captioned(tiny_root, proxy.address, *EXPECTED) == EXPECTED
        (tiny_root / ".stipple" / "rows.sqlite").unlink()
        (tiny_root / "data" / "captions.parquet").unlink()


@pytest.mark.parametrize(
    "fault, says",
    [
        (another, "was asked for captioner and answers as llama; start the model that the profile names"),
        (not_allowed, r"wants a key \(HTTP 401\); set STIPPLE_API_KEY"),
        (later, "asks to wait for 3600 s .* run again then"),
    ],
)
def test_what_no_waiting_mends_ends_the_run_in_one_line(
    proxy: Proxy, tiny_root: Path, fault: Callable, says: str
) -> None:
    captioned(tiny_root, proxy.address, "red")
    proxy.faults = [fault]
    with pytest.raises(StippleError, match=says) as caught:
        captioned(tiny_root, proxy.address, *EXPECTED)
    assert "\n" not in str(caught.value)
    assert captioned(tiny_root, proxy.address, *EXPECTED) == EXPECTED
    assert len(proxy.asked) <= 1 + 2 + 2, "what was answered before is kept"


def test_the_key_comes_from_the_environment_and_goes_into_no_row(
    proxy: Proxy, tiny_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captioned(tiny_root, proxy.address, "red")
    assert proxy.keys == {None}
    monkeypatch.setenv(endpoint.KEY, "very secret")
    endpoint.server.cache_clear()
    captioned(tiny_root, proxy.address, "red", "green")
    assert proxy.keys == {None, "Bearer very secret"}
    kept = b"".join(path.read_bytes() for path in tiny_root.rglob("*") if path.is_file() and "models" not in path.parts)
    assert b"very secret" not in kept


def test_a_server_that_is_not_there_is_named(tiny_root: Path) -> None:
    address = f"http://127.0.0.1:{free_port()}/v1"
    with pytest.raises(StippleError, match=f"{address} does not answer .* start it, or choose another profile"):
        captioned(tiny_root, address, "red")


WAITS_FOR_EVER = """
import sys
from pathlib import Path
from flows.local import stopping
from tests.tasks.models import test_endpoint
stopping.listen()
print("asking", flush=True)
try:
    test_endpoint.captioned(Path(sys.argv[1]), sys.argv[2], "red", "green", timeout=600.0)
except KeyboardInterrupt as stop:
    stopping.end(stop)
"""


def test_ctrl_c_does_not_wait_for_an_answer(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        command = [sys.executable, "-c", WAITS_FOR_EVER, str(tmp_path), address]
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        listing, _ = silent.accept()
        listing.recv(65536)
        answer = b'{"data": []}'
        listing.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(answer), answer))
        listing.recv(65536)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "asking\n") and err.endswith("next run goes on from there\n"), err
