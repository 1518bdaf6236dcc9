"""`turnwire connect`: what to tell a client so that it talks to this server.

Each recipe is what `tests/clients` drives that client with. With `--write` it goes into the
client's own file, where it has one. A file is changed by a marked block at its top (TOML), or by
the few keys that matter (JSON); the rest is kept, what was there first lies in a copy beside it,
and a second time changes nothing. A file that cannot be changed so is left alone.
"""

from __future__ import annotations

import difflib
import json
import os
import shlex
import shutil
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import typer
from msgspec import Struct

from turnwire.cli.failing import fail
from turnwire.errors import ConfigError

__all__ = ["CLIENTS", "Recipe", "base_url", "merged_json", "recipe", "run", "with_block"]

BEGIN: Final = "# >>> turnwire connect: changes in here are lost the next time"
END: Final = "# <<< turnwire connect"
KEY_NOTE: Final = "The key is one of the server's; any word will do where it has none."

Json = dict[str, Any]


class Recipe(Struct, frozen=True, kw_only=True):
    """How to point one client at a server.

    Attributes:
        text: What to show: settings, a snippet or a command.
        then: What to do with it, in a line or two.
        path: The client's own file, or None if it has none.
        change: From the text of that file ("" if there is none) to what it must be. Raises
            ConfigError if that cannot be done without harm.
    """

    text: str
    then: str
    path: Path | None = None
    change: Callable[[str], str] | None = None


