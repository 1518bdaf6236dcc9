"""What does a turn on llama.cpp cost more through us than without us?

Two questions on one conversation of text, over one WebSocket:

* On a model: a real llama-server with random weights serves each turn twice, once for Turnwire
  and once for a client that sends the same bytes and does nothing else, in turns, so that a busy
  moment of the machine hits both. What Turnwire asks of the server is written down in a first run;
  that client could not know it otherwise. The ratio is what a user notices.
* Without a model: a llama-server that answers at once, so that our own CPU is all there is. It
  must not grow with the context.
"""

from __future__ import annotations

import statistics
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Final

import msgspec
from tests.random_model import random_model

from bench.load.drive import cpu_sec, process_of, read_line
from bench.load.server import pin
from bench.load.talk import Direct, Relay, Talk, Timed
from bench.measure import Bench, Result
from turnwire.engines.llamacpp_host import Settings
from turnwire.engines.vocabulary import END_OF_TEXT, END_OF_TURN
from turnwire.rendering.tokenizer import Tokenizer

__all__ = ["BENCH"]

BUDGET_MS: Final = 0.5
GROWTH: Final = 1.5
"""Our CPU at the longest context, for that at the shortest."""
TURNS: Final = 20
FLAT_TURNS: Final = 40
OUTPUT_TOKENS: Final = 32
TOKENS_OF: Final = {"llama": OUTPUT_TOKENS, "sim": 20}
KEY: Final = "bench"
ENDLESS: Final = {END_OF_TEXT: -20.0, END_OF_TURN: -20.0}
REAL_CONTEXTS: Final = (2_000, 8_000, 32_000)
FLAT_CONTEXTS: Final = (2_000, 8_000, 32_000, 128_000)


def run(quick: bool) -> list[Result]:
    """First the model, then our own CPU."""
    pin(1)  # the clients' core; servers pin themselves
    real = REAL_CONTEXTS[:1] if quick else REAL_CONTEXTS
    flat = FLAT_CONTEXTS[:2] if quick else FLAT_CONTEXTS
    results: list[Result] = []
    for context in real:
        results += _real(context, num_turns=5 if quick else TURNS, repeat=1 if quick else 3)
    return results + _flat(flat, num_turns=10 if quick else FLAT_TURNS, repeat=1 if quick else 3)


# -- on a model


def _real(context: int, *, num_turns: int, repeat: int) -> list[Result]:
    texts = _texts(context, num_turns)
    ours: list[Timed] = []
    bare: list[Timed] = []
    cpu_ms: list[float] = []
    with _llama(window=context + 200 * (num_turns + 2)) as url:
        direct = Direct(url, KEY)
        bodies = _written_down(url, texts)
        for _ in range(repeat):
            with _turnwire(url) as (server, talk):
                _same(direct.turn(bodies[0]), talk.turn(texts[0]))
                begin = cpu_sec(server)
                for body, text in zip(bodies[1:], texts[1:], strict=True):
                    bare.append(direct.turn(body))
                    ours.append(talk.turn(text))
                    _same(bare[-1], ours[-1])
                cpu_ms.append(1e3 * (cpu_sec(server) - begin) / (len(texts) - 1))
    more = [1e3 * (one.wall_sec - two.wall_sec) for one, two in zip(ours, bare, strict=True)]
    ratios = [one.wall_sec / two.wall_sec for one, two in zip(ours, bare, strict=True)]
    case = f"a model, {context:,} tokens"
    return [
        _median(f"{case}: direct", [1e3 * one.wall_sec for one in bare], "ms/turn"),
        _median(f"{case}: Turnwire", [1e3 * one.wall_sec for one in ours], "ms/turn"),
        _median(f"{case}: Turnwire more, turn by turn", more, "ms/turn"),
        _median(f"{case}: Turnwire/direct, turn by turn", ratios, "ratio"),
        _median(f"{case}: direct, first token", [1e3 * one.first_sec for one in bare], "ms"),
        _median(f"{case}: Turnwire, first token", [1e3 * one.first_sec for one in ours], "ms"),
        _median(f"{case}: server CPU", cpu_ms, "ms/turn"),
    ]


