"""Tests of `turnwire.hub`, against a server that plays the hub."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from turnwire.hub import HubError, fetch, parts_of

NAME = "someone/tiny-model/weights/tiny.gguf"
DATA = random.Random(1).randbytes(3_000_000)
KEY = "hf_secret"


class Hub:
    """A hub with one file, and what can go wrong with it.

    Attributes:
        data: The file.
        break_after: Close the connection after so many bytes, this many times.
        answers: Statuses to give first, instead of the file.
        needs_key: Whether it is not public.
        redirects: Whether the bytes are at another address.
        tells: Whether it says the checksum.
        ranges: Whether parts can be asked for.
        asked: Every request: method, path, its range, and whether it had a key.
    """

    def __init__(self) -> None:
        self.data = DATA
        self.break_after: list[int] = []
        self.answers: list[int] = []
        self.needs_key = False
        self.redirects = True
        self.tells = True
        self.ranges = True
        self.lies = False
        self.asked: list[tuple[str, str, str | None, bool]] = []
        self.url = ""
        self.store_url = ""

    def app(self) -> web.Application:
        """Its addresses."""
        app = web.Application()
        app.router.add_get("/{owner}/{name}/resolve/main/{file:.*}", self.resolve)
        app.router.add_get("/bytes", self.bytes)
        return app

    def headers(self) -> dict[str, str]:
        """What it says of the file."""
        digest = hashlib.sha256(DATA[:-1] if self.lies else self.data).hexdigest()
        headers = {"ETag": f'W/"{digest[:8]}"'}
        if self.tells:
            headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(self.data))}
        return headers

    def note(self, request: web.Request) -> None:
        """Remember a request."""
        self.asked.append(
            (
                request.method,
                request.path,
                request.headers.get("Range"),
                "Authorization" in request.headers,
            )
        )

    async def resolve(self, request: web.Request) -> web.StreamResponse:
        """The file at the hub itself."""
        self.note(request)
        if self.answers:
            return web.Response(status=self.answers.pop(0))
        if self.needs_key and request.headers.get("Authorization") != f"Bearer {KEY}":
            return web.Response(status=401)
        if request.path != "/someone/tiny-model/resolve/main/weights/tiny.gguf":
            return web.Response(status=404)
        if self.redirects:
            location = f"{self.store_url}/bytes?signed=a%2Fb"
            return web.Response(status=302, headers={**self.headers(), "Location": location})
        return await self.send(request, self.headers())

    async def bytes(self, request: web.Request) -> web.StreamResponse:
        """The file where the hub keeps it."""
        self.note(request)
        assert ("GET", "signed=a%2Fb") == (request.method, request.rel_url.raw_query_string)
        return await self.send(request, {"ETag": '"of the store"'})

    async def send(self, request: web.Request, headers: dict[str, str]) -> web.StreamResponse:
        """The bytes that were asked for, or some of them."""
        first = 0
        asked = request.headers.get("Range")
        status = 200
        if asked and self.ranges:
            first = int(asked.removeprefix("bytes=").removesuffix("-"))
            if first >= len(self.data):
                return web.Response(status=416)
            status = 206
            headers = {
                **headers,
                "Content-Range": f"bytes {first}-{len(self.data) - 1}/{len(self.data)}",
            }
        body = self.data[first:]
        answer = web.StreamResponse(status=status, headers=headers)
        answer.content_length = len(body)
        await answer.prepare(request)
        if request.method == "HEAD":
            return answer
        if self.break_after:
            await answer.write(body[: self.break_after.pop(0)])
            assert request.transport is not None
            request.transport.close()
            return answer
        await answer.write(body)
        return answer


@pytest.fixture
async def hub(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    """A hub, and beside it the host where it keeps its bytes."""
    monkeypatch.setattr("turnwire.hub.FIRST_PAUSE_SEC", 0.001)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    one = Hub()
    async with TestServer(one.app()) as server, TestServer(one.app()) as store:
        one.url = str(server.make_url("")).rstrip("/")
        one.store_url = str(store.make_url("")).rstrip("/")
        yield one


async def get(hub: Hub, folder: Path, key: str | None = None, name: str = NAME) -> bytes:
    """The file, as it is on the disk."""
    path = await fetch(name, folder, hub_url=hub.url, key=key)
    assert folder / name == path
    left = sorted(one.name for one in path.parent.iterdir())
    assert ["tiny.gguf", "tiny.gguf.lock"] == left
    return path.read_bytes()


@pytest.mark.parametrize("redirects", [True, False])
@pytest.mark.parametrize("tells", [True, False])
async def test_a_file_is_fetched_once(
    hub: Hub, tmp_path: Path, redirects: bool, tells: bool
) -> None:
    """It is there afterwards, and the hub is not asked again."""
    hub.redirects, hub.tells = redirects, tells
    heard: list[tuple[str, int, int | None]] = []
    path = await fetch(
        NAME,
        tmp_path,
        hub_url=hub.url,
        progress=lambda name, have, total: heard.append((name, have, total)),
    )
    assert path.read_bytes() == DATA
    assert (NAME, len(DATA), len(DATA)) == heard[-1]
    asked = len(hub.asked)
    assert DATA == await get(hub, tmp_path)
    assert asked == len(hub.asked)


async def test_a_download_that_breaks_off_goes_on(hub: Hub, tmp_path: Path) -> None:
    """Only what is missing is asked for again."""
    hub.break_after = [1_000_000, 500_000]
    assert DATA == await get(hub, tmp_path)
    firsts = [int(r[6:-1]) for _, path, r, _ in hub.asked if r and path == "/bytes"]
    assert 2 == len(firsts)
    assert 0 < firsts[0] <= 1_000_000
    assert firsts[0] < firsts[1] <= 1_500_000


async def test_a_download_goes_on_at_the_next_start(hub: Hub, tmp_path: Path) -> None:
    """What is there is kept when it cannot be finished now."""
    hub.break_after = [1_000_000, *[0] * 4]
    with pytest.raises(HubError, match="What is there is kept"):
        await fetch(NAME, tmp_path, hub_url=hub.url)
    hub.asked.clear()
    assert DATA == await get(hub, tmp_path)
    (asked,) = [range_ for _, _, range_, _ in hub.asked if range_]
    assert int(asked[6:-1]) > 0


async def test_parts_of_two_versions_are_not_joined(hub: Hub, tmp_path: Path) -> None:
    """A file that changed in the meantime is fetched from its beginning."""
    hub.break_after = [1_000_000, *[0] * 4]
    with pytest.raises(HubError):
        await fetch(NAME, tmp_path, hub_url=hub.url)
    hub.data = DATA[::-1]
    hub.asked.clear()
    assert hub.data == await get(hub, tmp_path)
    assert [] == [range_ for _, _, range_, _ in hub.asked if range_]


@pytest.mark.parametrize("ranges", [True, False])
async def test_a_part_that_is_too_long_is_thrown_away(
    hub: Hub, tmp_path: Path, ranges: bool
) -> None:
    """As is one whose rest the hub does not give by itself."""
    hub.ranges = ranges
    folder = (tmp_path / NAME).parent
    folder.mkdir(parents=True)
    (folder / "tiny.gguf.part").write_bytes(DATA + b"more" if ranges else DATA[:1000])
    (folder / "tiny.gguf.part.etag").write_text(hashlib.sha256(DATA).hexdigest())
    assert DATA == await get(hub, tmp_path)


async def test_what_is_not_what_the_hub_says_is_not_kept(hub: Hub, tmp_path: Path) -> None:
    """A wrong checksum leaves nothing that would be taken for the file."""
    hub.lies = True
    with pytest.raises(HubError, match="thrown away"):
        await fetch(NAME, tmp_path, hub_url=hub.url)
    hub.lies = False
    assert DATA == await get(hub, tmp_path)


@pytest.mark.parametrize(
    ("statuses", "message"),
    [
        ([401], "HF_TOKEN"),
        ([403], "HF_TOKEN"),
        ([404], "has no"),
        ([418], "418"),
        ([503] * 5, "503"),
        ([429] * 5, "429"),
    ],
)
async def test_a_refusal_says_what_to_do(
    hub: Hub, tmp_path: Path, statuses: list[int], message: str
) -> None:
    """One that may pass is tried again first."""
    hub.answers = statuses
    with pytest.raises(HubError, match=message):
        await fetch(NAME, tmp_path, hub_url=hub.url)
    assert [] == hub.answers
    assert DATA == await get(hub, tmp_path)


async def test_what_passes_is_waited_for(hub: Hub, tmp_path: Path) -> None:
    """A hub that is busy for a moment is no failure."""
    hub.answers = [503, 429]
    assert DATA == await get(hub, tmp_path)


async def test_a_key_is_told_to_the_hub_only(hub: Hub, tmp_path: Path) -> None:
    """The host that it sends us to does not hear it."""
    hub.needs_key = True
    assert DATA == await get(hub, tmp_path, KEY)
    assert {("resolve", True), ("bytes", False)} == {
        ("bytes" if path == "/bytes" else "resolve", key) for _, path, _, key in hub.asked
    }


async def test_nobody_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that cannot be reached is named by the file that was wanted."""
    monkeypatch.setattr("turnwire.hub.FIRST_PAUSE_SEC", 0.001)
    with pytest.raises(HubError, match="could not be fetched"):
        await fetch(NAME, tmp_path, hub_url="http://127.0.0.1:1")


