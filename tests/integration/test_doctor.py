"""`turnwire doctor` as a process: what is broken is named, and the exit code says so."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from tests.contracts.endpoint import Asked, Reply, end, endpoint, sse, text, usage
from tests.random_model import random_model

COMMAND: Final = [sys.executable, "-m", "turnwire.cli.main", "doctor"]

Json = dict[str, Any]


def doctor(folder: Path, text: str = "", *arguments: str, **env: str) -> tuple[int, str, str]:
    """Run it on a configuration file; its exit code and what it prints."""
    file = folder / "turnwire.toml"
    file.write_text(text)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TURNWIRE_")}
    ended = subprocess.run(
        [*COMMAND, "--config", str(file), *arguments],
        env={**kept, "HOME": str(folder), "COLUMNS": "160", **env},
        capture_output=True,
        text=True,
        timeout=100,
    )
    return ended.returncode, ended.stdout, ended.stderr


def findings(folder: Path, text: str = "", *arguments: str, **env: str) -> tuple[int, list[Json]]:
    """Its exit code, and what it found."""
    code, out, err = doctor(folder, text, "--json", *arguments, **env)
    assert "" == err
    return code, [json.loads(line) for line in out.splitlines()]


ONE = """
[server]
port = 0
[models]
embedded = ["sim"]
"""


def test_what_works_is_ok(tmp_path: Path) -> None:
    """A model answers, appends, and has in its cache what it has read."""
    code, found = findings(tmp_path, ONE)
    assert (0, {"ok"}) == (code, {one["state"] for one in found})
    assert ["configuration", "keys", "data directory", "address", "model sim"] == [
        one["what"] for one in found
    ]
    turns = found[-1]["turns"]
    assert ["full", "append", "append"] == [turn["mode"] for turn in turns]
    assert [True] * 3 == [turn["whole"] == turn["num_prompt"] for turn in turns]
    assert 0 == turns[0]["num_cached"] < turns[1]["num_cached"] < turns[2]["num_cached"]
    assert not (tmp_path / ".local").exists()


def test_a_person_gets_a_table(tmp_path: Path) -> None:
    """One line for each thing, and below it what to do."""
    code, out, err = doctor(tmp_path, ONE)
    assert (0, "") == (code, err)
    lines = out.splitlines()
    assert ["what", "state", "found"] == lines[0].split()
    assert lines[-1].startswith("model sim")
    assert "cached" in lines[-1]
    code, out, _ = doctor(tmp_path, '[server]\nhost = "0.0.0.0"')
    assert 1 == code
    assert "Add [[keys]]" in out


def test_everything_wrong_with_a_file_is_said_at_once(tmp_path: Path) -> None:
    """Not only the first thing."""
    code, found = findings(
        tmp_path,
        '[server]\nprt = 1\n[limits]\nmax_lanes_per_connection = 0\n[engine.a]\nkind = "sims"\n'
        '[engine.b]\nkind = "sim"\nslots = "x"\n[model.c]\nengine = "b"\n',
    )
    assert (1, ["broken"] * 4) == (code, [one["state"] for one in found])
    words = " ".join(one["text"] for one in found)
    for expected in ("server.prt", "max_lanes_per_connection", "engine.a", "engine.b: slots"):
        assert expected in words


def test_what_contradicts_itself_is_said(tmp_path: Path) -> None:
    """One thing, because the rest of the file cannot be judged without it."""
    code, found = findings(tmp_path, '[model.c]\nengine = "b"\n')
    assert (1, ["model.c: there is no engine.b; there are none."]) == (
        code,
        [one["text"] for one in found],
    )


def test_an_address_that_is_taken(tmp_path: Path) -> None:
    """It may be the server itself, so this is no failure."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        code, found = findings(tmp_path, ONE.replace("port = 0", f"port = {port}"))
    (address,) = [one for one in found if one["what"] == "address"]
    assert (0, "note") == (code, address["state"])
    assert "server.port" in address["mend"]


def test_a_data_directory_that_cannot_be_made(tmp_path: Path) -> None:
    """It says what stands in the way."""
    (tmp_path / "file").write_text("")
    text = ONE.replace("[models]", f'data_dir = "{tmp_path}/file/data"\n[models]')
    code, found = findings(tmp_path, text)
    assert (1, ["data directory"]) == (
        code,
        [one["what"] for one in found if one["state"] == "broken"],
    )


