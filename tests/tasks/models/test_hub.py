"""What comes from the hub: said before it comes, fetched once, and what a branch meant is written down.

The hub is a stand-in on loopback that answers the few requests that `huggingface_hub` makes.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support import ROOT

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LATER = "f" * 40
SCRIPT = """
import sys
from pathlib import Path
from tasks.errors import StippleError
from tasks.models import hub
from tests.support import tiny_models
given = tiny_models.profile()
served = given.embedder.model_copy(update={"model": "some/embedder", "revision": "main"})
try:
    for line in hub.pull(given.model_copy(update={"embedder": served}), Path(sys.argv[1])):
        print(line)
except StippleError as error:
    sys.exit(str(error))
"""


class Hub:
    """Serves the files of one checkpoint, at whatever commit `main` is."""

    def __init__(self, folder: Path) -> None:
        self.commit = COMMIT
        self.sent: list[str] = []
        files = {path.name: path.read_bytes() for path in folder.iterdir()} | {"pickled.bin": b"never"}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                name = self.path.partition("?")[0].rpartition("/")[2]
                if self.path.startswith("/api/models/some/embedder/tree"):
                    self.answer(json.dumps([entry(name, content) for name, content in files.items()]).encode())
                elif self.path.startswith("/api/models/some/embedder"):
                    siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
                    said = {"id": "some/embedder", "sha": hub.commit, "siblings": siblings}
                    self.answer(json.dumps(said | {"cardData": {"license": "mit"}}).encode())
                elif "/resolve/" in self.path and name in files:
                    digest = hashlib.sha256(files[name]).hexdigest()
                    self.answer(files[name], **{"ETag": f'"{digest}"', "X-Repo-Commit": hub.commit})
                    if self.command == "GET":
                        hub.sent.append(name)
                else:
                    self.send_response(404)
                    self.send_header("content-length", "0")
                    self.end_headers()

            def answer(self, body: bytes, **headers: str) -> None:
                self.send_response(200)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        def entry(name: str, content: bytes) -> dict:
            return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def hub(models_folder: Path) -> Iterator[Hub]:
    hub = Hub(models_folder / "embedder")
    yield hub
    hub.server.shutdown()


def pulled(root: Path, address: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"HF_ENDPOINT": address, "HF_HOME": str(root / "home"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SCRIPT, str(root)]
    return subprocess.run(command, env=env | {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}, capture_output=True, text=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    for name in ("captioner", "summarizer"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_a_checkpoint_is_named_with_size_and_licence_fetched_once_and_its_branch_written_down(root, hub):
    first = pulled(root, hub.address)
    assert first.returncode == 0, first.stderr
    assert f"embedder: some/embedder at {COMMIT[:10]}" in first.stdout and "to fetch; licence: mit" in first.stdout
    assert {"model.safetensors", "config.json"} <= set(hub.sent) and "pickled.bin" not in hub.sent
    assert json.loads((root / "models" / "hub.json").read_text()) == {"some/embedder@main": COMMIT}
    hub.commit, hub.sent = LATER, []
    again = pulled(root, hub.address)
    assert "here already" in again.stdout and COMMIT[:10] in again.stdout and hub.sent == [], again.stderr


def test_a_hub_that_is_not_there_is_one_line(root):
    done = pulled(root, "http://127.0.0.1:9")
    assert done.returncode == 1 and "some/embedder cannot be loaded" in done.stderr.strip().splitlines()[-1]