async def test_two_at_a_time_fetch_it_once(hub: Hub, tmp_path: Path) -> None:
    """The second finds what the first has fetched."""
    one, two = await asyncio.gather(get(hub, tmp_path), get(hub, tmp_path))
    assert DATA == one == two
    assert 1 == sum(method == "GET" and path == "/bytes" for method, path, _, _ in hub.asked)


async def test_whoever_waits_for_another_process_can_be_told_to_stop(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And else has the file when the other has it."""
    monkeypatch.setattr("turnwire.hub.LOCK_PAUSE_SEC", 0.001)
    path = tmp_path / NAME
    path.parent.mkdir(parents=True)
    with path.with_name(path.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        one, other = (asyncio.create_task(get(hub, tmp_path)) for _ in range(2))
        await asyncio.sleep(0)
        one.cancel()
        with pytest.raises(asyncio.CancelledError):
            await one
        path.write_bytes(b"theirs")
    assert b"theirs" == await other
    assert [] == hub.asked


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("o/n/m.gguf", ["o/n/m.gguf"]),
        (
            "o/n/big/m-00002-of-00003.gguf",
            [f"o/n/big/m-0000{number}-of-00003.gguf" for number in (1, 2, 3)],
        ),
        ("o/n/m-of-00003.gguf", ["o/n/m-of-00003.gguf"]),
        ("o/n/m-00001-of-00002.bin", ["o/n/m-00001-of-00002.bin"]),
    ],
)
def test_a_model_in_parts(name: str, parts: list[str]) -> None:
    """Whichever part is named, all of them are needed, and the first comes first."""
    assert parts == parts_of(name)
