"""What goes wrong inside a response, as its client is told.

Before `response.created` an error is answered as it is. After it a response fails, with one of few
codes, and never with the words of an error that nobody foresaw.
"""

from __future__ import annotations

from turnwire.errors import (
    ConversationChanged,
    ConversationLocked,
    EngineError,
    ServiceError,
    StoreError,
    WireError,
)
from turnwire.telemetry.logs import get_logger

__all__ = ["engine_failed", "response_code", "told"]

log = get_logger()


def told(fault: Exception, response_id: str, model: str, conversation: str | None) -> WireError:
    """Return what a client is told; what it is not told goes to the log.

    Args:
        fault: What was raised while the response was made.
        response_id: The response.
        model: Who made it.
        conversation: Id of the conversation that it is made in, if it is.
    """
    match fault:
        case WireError():
            return fault
        case EngineError():
            return engine_failed(model, fault)
        case ConversationChanged() if conversation is not None:
            return ConversationLocked(conversation)
        case StoreError():
            log.error("store_failed", response_id=response_id, exc_info=fault)
            return ServiceError("The response could not be stored.")
        case _:
            log.error("turn_failed", response_id=response_id, exc_info=fault)
            return ServiceError("The server failed; its log says where.")


def engine_failed(model: str, fault: EngineError) -> ServiceError:
    """Return an engine's own words, with the name of the model that it serves."""
    return ServiceError(f"The engine of {model!r} failed: {fault}")


def response_code(error: WireError) -> str:
    """Return the `error.code` of a failed response: it takes fewer codes than a refused request.

    Strict clients know the codes of the official types only (protocol.md section 4); Codex
    tells `context_length_exceeded` apart here as well.
    """
    if error.code in ("server_error", "rate_limit_exceeded", "context_length_exceeded"):
        return error.code
    if error.status == 429:
        return "rate_limit_exceeded"
    # 409: another process was faster at the conversation, for which there is no better code.
    return "server_error" if error.status >= 500 or error.status == 409 else "invalid_prompt"