def test_a_model_that_does_not_answer(tmp_path: Path) -> None:
    """One that is too slow, and one whose window is too small; the others are looked at too."""
    text = ONE + (
        '[engine.slow]\nkind = "sim"\ntokens_per_sec = 0.1\n[model.slow]\nengine = "slow"\n'
        'prices = { input = 1, output = 2 }\n[model.small]\nengine = "small"\n'
        '[engine.small]\nkind = "sim"\nwindow = 460\n'
    )
    code, found = findings(tmp_path, text, "--timeout", "1")
    by_name = {one["what"]: one for one in found}
    assert 1 == code
    assert "turn 1: it took too long" == by_name["model slow"]["text"]
    assert "broken" == by_name["model small"]["state"]
    assert "460" in by_name["model small"]["text"]
    assert "ok" == by_name["model sim"]["state"]


def test_models_of_real_engines(tmp_path: Path) -> None:
    """llama.cpp remembers what it has read; a server that is not there is named."""
    text = (
        "[server]\nport = 0\n[models]\nembedded = []\n"
        '[engine.e]\nkind = "llamacpp"\nwindow = 4096\nslots = 1\nthreads = 1\n'
        f'cache_ram_mib = 64\npath = "{random_model()}"\n[model.tiny]\nengine = "e"\n'
        '[engine.gone]\nkind = "llamacpp"\nurl = "http://127.0.0.1:1"\n'
        f'[model.gone]\nengine = "gone"\ntokenizer = "{random_model()}"\n'
        '[model.far]\nkind = "chat"\nbase_url = "http://127.0.0.1:1/v1"\nmax_retries = 0\n'
    )
    code, found = findings(tmp_path, text)
    by_name = {one["what"]: one for one in found}
    assert 1 == code
    tiny = by_name["model tiny"]
    assert "note" == tiny["state"], tiny
    assert "generic template" in tiny["text"]
    assert "tool calls are not read" in tiny["text"]
    assert "model.tiny.template" in tiny["mend"]
    assert tiny["turns"][1]["num_cached"] >= tiny["turns"][0]["num_prompt"]
    for name, place in (("gone", "http://127.0.0.1:1"), ("far", "http://127.0.0.1:1/v1")):
        assert "broken" == by_name[f"model {name}"]["state"]
        assert place in by_name[f"model {name}"]["mend"]


def script(asked: Asked) -> Reply:
    """An endpoint with one model, which knows no tools."""
    if not asked.raw:
        return Reply([b'{"data":[{"id":"small"}]}'], kind="application/json")
    if asked.body["model"] != "small":
        return Reply([b'{"error":{"message":"model \'large\' not found"}}'], status=404)
    if "tools" in asked.body:
        return Reply([b'{"error":{"message":"small does not support tools"}}'], status=400)
    return Reply(sse(text("Blue."), end(), usage(90, 3, cached=80)))


async def test_models_of_another_server(tmp_path: Path) -> None:
    """What it says is shown to whoever asks here, and the models that it has instead."""
    async with endpoint(script) as one:
        table = f'kind = "chat"\nbase_url = "{one.url}"\n'
        told = "[server]\nport = 0\n[models]\nembedded = []\n"
        told += f"[model.small]\n{table}[model.large]\n{table}"
        code, found = await asyncio.to_thread(findings, tmp_path, told)
    by_name = {one["what"]: one for one in found}
    small, large = by_name["model small"], by_name["model large"]
    assert (1, "note", "broken") == (code, small["state"], large["state"])
    assert "small does not support tools" in small["text"]
    assert "--enable-auto-tool-choice" in small["mend"]
    assert "It says: model 'large' not found" in large["text"]
    assert f"{one.url} is the right address" in large["mend"]
    assert "What is there offers small." in large["mend"]


def test_two_models_of_one_name(tmp_path: Path) -> None:
    """One of the file and one of the package."""
    text = '[engine.e]\nkind = "sim"\n[model.sim]\nengine = "e"\n[server]\nport = 0\n'
    code, found = findings(tmp_path, text)
    assert 1 == code
    assert "Two models are called 'sim'" in found[-1]["text"]


def test_nothing_to_offer(tmp_path: Path) -> None:
    """A server without models is of no use."""
    code, found = findings(tmp_path, "[models]\nembedded = []\n[server]\nport = 0\n")
    assert (1, "none are offered") == (code, found[-1]["text"])


def test_a_key_for_models_that_are_not_there(tmp_path: Path) -> None:
    """It works, and is probably not what was meant."""
    keys = '[[keys]]\nowner = "alice"\nkey = "k"\nmodels = ["sim", "simm"]\n'
    code, found = findings(tmp_path, ONE + keys)
    (note,) = [one for one in found if one["state"] != "ok"]
    assert (0, "keys", "note") == (code, note["what"], note["state"])
    assert "a key of alice may use simm, and there is no such model" == note["text"]
    assert "Name models as the server does: sim." == note["mend"]
