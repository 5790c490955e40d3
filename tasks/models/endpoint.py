"""Models behind a server that speaks OpenAI's protocol: vLLM, SGLang, Ollama, `transformers serve`, a hosted API.

What may pass (no answer in time, a lost connection, too many requests, an answer that is no JSON) is asked again after
a wait, each request by itself, so that no answered one is paid for twice.
"""

import base64
import io
import json
import os
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from threading import Event, Lock, Thread
from typing import Any

import httpx
from PIL import Image

from tasks import settings
from tasks.errors import Refused, StippleError, Unanswered
from tasks.models.decoding import Written

KEY = "STIPPLE_API_KEY"
WAITS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # seconds before a request is made again
LONGEST = 300.0  # seconds that a server may ask to wait
CONNECT = 10.0  # seconds
PASSING = {408, 409, 425, 429, 500, 502, 503, 504}
AGAIN = {"temperature": 0.7, "frequency_penalty": 0.5}
"""How an answer that was no use is asked for once more."""

Chat = list[dict[str, Any]]


class Server:
    """Chats → answers, as many at once as the profile says."""

    def __init__(self, endpoint: settings.Endpoint) -> None:
        self.endpoint, self.address = endpoint, endpoint.endpoint
        key = os.environ.get(KEY)
        self.http = httpx.Client(
            base_url=endpoint.endpoint.rstrip("/") + "/",
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(endpoint.timeout, connect=CONNECT),
            limits=httpx.Limits(max_connections=endpoint.concurrency),
        )
        self.answers_as: str | None = None
        self.stopped = Event()

    @cached_property
    def identity(self) -> str:
        """What a row key needs to know: the model's name, and what the server says of that model."""
        try:
            response = self.http.get("models")
            self._check(response)
            listed = response.json()["data"] if response.is_success else []
            found = [model for model in listed if model["id"] == self.endpoint.model]
        except httpx.HTTPError as error:
            raise StippleError(
                f"{self.address} does not answer ({_said(error)}); start it, or choose another profile"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise StippleError(f"{self.address} is no server of OpenAI's protocol ({_said(error)})") from None
        says = {name: found[0].get(name) for name in ("root", "owned_by")} if found else {}
        return f"{self.endpoint.model} served {json.dumps(says, sort_keys=True)}"

    def ask(self, chats: Iterable[Chat], *, again: bool = False) -> list[Written | Refused]:
        """The answer to each chat, in order, or why there is none."""
        coming, lock = enumerate(chats), Lock()
        answers: dict[int, Written | Refused] = {}
        failed: list[BaseException] = []

        def work() -> None:
            try:
                while not self.stopped.is_set():
                    with lock:
                        at, chat = next(coming, (None, None))
                    if at is None or chat is None:
                        return
                    answers[at] = self._persist(chat, AGAIN if again else {})
            except BaseException as error:
                failed.append(error)
                self.stopped.set()

        threads = [Thread(target=work, daemon=True) for _ in range(self.endpoint.concurrency)]  # Ctrl-C waits for none
        try:
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads) and not self.stopped.wait(0.02):
                pass
            if failed:
                raise failed[0]
        except BaseException:
            self.stopped.set()
            server.cache_clear()
            raise
        return [answers[at] for at in range(len(answers))]

    def _persist(self, chat: Chat, more: dict[str, Any]) -> Written | Refused:
        for wait in (*WAITS, None):
            asked = 0.0
            try:
                response = self.http.post("chat/completions", json=self._body(chat, more))
                self._check(response)
                if response.is_success:
                    return self._answer(response.json())
                reason = f"HTTP {response.status_code}: {_said(response.text)}"
                if response.status_code not in PASSING:
                    return Unanswered(f"{self.address} refused it ({reason})")
                asked = _retry_after(response)
            except (httpx.HTTPError, ValueError, KeyError, TypeError, IndexError) as error:
                reason = _said(error)
            if asked > LONGEST:
                raise StippleError(f"{self.address} asks to wait for {asked:g} s ({reason}); run again then")
            if wait is not None and self.stopped.wait(max(wait, asked)):
                break
        return Unanswered(f"{self.address} gave no answer in {len(WAITS) + 1} attempts, at last: {reason}")

    def _body(self, chat: Chat, more: dict[str, Any]) -> dict[str, Any]:
        end = {"max_tokens": self.endpoint.max_new_tokens}
        return {"model": self.endpoint.model, "messages": chat, "temperature": 0.0, "seed": 0, **end, **more}

    def _answer(self, found: dict[str, Any]) -> Written:
        choice = found["choices"][0]
        written = Written(" ".join((choice["message"]["content"] or "").split()), choice["finish_reason"] != "length")
        self._compare(found["model"])
        return written

    def _compare(self, name: str) -> None:
        """Raise StippleError if another model answers than was asked, or than answered before."""
        asked = self.endpoint.model
        if self.answers_as is None and (asked in name or name in asked):
            self.answers_as = name
        if name != self.answers_as:
            raise StippleError(
                f"{self.address} was asked for {asked} and answers as {name}; start the model that the profile names, "
                "or name in the profile the one that is served"
            )

    def _check(self, response: httpx.Response) -> None:
        status = response.status_code
        if status in (401, 403):
            raise StippleError(f"{self.address} wants a key (HTTP {status}); set {KEY} to a valid one")
        if status == 404 and response.request.method == "POST":
            raise StippleError(
                f"{self.address} has no {self.endpoint.model} (HTTP 404: {_said(response.text)}); mend the profile"
            )


class Captioner:
    """Pictures → texts."""

    def __init__(self, endpoint: settings.CaptionerEndpoint) -> None:
        self.side, self.server = endpoint.image_side, server(endpoint)

    def __call__(
        self, pictures: Iterable[str], number: int, prompt: str, *, again: bool = False
    ) -> list[Written | Refused]:
        """Answer `prompt` about each of `number` prepared pictures."""
        text = {"type": "text", "text": prompt}
        shown = ({"type": "image_url", "image_url": {"url": picture}} for picture in pictures)
        return self.server.ask(([{"role": "user", "content": [image, text]}] for image in shown), again=again)

    def prepare(self, picture: Image.Image) -> str:
        """An RGB picture as a data URL."""
        small = picture.copy()
        small.thumbnail((self.side, self.side))
        buffer = io.BytesIO()
        small.save(buffer, "jpeg", quality=92)
        return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


class Summarizer:
    """Texts → shorter texts."""

    def __init__(self, endpoint: settings.Endpoint) -> None:
        self.server = server(endpoint)

    def __call__(self, texts: Sequence[str], instruction: str, *, again: bool = False) -> list[Written | Refused]:
        """Follow `instruction` on each text."""
        asked = (f"{instruction}\n\n{text}" for text in texts)
        return self.server.ask(([{"role": "user", "content": text}] for text in asked), again=again)


@lru_cache
def server(endpoint: settings.Endpoint) -> Server:
    """The server of an endpoint; its connections are kept."""
    return Server(endpoint)


def _retry_after(response: httpx.Response) -> float:
    """Seconds that the server asks to wait; 0 if it says none (or a date, which takes a clock to agree on)."""
    try:
        return max(0.0, float(response.headers.get("retry-after", 0)))
    except ValueError:
        return 0.0


def _said(what: object) -> str:
    text = " ".join(str(what).split())[:160]
    return f"{type(what).__name__}: {text}".rstrip(": ") if isinstance(what, Exception) else text
