"""The limit of an owner over real sockets: kept, and told in the headers of every answer."""

from __future__ import annotations

import json
from pathlib import Path

from tests.integration.serving import ALICE, BOB, bearer, config, serving
from tests.integration.sockets import stalled
from tests.integration.wire import (
    Answer,
    HttpConnection,
    Json,
    connect,
    open_websocket,
    write_request,
)

from turnwire.config import KeyConfig, LimitsConfig

KEYS = (KeyConfig(owner="alice", key=ALICE), KeyConfig(owner="bob", key=BOB))
ASK: Json = {"model": "sim", "input": "hi", "metadata": {"sim.output_tokens": "4"}}


def rates(answer: Answer) -> list[str]:
    """Limit, remaining and reset; every header of this family is one of them."""
    told = {n: value for n, value in answer.headers.items() if n.startswith("x-ratelimit-")}
    names = [f"x-ratelimit-{kind}-requests" for kind in ("limit", "remaining", "reset")]
    assert set(told) in (set(), set(names))
    return [told[name] for name in names if told]


async def begin(wire: HttpConnection, key: str) -> Answer:
    """Start a response that does not end by itself; the head of its stream."""
    body = json.dumps(stalled(stream=True)).encode()
    await wire.send(write_request("POST", "/v1/responses", body, bearer(key)))
    return await wire.read_head()


async def test_an_owner_at_its_limit(tmp_path: Path) -> None:
    """Beyond it an owner gets 429, over HTTP and WebSocket; others and other requests do not."""
    limits = LimitsConfig(max_in_flight_per_owner=2)
    async with (
        serving(config(tmp_path, keys=KEYS, limits=limits), names=("sim",)) as server,
        connect(server.url) as one,
        connect(server.url) as two,
        connect(server.url) as wire,
    ):
        assert ["2", "1", "1s"] == rates(await begin(one, ALICE))
        assert ["2", "1", "1s"] == rates(await wire.create(bearer(ALICE), **ASK))
        assert ["2", "0", "1s"] == rates(await begin(two, ALICE))
        refused = await wire.create(bearer(ALICE), **ASK)
        assert (429, "rate_limit_exceeded") == (refused.status, refused.error()["code"])
        assert "rate_limit_error" == refused.error()["type"]
        assert ["2", "0", "1s"] == rates(refused)
        assert "1" == refused.headers["retry-after"]
        async with open_websocket(server.url, bearer(ALICE)) as socket:
            event = await socket.refused(**ASK)
            assert (429, "rate_limit_exceeded") == (event["status"], event["error"]["code"])
            assert {"retry-after": "1"} == event["error"]["headers"]
        assert ["2", "2", "0s"] == rates(await wire.create(bearer(BOB), **ASK))
        assert [] == rates(await wire.request("GET", "/v1/models", headers=bearer(ALICE)))
        one.close()
        two.close()
        await server.idle()
        assert ["2", "2", "0s"] == rates(await wire.create(bearer(ALICE), **ASK))
        # A request that is refused for itself takes no place, and is told the same.
        assert ["2", "2", "0s"] == rates(await wire.create(bearer(ALICE), model="none"))
        assert [] == rates(await wire.create(**ASK))


async def test_without_a_limit(http: HttpConnection) -> None:
    """Where nothing is limited nothing is told."""
    assert [] == rates(await http.create(**ASK))
    assert [] == rates(await http.create(**ASK, stream=True))
