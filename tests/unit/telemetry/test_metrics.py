from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

import turnwire
from turnwire.protocol.validation import PATTERNS
from turnwire.telemetry.clock import STAGES, Stage, StageClock
from turnwire.telemetry.metrics import (
    CLOSE_CODES,
    CONTENT_TYPE,
    ERROR_CODES,
    TOOL_TYPES,
    Children,
    Metrics,
)

NAMES = {
    "turnwire_background_abandoned",
    "turnwire_background_held",
    "turnwire_background_held_bytes",
    "turnwire_context_render",
    "turnwire_engine_slots",
    "turnwire_errors",
    "turnwire_lanes_queued",
    "turnwire_output_tokens",
    "turnwire_prompt_tokens",
    "turnwire_received_bytes",
    "turnwire_rendered_tokens",
    "turnwire_resent_histories",
    "turnwire_resent_tokens_kept",
    "turnwire_responses",
    "turnwire_responses_in_flight",
    "turnwire_time_to_first_event_seconds",
    "turnwire_tools_left_out",
    "turnwire_turn_seconds",
    "turnwire_turn_stage_seconds",
    "turnwire_websocket_closes",
    "turnwire_websocket_connections",
}


def page(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    """Every sample by name and label values (by label name), without creation times."""
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (sample.name, tuple(v for _, v in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def stopped(stages: Iterable[tuple[Stage, float]]) -> StageClock:
    clock = StageClock(lambda: 0.0)
    for stage, sec in stages:
        clock.add(stage, sec)
    return clock


@pytest.mark.parametrize(
    ("observe", "sample", "value"),
    [
        (
            lambda m: m.response_ended("completed", "sse"),
            ("turnwire_responses_total", ("completed", "sse")),
            1,
        ),
        (lambda m: m.websocket_closed(1012), ("turnwire_websocket_closes_total", ("1012",)), 1),
        (lambda m: m.websocket_closed(4999), ("turnwire_websocket_closes_total", ("other",)), 1),
        (
            lambda m: m.history_resent("hit", 7),
            ("turnwire_resent_histories_total", ("hit",)),
            1,
        ),
        (lambda m: m.history_resent("hit", 7), ("turnwire_resent_tokens_kept_total", ()), 7),
        (
            lambda m: m.context_rendered("append", "", 7),
            ("turnwire_context_render_total", ("append", "")),
            1,
        ),
        (
            lambda m: m.context_rendered("full", "first", 7),
            ("turnwire_rendered_tokens_total", ()),
            7,
        ),
        (lambda m: m.tokens_used(10, 4, 3), ("turnwire_prompt_tokens_total", ("true",)), 4),
        (lambda m: m.tokens_used(10, 4, 3), ("turnwire_prompt_tokens_total", ("false",)), 6),
        (lambda m: m.tokens_used(10, 4, 3), ("turnwire_output_tokens_total", ()), 3),
        (lambda m: m.error("invalid_json"), ("turnwire_errors_total", ("invalid_json",)), 1),
        (lambda m: m.error(None), ("turnwire_errors_total", ("none",)), 1),
        (lambda m: m.error("made up"), ("turnwire_errors_total", ("other",)), 1),
        (lambda m: m.received("http", 9), ("turnwire_received_bytes_total", ("http",)), 9),
        (
            lambda m: m.tool_left_out("web_search"),
            ("turnwire_tools_left_out_total", ("web_search",)),
            1,
        ),
        (lambda m: m.tool_left_out("x"), ("turnwire_tools_left_out_total", ("other",)), 1),
        (
            lambda m: m.engine_slots("sim", "running", 3),
            ("turnwire_engine_slots", ("sim", "running")),
            3,
        ),
        (lambda m: m.lanes_queued.inc(2), ("turnwire_lanes_queued", ()), 2),
        (lambda m: m.responses_in_flight.inc(), ("turnwire_responses_in_flight", ()), 1),
        (lambda m: m.websocket_connections.inc(), ("turnwire_websocket_connections", ()), 1),
    ],
)
def test_an_observation_is_on_the_page(
    observe: Callable[[Metrics], None], sample: tuple[str, tuple[str, ...]], value: float
) -> None:
    """Each observation adds to its own sample, under the documented name and labels."""
    metrics = Metrics()
    assert 0 == page(metrics).get(sample, 0)
    observe(metrics)
    assert value == page(metrics)[sample]


def test_the_page_has_every_metric() -> None:
    """The page holds the documented metrics and nothing else, from the first scrape on."""
    families = text_string_to_metric_families(Metrics().render().decode())
    names = {family.name for family in families}
    assert NAMES == {name for name in names if not name.endswith("_created")}
    assert CONTENT_TYPE.startswith("text/plain")


def test_a_turn_is_observed_by_stage() -> None:
    """A turn adds its stages, their sum and its first event, each to its histogram."""
    metrics = Metrics()
    clock = stopped([("parse", 0.00002), ("decode", 2.0)])
    clock.first_event_sec = 0.004
    metrics.observe_turn(clock, "websocket")
    seen = page(metrics)
    assert 0.00002 == seen["turnwire_turn_stage_seconds_sum", ("parse",)]
    assert 2.0 == seen["turnwire_turn_stage_seconds_sum", ("decode",)]
    assert 0 == seen["turnwire_turn_stage_seconds_count", ("render",)]
    assert 2.00002 == seen["turnwire_turn_seconds_sum", ("websocket",)]
    assert 0.004 == seen["turnwire_time_to_first_event_seconds_sum", ()]


def test_a_turn_without_an_event_has_no_first_event() -> None:
    """A turn that failed before its first event leaves that histogram alone."""
    metrics = Metrics()
    metrics.observe_turn(stopped([("parse", 1.0)]), "http")
    seen = page(metrics)
    assert 0 == seen["turnwire_time_to_first_event_seconds_count", ()]
    assert 1 == seen["turnwire_turn_seconds_count", ("http",)]


def test_buckets_tell_microseconds_apart() -> None:
    """The first bucket ends at 10 microseconds, and every stage is there from the start."""
    metrics = Metrics()
    metrics.observe_turn(stopped([("emit", 0.00001)]), "http")
    seen = page(metrics)
    assert 1 == seen["turnwire_turn_stage_seconds_bucket", ("1e-05", "emit")]
    counts = {labels for name, labels in seen if name == "turnwire_turn_stage_seconds_count"}
    assert {(stage,) for stage in STAGES} == counts


def test_two_servers_do_not_share_numbers() -> None:
    """Each Metrics has a registry of its own."""
    one, other = Metrics(), Metrics()
    one.error("invalid_json")
    assert 0 == page(other)["turnwire_errors_total", ("invalid_json",)]


@given(
    codes=st.lists(st.one_of(st.none(), st.text())),
    types=st.lists(st.text()),
    closes=st.lists(st.integers(0, 65535)),
)
def test_clients_cannot_grow_the_page(
    codes: list[str | None], types: list[str], closes: list[int]
) -> None:
    """Whatever codes, tool types and close codes come, their series stay a fixed set."""
    metrics = Metrics()
    for code in codes:
        metrics.error(code)
    for type_ in types:
        metrics.tool_left_out(type_)
    for close in closes:
        metrics.websocket_closed(close)
    labels = {
        "turnwire_errors_total": ERROR_CODES,
        "turnwire_tools_left_out_total": TOOL_TYPES,
        "turnwire_websocket_closes_total": {str(code) for code in CLOSE_CODES},
    }
    seen = page(metrics)
    for name, known in labels.items():
        assert {found[0] for sample, found in seen if sample == name} <= known | {"other"}
    assert len(codes) == sum(
        value for key, value in seen.items() if key[0].endswith("errors_total")
    )


def test_values_of_ours_are_bounded_too() -> None:
    """After 64 sets of label values, all further ones share the series `other`."""
    registry = CollectorRegistry()
    children = Children(Counter("c", "c", ["a", "b"], registry=registry))
    for n in range(100):
        children[str(n), "x"].inc()
        children[str(n), "x"].inc()
    (family,) = registry.collect()
    totals = {s.labels["a"]: s.value for s in family.samples if s.name == "c_total"}
    assert {str(n): 2.0 for n in range(64)} | {"other": 72.0} == totals


def _codes(tree: ast.AST) -> Iterator[str]:
    """Every error code that a source names: `code="..."` and `default_code = "..."`."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.keyword | ast.Assign):
            continue
        name = node.arg if isinstance(node, ast.keyword) else ast.unparse(node.targets[0])
        value = node.value
        if name in ("code", "default_code") and isinstance(value, ast.Constant) and value.value:
            yield str(value.value)


def test_every_error_of_ours_is_a_known_code() -> None:
    """Each code that the package gives to an error has its own series."""
    package = Path(turnwire.__file__).parent
    sources = (path.read_text("utf-8") for path in package.rglob("*.py"))
    codes = {code for source in sources for code in _codes(ast.parse(source))}
    assert {"invalid_json", "unknown_event_type"} <= codes
    codes |= {code for _, code in PATTERNS}
    assert set() == codes - ERROR_CODES


def test_every_metric_is_documented() -> None:
    """The reference lists exactly the metrics there are, under the names a scraper sees."""
    documented = Path(__file__).parents[3] / "docs" / "reference" / "metrics.md"
    rows = re.findall(r"^\| `(turnwire_\w+)` \|", documented.read_text("utf-8"), re.MULTILINE)
    assert NAMES == {row.removesuffix("_total") for row in rows}
