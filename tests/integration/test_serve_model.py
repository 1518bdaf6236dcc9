"""`turnwire serve --model`: a model from a file, from a hub, and from another server."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from tests.random_model import random_model

COMMAND: Final = [sys.executable, "-m", "turnwire.cli.main"]
QUICK: Final = 'kind = "llamacpp"\nwindow = 4096\nslots = 1\nthreads = 1\ncache_ram_mib = 64\n'

Json = dict[str, Any]


@contextmanager
def serving(folder: Path, *arguments: str, **env: str) -> Iterator[tuple[str, list[str]]]:
    """A server as a process: its URL, and what it writes to standard error in the end."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TURNWIRE_")}
    said: list[str] = []
    with (
        (folder / "log").open("w+") as log,
        subprocess.Popen(
            [*COMMAND, "serve", "--port", "0", "--data-dir", str(folder / "data"), *arguments],
            env={**kept, "HOME": str(folder), **env},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            ready = re.search(r"http://[^/]+", line)
            log.seek(0)
            assert ready is not None, log.read()
            yield ready[0], said
        finally:
            process.send_signal(signal.SIGTERM)
            assert 0 == process.wait(60)
            log.seek(0)
            said += log.read().splitlines()


def ask(url: str, method: str, path: str, body: Json | None = None) -> Json:
    """One request."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        connection.request(
            method,
            path,
            None if body is None else json.dumps(body),
            {"Content-Type": "application/json"},
        )
        answer = connection.getresponse()
        found: Json = json.loads(answer.read())
        assert 200 == answer.status, found
        return found
    finally:
        connection.close()


def respond(url: str, model: str, items: list[Json]) -> Json:
    """One response, not stored."""
    # Greedy, so that the nonsense of the random weights is the same each time.
    body = {
        "model": model,
        "input": items,
        "store": False,
        "max_output_tokens": 24,
        "temperature": 0,
    }
    return ask(url, "POST", "/v1/responses", body)


def user(text: str) -> Json:
    """A message."""
    return {"role": "user", "content": text}


def test_a_file_on_the_command_line(tmp_path: Path) -> None:
    """It answers under its own name, and has in its cache what a client sends again."""
    with serving(tmp_path, "--model", f"tiny={random_model()}") as (url, _):
        listed = [model["id"] for model in ask(url, "GET", "/v1/models")["data"]]
        assert ["tiny", "sim"] == listed[:2]
        sent = [user("Hello. " * 40)]
        first = respond(url, "tiny", sent)
        assert 0 == first["usage"]["input_tokens_details"]["cached_tokens"]
        second = respond(url, "tiny", [*sent, *first["output"], user("And?")])
        used = first["usage"]["input_tokens"] + first["usage"]["output_tokens"]
        assert used - 2 <= second["usage"]["input_tokens_details"]["cached_tokens"]


def test_engines_and_models_of_a_file(tmp_path: Path) -> None:
    """Two models on one engine, with aliases and limits; responses name the model."""
    config = tmp_path / "turnwire.toml"
    config.write_text(
        f'[models]\nembedded = []\n[engine.e]\n{QUICK}path = "{random_model()}"\n'
        '[model.one]\nengine = "e"\naliases = ["gpt-5"]\nmax_output_tokens = 16\n'
        '[model.two]\nengine = "e"\n'
    )
    with serving(tmp_path, "--config", str(config)) as (url, _):
        listed = [model["id"] for model in ask(url, "GET", "/v1/models")["data"]]
        assert ["one", "gpt-5", "two"] == listed
        assert "gpt-5" == ask(url, "GET", "/v1/models/gpt-5")["id"]
        limited = respond(url, "gpt-5", [user("Hello")])
        assert ("one", True) == (limited["model"], limited["usage"]["output_tokens"] <= 16)
        assert "two" == respond(url, "two", [user("Hello")])["model"]


def test_a_model_of_another_server(tmp_path: Path) -> None:
    """A chat endpoint, played by llama.cpp itself."""
    code = (
        "import asyncio, sys\n"
        "from turnwire.engines.llamacpp_process import LlamaCppModel, LlamaCppProcess\n"
        "async def main():\n"
        "    process = LlamaCppProcess.of(sys.argv[1], LlamaCppModel(window=2048, slots=1,"
        " threads=1, cache_ram_mib=0))\n"
        "    print(await process.locate(), process.api_key, flush=True)\n"
        "    await asyncio.to_thread(sys.stdin.read)\n"
        "    await process.aclose()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(random_model())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        upstream, key = other.stdout.readline().split()
        config = tmp_path / "turnwire.toml"
        config.write_text(
            f'[models]\nembedded = []\n[model.far]\nkind = "chat"\nbase_url = "{upstream}/v1"\n'
            'key_env = "FAR_KEY"\nmax_output_tokens = 20\n'
        )
        with serving(tmp_path, "--config", str(config), FAR_KEY=key) as (url, said):
            response = respond(url, "far", [user("Hello")])
            assert "far" == response["model"]
            assert 0 < response["usage"]["output_tokens"] <= 20
        assert key not in "".join(said)
        other.stdin.close()
        assert 0 == other.wait(60)


class _Hub(BaseHTTPRequestHandler):
    """A hub with one file."""

    data = b""
    asked: list[str]
    stalls = False

    def do_HEAD(self) -> None:
        """What there is."""
        self._answer(send=False)

    def do_GET(self) -> None:
        """All of it."""
        self._answer(send=True)

    def _answer(self, *, send: bool) -> None:
        self.asked.append(f"{self.command} {self.path}")
        there = self.path == "/owner/name/resolve/main/tiny.gguf"
        self.send_response(200 if there else 404)
        self.send_header("Content-Length", str(len(self.data) if there else 0))
        self.send_header("ETag", '"one"')
        self.end_headers()
        if there and send:
            self.wfile.write(self.data[:1000] if self.stalls else self.data)
            while self.stalls and select.select([self.connection], [], [])[0]:
                if not self.connection.recv(1):
                    return

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@contextmanager
def hub(*, stalls: bool = False) -> Iterator[tuple[str, list[str]]]:
    """A hub: its URL, and what it was asked."""
    asked: list[str] = []
    told = {"data": random_model().read_bytes(), "asked": asked, "stalls": stalls}
    handler = type("Hub", (_Hub,), told)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def test_a_file_of_a_hub(tmp_path: Path) -> None:
    """Fetched before the server is ready, said how far it is, and kept for the next time."""
    name = "owner/name/tiny.gguf"
    with hub() as (place, asked):
        env = {"TURNWIRE_MODELS__HUB_URL": place, "NO_PROXY": "127.0.0.1"}
        with serving(tmp_path, "--model", f"hf:{name}", **env) as (url, said):
            assert 0 < respond(url, "tiny", [user("Hello")])["usage"]["output_tokens"]
        assert random_model().read_bytes() == (tmp_path / "data/models" / name).read_bytes()
        assert any(re.fullmatch(rf"{name}: 7\.\d of 7\.\d MB", line) for line in said)
        asked.clear()
        with serving(tmp_path, "--model", f"hf:{name}", **env) as (_, said):
            pass
        assert [] == asked
    # Its template knows no tools, which whoever runs the server is told; on a busy machine it may
    # be said to be loading, too.
    [line] = [line for line in said if "model_loading" not in line]
    assert "tool_calls_not_read" in line
    assert "model.tiny.template" in line


@pytest.mark.parametrize(
    ("arguments", "number", "code"),
    [
        (["serve", "--port", "0", "--model"], signal.SIGINT, 0),
        (["serve", "--port", "0", "--model"], signal.SIGTERM, 0),
        (["chat", "--serve"], signal.SIGINT, 0),
        (["doctor", "--model"], signal.SIGINT, 1),
    ],
    ids=["serve", "terminate", "chat", "doctor"],
)
def test_who_waits_for_a_file_can_leave(
    tmp_path: Path, arguments: list[str], number: signal.Signals, code: int
) -> None:
    """Ctrl-C ends a download at once, and without a word about it."""
    with hub(stalls=True) as (place, _):
        env = {**os.environ, "TURNWIRE_MODELS__HUB_URL": place, "NO_PROXY": "127.0.0.1"}
        with subprocess.Popen(
            [*COMMAND, *arguments, "hf:owner/name/tiny.gguf"],
            env={**env, "TURNWIRE_DATA_DIR": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            # A shell that starts these tests in the background has its programs ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as process:
            assert process.stderr is not None
            while "tiny.gguf" not in (line := process.stderr.readline()):
                assert line, "it ended"
            process.send_signal(number)
            assert code == process.wait(30)
            said = process.stderr.read().splitlines()
            assert [] == [line for line in said if "tiny.gguf" not in line]


class _Loading(BaseHTTPRequestHandler):
    """A llama-server that does not get ready."""

    def do_GET(self) -> None:
        """As llama-server says it."""
        self.send_response(503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.mark.parametrize("workers", [1, 2])
def test_who_waits_for_an_engine_can_leave(tmp_path: Path, workers: int) -> None:
    """It is said what is waited for, and a server that is told to end does not wait for it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Loading) as engine:
        thread = threading.Thread(target=engine.serve_forever)
        thread.start()
        config = tmp_path / "turnwire.toml"
        config.write_text(
            f'[engine.e]\nkind = "llamacpp"\nurl = "http://127.0.0.1:{engine.server_port}"\n'
            f'[model.far]\nengine = "e"\ntokenizer = "{random_model()}"\n'
            f'[server]\nport = 0\nworkers = {workers}\ndata_dir = "{tmp_path}"\n'
        )
        with subprocess.Popen(
            [*COMMAND, "serve", "--config", str(config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            for _ in range(workers):
                assert "model_loading" in process.stderr.readline()
            process.send_signal(signal.SIGTERM)
            assert 0 == process.wait(30)
            rest = process.stderr.read().splitlines()
            assert [] == [line for line in rest if "model_loading" not in line]
        engine.shutdown()
        thread.join()


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """One line says what is missing, and nothing listens."""
    with hub() as (place, _):
        for model, code, word in (
            ("/nowhere/x.gguf", 2, "/nowhere/x.gguf"),
            ("hf:owner/name/other.gguf", 1, "The hub has no owner/name/other.gguf"),
        ):
            ended = subprocess.run(
                [*COMMAND, "serve", "--port", "0", "--data-dir", str(tmp_path), "--model", model],
                env={**os.environ, "TURNWIRE_MODELS__HUB_URL": place, "NO_PROXY": "127.0.0.1"},
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert (code, "", 1) == (
                ended.returncode,
                ended.stdout,
                len(ended.stderr.splitlines()),
            )
            assert word in ended.stderr
