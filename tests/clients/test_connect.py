"""What `turnwire connect` says, and the page about clients, taken at their word."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from tests.clients.conftest import Program
from tests.clients.install import node, npm, python
from tests.clients.tape import Tape
from tests.clients.test_codex import codex
from tests.clients.test_javascript import AGENTS_PACKAGES, AI_SDK_PACKAGES, OPENAI_PACKAGES
from tests.clients.test_opencode import VERSION as OPENCODE
from tests.clients.test_python import AGENTS_PACKAGES as AGENTS_PYTHON

from turnwire.cli.connect import recipe

__all__ = ["codex"]

KEY = {"TURNWIRE_KEY": "any"}
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "point-a-client.md"
ADDRESS = "http://127.0.0.1:8787"


def text_of(tape: Tape) -> str:
    """The one message of the one response."""
    (response,) = tape.responses
    (message,) = response["output"]
    text: str = message["content"][0]["text"]
    return text


async def test_openai_python(tape: Tape, program: Program, tmp_path: Path) -> None:
    """The snippet for openai-python prints the answer, which came over a WebSocket."""
    script = tmp_path / "snippet.py"
    script.write_text(recipe("openai-python", tape.url, "sim", {}).text)
    printed = await program([sys.executable, script], KEY)
    tape.check_clean()
    assert text_of(tape).split() == printed.split()


async def test_agents(tape: Tape, program: Program, tmp_path: Path) -> None:
    """The snippet for the Agents SDK does the same."""
    interpreter = python("agents-python", AGENTS_PYTHON)
    script = tmp_path / "snippet.py"
    script.write_text(recipe("agents", tape.url, "sim", {}).text)
    printed = await program([interpreter, script], KEY)
    tape.check_clean()
    assert text_of(tape).split() == printed.split()


@pytest.mark.parametrize("client", ["openai-node", "ai-sdk"])
async def test_javascript(tape: Tape, program: Program, client: str) -> None:
    """The snippets for JavaScript get an answer over a WebSocket, and end."""
    packages = {"openai-node": OPENAI_PACKAGES, "ai-sdk": AI_SDK_PACKAGES}[client]
    # The one for the AI SDK ends with a model, as settings do; somebody has to use it.
    use = {
        "openai-node": "",
        "ai-sdk": (
            "const { streamText } = await import('ai');\n"
            "console.log(await streamText({ model, prompt: 'Hello' }).text);\n"
            "process.exit();\n"
        ),
    }[client]
    place = npm(client.replace("-", "_"), packages) / "snippet.mjs"
    place.write_text(recipe(client, tape.url, "sim", {}).text + use)
    printed = await program([node(), place], KEY)
    tape.check_clean()
    expected = "response.completed" if client == "openai-node" else text_of(tape).split()[-1]
    assert expected == printed.split()[-1]


async def test_the_program_of_the_page(tape: Tape, program: Program) -> None:
    """The program in JavaScript that the page shows prints the answer, over a WebSocket."""
    (text,) = re.findall(r"^```js\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    place = npm("agents_js", AGENTS_PACKAGES) / "page.mjs"
    place.write_text(text.replace(ADDRESS, tape.url).replace("'sim-1000'", "'sim'"))
    printed = await program([node(), place], KEY)
    tape.check_clean()
    assert [] == tape.posts
    assert text_of(tape).split() == printed.split()


async def test_codex(codex: Path, tape: Tape, program: Program, tmp_path: Path) -> None:
    """`--write` makes a profile that Codex runs with, beside a configuration of one's own."""
    home = tmp_path / "codex"
    home.mkdir()
    # Another provider, of somebody who uses Codex elsewhere too.
    (home / "config.toml").write_text(
        'model_provider = "other"\n\n[model_providers.other]\nname = "Other"\n'
        'base_url = "http://127.0.0.1:9/v1"\nwire_api = "responses"\n\n'
        "[analytics]\nenabled = false\n\n[features]\nplugins = false\napps = false\n"
    )
    env = {"CODEX_HOME": str(home), **KEY}
    connect = [sys.executable, "-m", "turnwire.cli.main", "connect", "codex", "--write"]
    await program([*connect, "--url", tape.url, "--model", "harmless"], env)
    options = ["--skip-git-repo-check", "--sandbox", "read-only", "--json"]
    printed = await program([codex, "exec", "--profile", "turnwire", *options, "Hello"], env)
    tape.check_clean()
    assert [] == tape.posts
    said = tape.responses[-1]["output"][0]["content"][0]["text"]
    items = [json.loads(line).get("item", {}) for line in printed.splitlines()]
    assert said in [item.get("text") for item in items]


async def test_opencode(tape: Tape, program: Program, tmp_path: Path) -> None:
    """`--write` makes a configuration that opencode runs with."""
    modules = npm("opencode", [f"opencode-linux-x64@{OPENCODE}"]) / "node_modules"
    binary = modules / "opencode-linux-x64" / "bin" / "opencode"
    login = tmp_path / "home" / ".local" / "share" / "opencode" / "auth.json"
    login.parent.mkdir(parents=True)
    login.write_text('{"openai": {"type": "api", "key": "any"}}')
    connect = [sys.executable, "-m", "turnwire.cli.main", "connect", "opencode", "--write"]
    await program([*connect, "--url", tape.url, "--model", "harmless"])
    quiet = {"OPENCODE_DISABLE_MODELS_FETCH": "true", "OPENCODE_DISABLE_AUTOUPDATE": "true"}
    env = {"OPENCODE_EXPERIMENTAL_WEBSOCKETS": "true", **quiet}
    await program([binary, "run", "Hello"], env)
    tape.check_clean()
    assert 1 == len(tape.sockets)
    assert "message" == tape.responses[-1]["output"][0]["type"]