def base_url(url: str) -> str:
    """The address as clients want it: with `/v1`, without a slash at its end.

    Raises:
        ConfigError: it is no HTTP address.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(f"{url!r} is not the address of a server, like http://127.0.0.1:8787.")
    bare = url.rstrip("/")
    return bare if bare.endswith("/v1") else f"{bare}/v1"


def with_block(text: str, block: str) -> str:
    """A TOML file with our keys in a marked block; in its old place, else on top.

    On top, because a key further down would belong to the table above it. For the same reason
    the block has dotted keys, and opens no table that would swallow what follows.

    Raises:
        ConfigError: the file is no TOML, sets one of these keys itself, or has half a block.
    """
    ours = f"{BEGIN}\n{block}{END}\n"
    begin, end = text.find(BEGIN), text.find(END)
    if begin < 0 and end < 0:
        before, after = "", text
        joint = "\n" if text and not text.startswith("\n") else ""
    elif 0 <= begin < end:
        before, after = text[:begin], text[end + len(END) :].removeprefix("\n")
        joint = ""
    else:
        raise ConfigError("the marks of our block are incomplete")
    made = before + ours + joint + after
    try:
        theirs = tomllib.loads(before + after)
        both = tomllib.loads(made)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"our keys do not fit in: {error}") from error
    # If our keys had landed in a table of theirs, or the other way round, this would differ.
    if both != _merge(theirs, tomllib.loads(block)):
        raise ConfigError("it sets what we would set")
    return made


def merged_json(text: str, ours: Json) -> str:
    """A JSON file with our keys in it, indented by two.

    Raises:
        ConfigError: the file is not a JSON object, for instance because it has comments.
    """
    try:
        theirs = json.loads(text or "{}")
    except ValueError as error:
        raise ConfigError(f"it is not plain JSON ({error})") from error
    if not isinstance(theirs, dict):
        raise ConfigError("it is not a JSON object")
    made = _merge(theirs, ours)
    return text if made == theirs else json.dumps(made, indent=2, ensure_ascii=False) + "\n"


def _merge(theirs: Json, ours: Json) -> Json:
    made = dict(theirs)
    for key, value in ours.items():
        old = made.get(key)
        made[key] = (
            _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
        )
    return made


# -- recipes


def recipe(client: str, url: str, model: str, env: Mapping[str, str]) -> Recipe:
    """The recipe of one of `CLIENTS`.

    Args:
        client: Its name.
        url: Of the server, with or without `/v1`.
        model: As the server names it.
        env: The environment: where the client's files are.

    Raises:
        ConfigError: there is no such client, or `url` is no address.
    """
    make = CLIENTS.get(client)
    if make is None:
        raise ConfigError(f"There is no recipe for {client!r}; there is {', '.join(CLIENTS)}.")
    return make(base_url(url), model, env)


def _codex(base: str, model: str, env: Mapping[str, str]) -> Recipe:
    provider = "model_providers.turnwire"
    block = (
        f"model = {_quoted(model)}\n"
        'model_provider = "turnwire"\n'
        f'{provider}.name = "Turnwire"\n'
        f"{provider}.base_url = {_quoted(base)}\n"
        f'{provider}.env_key = "TURNWIRE_KEY"\n'
        f'{provider}.wire_api = "responses"\n'
        f"{provider}.supports_websockets = true\n"
    )
    # A profile of its own: Codex layers the file upon config.toml, which stays as it is.
    home = Path(env["CODEX_HOME"]) if env.get("CODEX_HOME") else _home(env) / ".codex"
    return Recipe(
        text=block,
        then="Then: TURNWIRE_KEY=KEY codex --profile turnwire",
        path=home / "turnwire.config.toml",
        change=lambda text: with_block(text, block),
    )


def _opencode(base: str, model: str, env: Mapping[str, str]) -> Recipe:
    name = f"openai/{model}"
    # Only the provider of this name speaks WebSocket.
    provider = {"options": {"baseURL": base}, "models": {model: {"name": model, "tool_call": True}}}
    ours: Json = {"model": name, "small_model": name, "provider": {"openai": provider}}
    above = env.get("XDG_CONFIG_HOME")
    folder = (Path(above) if above else _home(env) / ".config") / "opencode"
    commented = folder / "opencode.jsonc"  # it reads both, this one last
    return Recipe(
        text=json.dumps(ours, indent=2, ensure_ascii=False) + "\n",
        then=(
            "Then: opencode auth login (provider OpenAI, an API key), and\n"
            "OPENCODE_EXPERIMENTAL_WEBSOCKETS=true opencode"
        ),
        path=commented if commented.exists() else folder / "opencode.json",
        change=lambda text: merged_json(text, ours),
    )


def _cline(base: str, model: str, _: Mapping[str, str]) -> Recipe:
    settings = f"-m {shlex.quote(model)} -b {shlex.quote(base)}"
    return Recipe(
        text=f'cline auth -p openai-native -k "$TURNWIRE_KEY" {settings}\n',
        then="Run this once; Cline keeps it. It talks HTTP.",
    )


def _ai_sdk(base: str, model: str, _: Mapping[str, str]) -> Recipe:
    socket = _quoted(f"ws{base.removeprefix('http')}/responses")
    return Recipe(
        text=(
            "import { createOpenAI } from '@ai-sdk/openai';\n"
            "import { createWebSocketFetch } from '@vercel/ai-sdk-openai-websocket-fetch';\n"
            "\n"
            "const openai = createOpenAI({\n"
            f"  baseURL: {_quoted(base)},\n"
            "  apiKey: process.env.TURNWIRE_KEY,\n"
            f"  fetch: createWebSocketFetch({{ url: {socket} }}),\n"
            "});\n"
            f"const model = openai({_quoted(model)});\n"
        ),
        then="Leave out `fetch` for HTTP.",
    )


def _openai_node(base: str, model: str, _: Mapping[str, str]) -> Recipe:
    return Recipe(
        text=(
            "import OpenAI from 'openai';\n"
            "import { ResponsesWS } from 'openai/resources/responses/ws';\n"
            "\n"
            f"const client = new OpenAI({{ baseURL: {_quoted(base)}, "
            "apiKey: process.env.TURNWIRE_KEY });\n"
            "const socket = new ResponsesWS(client);\n"
            "socket.on('event', (event) => {\n"
            "  console.log(event.type);\n"
            "  if (event.type === 'response.completed') socket.close();\n"
            "});\n"
            f"const model = {_quoted(model)};\n"
            "socket.send({ type: 'response.create', model, input: 'Hello' });\n"
        ),
        then="`client.responses.create` is the same over HTTP. Needs the package `ws` besides.",
    )


def _openai_python(base: str, model: str, _: Mapping[str, str]) -> Recipe:
    return Recipe(
        text=(
            "import os\n"
            "\n"
            "from openai import OpenAI\n"
            "\n"
            f'client = OpenAI(base_url={_quoted(base)}, api_key=os.environ["TURNWIRE_KEY"])\n'
            "with client.responses.connect() as connection:\n"
            f'    connection.response.create(model={_quoted(model)}, input="Hello")\n'
            "    for event in connection:\n"
            '        if event.type == "response.completed":\n'
            "            print(event.response.output_text)\n"
            "            break\n"
        ),
        then="`client.responses.create` is the same over HTTP. Needs `openai[realtime]`.",
    )


def _agents(base: str, model: str, _: Mapping[str, str]) -> Recipe:
    return Recipe(
        text=(
            "import asyncio\n"
            "import os\n"
            "\n"
            "from agents import Agent, responses_websocket_session, set_tracing_disabled\n"
            "\n"
            "\n"
            "async def main() -> None:\n"
            "    set_tracing_disabled(True)  # traces would go to OpenAI\n"
            f'    agent = Agent(name="Assistant", model={_quoted(model)})\n'
            "    async with responses_websocket_session(\n"
            f'        base_url={_quoted(base)}, api_key=os.environ["TURNWIRE_KEY"]\n'
            "    ) as session:\n"
            '        result = session.run_streamed(agent, "Hello", '
            "auto_previous_response_id=True)\n"
            "        async for _ in result.stream_events():\n"
            "            pass\n"
            "        print(result.final_output)\n"
            "\n"
            "\n"
            "asyncio.run(main())\n"
        ),
        then="Needs `openai-agents` and `openai[realtime]`.",
    )


CLIENTS: Final[Mapping[str, Callable[[str, str, Mapping[str, str]], Recipe]]] = {
    "codex": _codex,
    "ai-sdk": _ai_sdk,
    "cline": _cline,
    "opencode": _opencode,
    "agents": _agents,
    "openai-python": _openai_python,
    "openai-node": _openai_node,
}


def _quoted(text: str) -> str:
    """A string as TOML, JSON, Python and JavaScript all write it."""
    return json.dumps(text, ensure_ascii=False)


def _home(env: Mapping[str, str]) -> Path:
    return Path(env["HOME"]) if env.get("HOME") else Path.home()


# -- the command


def run(client: str, *, url: str, model: str, write: bool, env: Mapping[str, str]) -> int:
    """Print a recipe, or write it into the client's file.

    Returns:
        The exit code. 0: done. 2: it could not be, and one line on standard error says why; no
        file was changed.
    """
    try:
        found = recipe(client, url, model, env)
        if write:
            _write(client, found)
        else:
            typer.echo(found.text, nl=False)
        # Not on standard output, which may go into a file.
        typer.echo(f"\n{found.then}\n{KEY_NOTE}", err=True)
    except (ConfigError, OSError, UnicodeDecodeError) as error:
        return fail(str(error), 2)
    return 0


def _write(client: str, found: Recipe) -> None:
    path = found.path
    if path is None or found.change is None:
        raise ConfigError(f"{client} has no file of its own to write to; leave out --write.")
    # A link is followed: people keep such files elsewhere.
    path = path.resolve()
    # Bytes, because text files lose their kind of line ends on the way.
    old = path.read_bytes().decode() if path.exists() else ""
    try:
        new = found.change(old)
    except ConfigError as error:
        raise ConfigError(
            f"{path} was left as it is: {error}. Leave out --write to see what belongs there."
        ) from error
    if new == old:
        typer.echo(f"{path} is as it should be.")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    copy = path.with_name(f"{path.name}.before-turnwire")
    # The first copy is the one without anything of ours.
    if old and BEGIN not in old and not copy.exists():
        shutil.copy2(path, copy)
        typer.echo(f"What was there: {copy}")
    _replace(path, new)
    lines = difflib.unified_diff(
        old.splitlines(), new.splitlines(), f"{path} before", f"{path} now", lineterm="", n=1
    )
    typer.echo("\n".join(lines))


def _replace(path: Path, text: str) -> None:
    """Write all of it or nothing; who may read the file stays as it was."""
    made = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        made.touch(mode=0o600)
        made.write_bytes(text.encode())
        if path.exists():
            shutil.copymode(path, made)
        made.replace(path)
    finally:
        made.unlink(missing_ok=True)
