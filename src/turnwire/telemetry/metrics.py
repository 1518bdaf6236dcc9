"""Prometheus metrics of one server process.

Every `Metrics` has a registry of its own, so that two servers in one process (and tests) do not
share numbers. Children are bound once and kept in dictionaries: an observation costs less than
a microsecond. No client can make the registry grow: a label value that a client can influence
is one of a fixed set, else `other`; a label value of ours is one of the first few seen, else
`other`.

Knows numbers and names only; nothing here sees a request.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Generic, Literal, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics import MetricWrapperBase

from turnwire.telemetry.clock import STAGES, StageClock

__all__ = [
    "CLOSE_CODES",
    "CONTENT_TYPE",
    "ERROR_CODES",
    "OTHER",
    "TOOL_TYPES",
    "Children",
    "Metrics",
    "SlotState",
    "Transport",
]

Transport = Literal["http", "sse", "websocket", "background"]
"""http: one JSON answer. sse: a stream over HTTP. websocket: events on a socket. background: to
be asked for later, over HTTP."""

SlotState = Literal["running", "waiting"]

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
OTHER: Final = "other"
NONE: Final = "none"

# Parsed, because 10.0**-5 is a hair more than 1e-05.
BUCKETS: Final = (*(float(f"{m}e{n}") for n in range(-5, 2) for m in (1, 2.5, 5)), 100.0)
"""Seconds: from 10 microseconds, where our own stages are, to a long generation."""

ERROR_CODES: Final = frozenset(
    {
        NONE,
        "array_above_max_length",
        "array_below_min_length",
        "context_length_exceeded",
        "conversation_locked",
        "decimal_above_max_value",
        "decimal_below_min_value",
        "insufficient_quota",
        "integer_above_max_value",
        "integer_below_min_value",
        "invalid_api_key",
        "invalid_encrypted_content",
        "invalid_json",
        "invalid_request",
        "invalid_stream_id",
        "invalid_type",
        "invalid_value",
        "method_not_allowed",
        "missing_required_parameter",
        "model_not_found",
        "not_found",
        "object_above_max_pairs",
        "object_below_min_pairs",
        "payload_too_large",
        "permission_denied",
        "previous_response_not_found",
        "rate_limit_exceeded",
        "request_timeout",
        "response_cancelled",
        "response_not_completed",
        "server_error",
        "server_is_overloaded",
        "slow_down",
        "string_above_max_length",
        "string_below_min_length",
        "unknown_event_type",
        "unknown_parameter",
        "unsupported_file",
        "unsupported_media_type",
        "unsupported_parameter",
        "unsupported_value",
        "upgrade_required",
        "websocket_connection_limit_reached",
        "websocket_queue_full",
        "websocket_stream_limit_reached",
    }
)
"""`error.code` on the wire: protocol.md sections 8 and 16."""

CLOSE_CODES: Final = frozenset(
    {1000, 1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1011, 1012, 1013}
)
"""WebSocket close codes that either end of a connection of ours can give (RFC 6455 7.4.1)."""

TOOL_TYPES: Final = frozenset(
    {
        "apply_patch",
        "code_interpreter",
        "computer",
        "computer_use_preview",
        "custom",
        "file_search",
        "function",
        "image_generation",
        "local_shell",
        "mcp",
        "namespace",
        "programmatic_tool_calling",
        "shell",
        "tool_search",
        "web_search",
        "web_search_2025_08_26",
        "web_search_preview",
        "web_search_preview_2025_03_11",
    }
)
"""Tool types the protocol knows; clients may send any other."""

MAX_CHILDREN: Final = 64
"""Label values of ours that are kept apart: models and reasons are a handful."""

C = TypeVar("C", bound=MetricWrapperBase)


class Children(Generic[C]):
    """The children of a metric, each found by its label values, at most so many.

    Attributes:
        metric: The metric with all of its children.
        known: Values that a single label may take; None for the first `MAX_CHILDREN` sets of
            values that come. Whatever else comes is counted as `other`.
    """

    def __init__(self, metric: C, known: Iterable[object] | None = None) -> None:
        self.metric: Final[C] = metric
        self.known: Final = None if known is None else frozenset(known)
        self._overflow: C | None = None
        self._bound: Final[dict[tuple[object, ...], C]] = {}
        for value in sorted(map(str, self.known or ())):
            # A series that exists from the start lets a rate see its first increment.
            metric.labels(value)

    def __getitem__(self, values: tuple[object, ...]) -> C:
        """The child for these label values, or the one for `other`."""
        child = self._bound.get(values)
        return child if child is not None else self._bind(values)

    def _bind(self, values: tuple[object, ...]) -> C:
        allowed = len(self._bound) < MAX_CHILDREN
        if self.known is not None:
            allowed = values[0] in self.known
        if allowed:
            self._bound[values] = self.metric.labels(*values)
            return self._bound[values]
        if self._overflow is None:
            self._overflow = self.metric.labels(*(OTHER for _ in values))
        return self._overflow


class Metrics:
    """What one process counts. Observe from one thread; `render` from any.

    Attributes:
        registry: For metrics of others that should appear on the same page.
        responses_in_flight: Responses that were started and have not ended.
        websocket_connections: Open WebSocket connections.
        lanes_queued: Creates accepted on a WebSocket that wait for their turn.
        background_held: Background responses in memory: those that run and those that ended
            not long ago.
        background_held_bytes: What they hold, their events included.
        background_abandoned: Responses found that a process left running when it ended.
    """

    def __init__(self) -> None:
        registry = CollectorRegistry(auto_describe=True)
        self.registry: Final = registry

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"turnwire_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"turnwire_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(f"turnwire_{name}", text, labels, buckets=BUCKETS, registry=registry)

        self.responses_in_flight: Final = gauge(
            "responses_in_flight", "Responses that were started and have not ended."
        )
        self.websocket_connections: Final = gauge(
            "websocket_connections", "Open WebSocket connections."
        )
        self.lanes_queued: Final = gauge(
            "lanes_queued", "Creates accepted on a WebSocket that wait for their turn."
        )
        self.background_held: Final = gauge(
            "background_held", "Background responses in memory, running or not long ended."
        )
        self.background_held_bytes: Final = gauge(
            "background_held_bytes", "Bytes of background responses and their events in memory."
        )
        self.background_abandoned: Final = counter(
            "background_abandoned_total", "Responses that a process left running when it ended."
        )
        self._responses: Final = Children(
            counter("responses_total", "Responses that ended.", "status", "transport")
        )
        self._closes: Final = Children(
            counter("websocket_closes_total", "WebSocket connections that ended.", "code"),
            CLOSE_CODES,
        )
        self._renders: Final = Children(
            counter(
                "context_render_total",
                "How prompts were built: append is the cheap way.",
                "mode",
                "reason",
            )
        )
        self._resent: Final = Children(
            counter(
                "resent_histories_total",
                "Conversations that came in full, by how much of them was known.",
                "outcome",
            )
        )
        self._resent_tokens: Final = counter(
            "resent_tokens_kept_total",
            "Prompt tokens that came again in full and were not made again.",
        )
        self._rendered_tokens: Final = counter(
            "rendered_tokens_total", "Tokens made by the tokenizer."
        )
        prompt_tokens = counter("prompt_tokens_total", "Tokens of prompts.", "cached")
        self._prompt_cached: Final = prompt_tokens.labels("true")
        self._prompt_computed: Final = prompt_tokens.labels("false")
        self._output_tokens: Final = counter("output_tokens_total", "Tokens sampled.")
        self._first_event: Final = histogram(
            "time_to_first_event_seconds", "From a request's arrival to its first event."
        )
        self._turn: Final = Children(
            histogram("turn_seconds", "A turn from arrival to settled.", "transport")
        )
        stages = histogram("turn_stage_seconds", "What a turn spent its time on.", "stage")
        self._stages: Final = {stage: stages.labels(stage) for stage in STAGES}
        self._errors: Final = Children(
            counter("errors_total", "Errors that clients were told.", "code"), ERROR_CODES
        )
        self._received: Final = Children(
            counter("received_bytes_total", "Bytes of request bodies and messages.", "transport")
        )
        self._left_out: Final = Children(
            counter("tools_left_out_total", "Tools accepted but not offered.", "type"),
            TOOL_TYPES,
        )
        self._slots: Final = Children(
            gauge("engine_slots", "Slots of an engine by state.", "model", "state")
        )

    def response_ended(self, status: str, transport: Transport) -> None:
        """Count a response by its terminal status (completed, incomplete, failed, cancelled)."""
        self._responses[status, transport].inc()

    def websocket_closed(self, code: int) -> None:
        """Count the end of a connection by its close code; 1006 if there was none."""
        self._closes[(code,)].inc()

    def context_rendered(self, mode: str, reason: str, num_tokenised: int) -> None:
        """Count how a prompt was built, and the tokens the tokenizer made for it."""
        self._renders[mode, reason].inc()
        self._rendered_tokens.inc(num_tokenised)

    def history_resent(self, outcome: str, num_kept: int) -> None:
        """Count a whole conversation by how much of it was known, and the tokens that saved."""
        self._resent[(outcome,)].inc()
        self._resent_tokens.inc(num_kept)

    def tokens_used(self, num_prompt: int, num_cached: int, num_output: int) -> None:
        """Count the tokens of one response; `num_cached` is part of `num_prompt`."""
        self._prompt_cached.inc(num_cached)
        self._prompt_computed.inc(num_prompt - num_cached)
        self._output_tokens.inc(num_output)

    def observe_turn(self, clock: StageClock, transport: Transport) -> None:
        """Add one turn's stages, its sum, and the time to its first event if there was one."""
        for stage, sec in clock.sec.items():
            self._stages[stage].observe(sec)
        self._turn[(transport,)].observe(clock.total_sec)
        if clock.first_event_sec is not None:
            self._first_event.observe(clock.first_event_sec)

    def error(self, code: str | None) -> None:
        """Count an error that a client was told, by its code on the wire."""
        self._errors[(code or NONE,)].inc()

    def received(self, transport: Transport, num_bytes: int) -> None:
        """Count the bytes of one request body or message."""
        self._received[(transport,)].inc(num_bytes)

    def tool_left_out(self, type_: str) -> None:
        """Count a tool that was accepted but not offered to the model."""
        self._left_out[(type_,)].inc()

    def engine_slots(self, model: str, state: SlotState, num_slots: int) -> None:
        """Say how many slots of a model's engine are in a state now."""
        self._slots[model, state].set(num_slots)

    def render(self) -> bytes:
        """The page, in the Prometheus text format; send it as `CONTENT_TYPE`."""
        return generate_latest(self.registry)
