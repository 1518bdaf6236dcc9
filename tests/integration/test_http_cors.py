"""Browsers over real sockets: preflights, what pages may read, and who is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.integration.serving import ALICE, bearer, config, serving
from tests.integration.wire import Answer, HttpConnection, connect

from turnwire.config import KeyConfig

PAGE = "https://app.example"
KEYS = (KeyConfig(owner="alice", key=ALICE),)


async def preflight(wire: HttpConnection, origin: str, path: str = "/v1/responses") -> Answer:
    """What a browser asks before it posts with a key."""
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os",
    }
    lines = [f"OPTIONS {path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    await wire.send("\r\n".join([*lines, "", ""]).encode())
    answer = await wire.read_head()
    if "content-length" in answer.headers:
        answer.body = await wire.reader.readexactly(int(answer.headers["content-length"]))
    return answer


@pytest.mark.parametrize("keys", [(), KEYS], ids=["without keys", "with keys"])
async def test_an_allowed_page(tmp_path: Path, keys: tuple[KeyConfig, ...]) -> None:
    """It may ask, post, stream and read errors, without a key in the question before."""
    told = config(tmp_path, keys=keys, allowed_origins=(PAGE,))
    async with serving(told, names=("sim",)) as server, connect(server.url) as wire:
        for path in ("/v1/responses", "/v1/responses/resp_x", "/v1/models"):
            asked = await preflight(wire, PAGE, path)
            assert 204 == asked.status
            assert PAGE == asked.headers["access-control-allow-origin"]
            assert "x-stainless-os" in asked.headers["access-control-allow-headers"]
            assert "POST" in asked.headers["access-control-allow-methods"]
        headers = {"Origin": PAGE, **bearer(ALICE)}
        answers = [
            await wire.create(headers, model="sim", input="hi"),
            await wire.create(headers, model="sim", input="hi", stream=True),
            await wire.create(headers, model="none", input="hi"),
            await wire.request("GET", "/v1/nowhere", headers=headers),
            await wire.request("GET", "/v1/models", headers=headers),
        ]
        assert [200, 200, 400, 404, 200] == [answer.status for answer in answers]
        for answer in answers:
            assert PAGE == answer.headers["access-control-allow-origin"]
            assert "x-request-id" in answer.headers["access-control-expose-headers"]
            assert "Origin" == answer.headers["vary"]
            assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("keys", [(), KEYS], ids=["without keys", "with keys"])
async def test_another_page(tmp_path: Path, keys: tuple[KeyConfig, ...]) -> None:
    """Its question is refused, and no answer is for its eyes."""
    told = config(tmp_path, keys=keys, allowed_origins=(PAGE,))
    async with serving(told, names=("sim",)) as server, connect(server.url) as wire:
        for origin in ("https://evil.example", f"{PAGE}.evil.example", "null", "\u00e9"):
            asked = await preflight(wire, origin)
            assert 403 == asked.status
            headers = {"Origin": origin, **bearer(ALICE)}
            answer = await wire.create(headers, model="sim", input="hi")
            assert (200 if keys else 403) == answer.status
            for one in (asked, answer):
                assert not [name for name in one.headers if name.startswith("access-control")]


async def test_nobody_by_default(http: HttpConnection) -> None:
    """Without configuration there is no CORS, not for pages on this machine either."""
    local = "http://localhost:3000"
    asked = await preflight(http, local)
    assert 405 == asked.status
    answer = await http.create({"Origin": local}, model="sim", input="hi")
    assert 200 == answer.status
    for one in (asked, answer):
        assert not [name for name in one.headers if name.startswith("access-control")]
        assert "vary" not in one.headers


async def test_a_client_that_is_no_browser(tmp_path: Path) -> None:
    """Without an Origin nothing is allowed or refused; OPTIONS alone is no question of CORS."""
    told = config(tmp_path, allowed_origins=(PAGE,))
    async with serving(told, names=("sim",)) as server, connect(server.url) as wire:
        answer = await wire.create(model="sim", input="hi")
        assert 200 == answer.status
        assert "access-control-allow-origin" not in answer.headers
        assert 405 == (await wire.request("OPTIONS", "/v1/responses")).status