def _written_down(url: str, texts: list[str]) -> list[bytes]:
    """What Turnwire asks of the llama-server in this conversation, for another of its slots."""
    with closing(Relay(url)) as relay:
        with _turnwire(relay.url) as (_, talk):
            for text in texts:
                talk.turn(text)
        bodies = [body.replace(b'"id_slot":0', b'"id_slot":1') for body in relay.bodies]
    if len(bodies) != len(texts) or any(b'"id_slot":1' not in body for body in bodies):
        raise AssertionError("each turn is one request, in the first slot")
    return bodies


def _same(direct: Timed, ours: Timed) -> None:
    """Both had the same tokens, and the server the same work; the first turn may find more."""
    if (direct.num_prompt, direct.num_output) != (ours.num_prompt, ours.num_output):
        raise AssertionError(f"{direct} was to be as {ours}")


@contextmanager
def _llama(window: int) -> Iterator[str]:
    """A llama-server on a model that never ends by itself, on the clients' core."""
    settings = Settings(
        path=str(random_model(leanings=ENDLESS)), api_key=KEY, window=window, slots=2, threads=1
    )
    with process_of(["turnwire.engines.llamacpp_host"]) as process:
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(settings) + b"\n")
        process.stdin.flush()
        yield read_line(process)["url"]


# -- without one


def _flat(contexts: tuple[int, ...], *, num_turns: int, repeat: int) -> list[Result]:
    arms = [("sim", contexts[0]), *(("llama", context) for context in contexts)]
    spent: dict[tuple[str, int], list[float]] = {arm: [] for arm in arms}
    with process_of(["bench.load.llama_upstream", "--core", "1"]) as upstream:
        url = read_line(upstream)["url"]
        for _ in range(repeat):
            for model, context in arms:
                texts = _texts(context, num_turns)
                with _turnwire(url, model) as (server, talk):
                    for text in texts[:3]:
                        talk.turn(text)
                    begin = cpu_sec(server)
                    for text in texts[3:]:
                        talk.turn(text)
                    cpu_ms = 1e3 * (cpu_sec(server) - begin) / len(texts[3:])
                    spent[model, context].append(cpu_ms)
    words = {"sim": "the simulated engine", "llama": "llama.cpp without a model"}
    results = [
        _median(f"{words[model]}, {context:,} tokens: server CPU", cpu_ms, "ms/turn", bar=BUDGET_MS)
        for (model, context), cpu_ms in spent.items()
    ]
    first, last = min(contexts), max(contexts)
    # Pairs of one round: the machine is as busy for both.
    pairs = zip(spent["llama", first], spent["llama", last], strict=True)
    case = f"{words['llama']}, {last:,} tokens/{first:,} tokens: server CPU"
    return [*results, _median(case, [two / one for one, two in pairs], "ratio", bar=GROWTH)]


# -- both


@contextmanager
def _turnwire(llama: str, model: str = "llama") -> Iterator[tuple[subprocess.Popen[bytes], Talk]]:
    """A server on its own core, and a conversation with it."""
    arguments = ["bench.load.server", "--core", "0"]
    if model == "llama":
        arguments += ["--llama", llama, "--llama-key", KEY]
    with ExitStack() as running:
        server = running.enter_context(process_of(arguments))
        url = read_line(server)["url"]
        yield (
            server,
            running.enter_context(closing(Talk(url, model, output_tokens=TOKENS_OF[model]))),
        )


def _texts(context: int, num_turns: int) -> list[str]:
    """What a user says: first so many tokens, then a little more each turn."""
    encode = Tokenizer.shipped().encode
    line = "src/parser.py:12: def parse(self, text: str) -> Tree: PASSED in 12 ms\n"
    first = line * (context // len(encode(line)))
    words = [f"Step {n}. " + f"The test {n} of the parser passes. " * 8 for n in range(num_turns)]
    return [first, *words]


def _median(case: str, values: list[float], unit: str, *, bar: float | None = None) -> Result:
    return Result(case=case, value=statistics.median(values), best=min(values), unit=unit, bar=bar)


BENCH: Final = Bench(
    name="llama",
    question="What does a turn on llama.cpp cost more through us than without us?",
    fixed=(
        f"one conversation over WebSocket, store:false, {OUTPUT_TOKENS} tokens of output (20 "
        "without a model), some 90 new ones a turn; a new connection to llama.cpp each turn, as "
        "it wants it; the server on one core, all else on another"
    ),
    varies="tokens of context; a real llama-server with random weights, or one without a model",
    run=run,
)
