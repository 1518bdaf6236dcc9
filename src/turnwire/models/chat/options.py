"""What has to be known of a chat-completions endpoint: where it is, and what it understands.

The defaults are what every server takes that was looked at (vLLM, llama-server, Ollama, LM Studio,
TGI, hosted APIs); each field beyond them is for those that take more, or insist on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct

__all__ = ["ChatOptions", "MessageRules", "Patience"]


class MessageRules(Struct, frozen=True, kw_only=True):
    """How items are written as messages. Equal rules write equal bytes.

    Attributes:
        system_role: Role of the first message: instructions, and the system messages that a
            conversation begins with.
        later_system_role: Role of system and developer messages after that; `user` for models
            whose template takes a system message in the first place only.
        alternates: Join what the user says in a row into one message; for models whose template
            insists on user and assistant taking turns.
        reasoning_field: Under which key a model gets its earlier reasoning back; None drops it.
        short_ids: Give calls ids of nine letters and digits, which Mistral insists on.
        takes_images: Whether pictures may be sent; otherwise they are refused.
        takes_files: Whether files may be sent; otherwise they are refused.
    """

    system_role: Literal["system", "developer"] = "system"
    later_system_role: Literal["system", "developer", "user"] = "system"
    alternates: bool = False
    reasoning_field: Literal["reasoning_content", "reasoning"] | None = None
    short_ids: bool = False
    takes_images: bool = False
    takes_files: bool = False


class Patience(Struct, frozen=True, kw_only=True):
    """How long to wait for an endpoint, and how often to ask again.

    Asked again is only before the first byte of an answer, and only where the request was
    certainly not served: no connection, 408, 429, 502, 503, 504. An endpoint that says that it
    is loading its model is asked again for as long as a first byte is waited for.

    Attributes:
        connect_sec: For a connection, its TLS included.
        first_byte_sec: For the first byte of the answer; a long prompt takes minutes on a CPU.
        idle_sec: Between two reads of an answer.
        max_retries: Further tries after the first.
        backoff_sec: Before the second try; doubled for each one after it. A connection that
            was kept alive and turns out closed is replaced at once, and counts as no try.
        max_retry_after_sec: A `Retry-After` up to this is waited for; a longer one is passed on
            to the client.
    """

    connect_sec: float = 10.0
    first_byte_sec: float = 600.0
    idle_sec: float = 120.0
    max_retries: int = 2
    backoff_sec: float = 0.25
    max_retry_after_sec: float = 5.0


class ChatOptions(Struct, frozen=True, kw_only=True):
    """One model of one endpoint.

    Attributes:
        base_url: Up to and with its version, such as `http://127.0.0.1:11434/v1`.
        model: The endpoint's own name for the model.
        api_key: Sent as a bearer token, or None for no header. It shows in no error, log or repr.
        headers: Further headers of every request.
        window: Most tokens of prompt and output together, or None if that is not known. The
            endpoint is the one that refuses; prompts are only estimated here.
        proxy: An HTTP proxy to go through, or None.
        rules: How items are written as messages.
        patience: Timeouts and retries.
        max_concurrent: Requests at the same time; further turns wait.
        max_waiting: Of those that wait; further ones are refused.
        max_tokens_field: How the endpoint spells the output limit.
        max_output_tokens: The limit of a request without one; None leaves it to the endpoint.
        explicit_sampling: Send temperature and top_p also where they are 1, the default of the
            protocol. Otherwise an endpoint uses its own defaults there, often the model's.
        asks_usage: Ask for token counts at the end of a stream (`stream_options`).
        sends_strict: Pass `strict` of tools on; hosted APIs then insist on their own subset of
            JSON Schema.
        sends_effort: Pass `reasoning.effort` on.
        sends_cache_key: Pass `prompt_cache_key` on, made different for each owner.
        sends_cache_salt: Send `cache_salt` (vLLM), so that owners share no cached prefix.
        checks: Hold the output to the schemas of tools and formats that say `strict: true`:
            what breaks them fails the turn. Endpoints differ in what they enforce.
        warms: Answer a warm-up by having the endpoint read the prompt for one token of output,
            which costs what that costs; otherwise nothing is sent.
        extra: Further fields of every request body, such as `chat_template_kwargs`.
    """

    base_url: str
    model: str
    api_key: str | None = None
    headers: Mapping[str, str] = {}
    window: int | None = None
    proxy: str | None = None
    rules: MessageRules = MessageRules()
    patience: Patience = Patience()
    max_concurrent: int = 64
    max_waiting: int = 1024
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    max_output_tokens: int | None = None
    explicit_sampling: bool = False
    asks_usage: bool = True
    sends_strict: bool = False
    sends_effort: bool = True
    sends_cache_key: bool = False
    sends_cache_salt: bool = False
    checks: bool = True
    warms: bool = False
    extra: Mapping[str, Any] = {}

    def __repr__(self) -> str:
        return f"ChatOptions(base_url={self.base_url!r}, model={self.model!r})"
