"""Every error that Turnwire raises on purpose, in one tree.

    TurnwireError
    ├── ClientError                  the request cannot be served as it was written (4xx)
    │   ├── InvalidRequest           400, the code says why
    │   │   ├── InvalidJson          400 invalid_json
    │   │   ├── ModelNotFound        400 model_not_found
    │   │   ├── PreviousResponseNotFound  400 previous_response_not_found
    │   │   ├── ResponseNotCompleted      400 response_not_completed
    │   │   └── ContextLengthExceeded     400 context_length_exceeded
    │   ├── InvalidApiKey            401 invalid_api_key
    │   ├── PermissionDenied         403 permission_denied
    │   ├── NotFound                 404 not_found
    │   ├── RequestTimeout           408 request_timeout
    │   ├── ConversationLocked       409 conversation_locked
    │   ├── PayloadTooLarge          413 payload_too_large
    │   ├── UnsupportedMediaType     415 unsupported_media_type
    │   ├── ExpectationFailed        417 invalid_request
    │   ├── UpgradeRequired          426 upgrade_required
    │   └── TooManyRequests          429, the code says which limit
    ├── ServiceError                 the server cannot serve it now (5xx)
    │   └── Overloaded               503 server_is_overloaded
    ├── EngineError                  an engine failed; the turn turns it into a ServiceError
    │   ├── EngineUnavailable        refused before the first token: may be retried
    │   └── ContextTooLong           the prompt does not fit the window
    ├── StoreError                   a storage back end failed
    │   ├── ParentNotKept            the turn that a new one continues is gone
    │   ├── ConversationChanged      somebody else added to a conversation, or deleted from it
    │   └── ItemIdTaken              a conversation has an item of this id already
    ├── SealError                    sealed text cannot be opened
    ├── ConfigError                  the configuration cannot be used
    ├── AddressUnavailable           the address of the server cannot be listened on
    └── InvalidTransition            a bug of ours: a state machine was asked an illegal move

The class says whose fault it is; `code`, `param` and `status` are the wire's (protocol.md
section 16) and part of the public API.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AddressUnavailable",
    "ClientError",
    "ConfigError",
    "ContextLengthExceeded",
    "ContextTooLong",
    "ConversationChanged",
    "ConversationLocked",
    "EngineError",
    "EngineUnavailable",
    "ExpectationFailed",
    "InvalidApiKey",
    "InvalidJson",
    "InvalidRequest",
    "InvalidTransition",
    "ItemIdTaken",
    "ModelNotFound",
    "NotFound",
    "Overloaded",
    "ParentNotKept",
    "PayloadTooLarge",
    "PermissionDenied",
    "PreviousResponseNotFound",
    "RequestTimeout",
    "ResponseNotCompleted",
    "SealError",
    "ServiceError",
    "StoreError",
    "TooManyRequests",
    "TurnwireError",
    "UnsupportedMediaType",
    "UpgradeRequired",
    "WireError",
]


class TurnwireError(Exception):
    """Base of every error of this package.

    Attributes:
        detail: What another server said, in its own words: for whoever runs this one and asks
            what is wrong (`turnwire doctor`). Neither clients nor the log are told.
    """

    detail: str = ""


class WireError(TurnwireError):
    """An error that a client sees, as an HTTP error body or as an error event.

    Attributes:
        status: HTTP status; also sent as `status` in WebSocket error events.
        type: `error.type` on the wire.
        code: Stable name on the wire, or None where the protocol has none.
        param: Path of the request field at fault (`input[3].content[0].text`), or None.
        message: One sentence that a person can act on.
        retry_after_sec: When to try again, if the server knows.
        should_retry: Whether a client should send the same again by itself, where its own rule
            by status would be wrong; None leaves it to that rule.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    default_code: ClassVar[str | None] = None
    should_retry: ClassVar[bool | None] = None

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_sec: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code if code is not None else self.default_code
        self.param = param
        self.retry_after_sec = retry_after_sec


class ClientError(WireError):
    """The request cannot be served as it was written."""

    status = 400
    type = "invalid_request_error"


class InvalidRequest(ClientError):
    """A field is missing, of the wrong type or out of range; `code` says which."""

    default_code = "invalid_value"


class InvalidJson(InvalidRequest):
    """The body or frame is not a JSON object."""

    default_code = "invalid_json"


class ModelNotFound(InvalidRequest):
    """No model of this name is served here (400 with this code, protocol.md section 16)."""

    default_code = "model_not_found"

    def __init__(self, model: str) -> None:
        super().__init__(f"The model {model!r} does not exist on this server.", param="model")


class PreviousResponseNotFound(InvalidRequest):
    """`previous_response_id` is neither in this connection's cache nor in the store.

    Or it is there, `sealed` with a key that was lost: clients know what to do about this code.
    """

    default_code = "previous_response_not_found"

    def __init__(self, response_id: str, *, sealed: bool = False) -> None:
        message = f"Previous response with id '{response_id}' not found."
        if sealed:
            message = (
                f"Previous response with id '{response_id}' not found: what is stored of it was "
                "sealed with a key that this server no longer has."
            )
        super().__init__(message, param="previous_response_id")


class ResponseNotCompleted(InvalidRequest):
    """`previous_response_id` names a background response that still runs."""

    default_code = "response_not_completed"

    def __init__(self, response_id: str) -> None:
        super().__init__(
            f"Previous response with id '{response_id}' has not completed yet. Poll it, and "
            "continue it when it has.",
            param="previous_response_id",
        )


class ContextLengthExceeded(InvalidRequest):
    """The rendered prompt does not fit the model's window."""

    default_code = "context_length_exceeded"


class InvalidApiKey(ClientError):
    """The key is missing or unknown."""

    status = 401
    default_code = "invalid_api_key"


class PermissionDenied(ClientError):
    """The key is known but may not do this."""

    status = 403
    type = "permission_error"
    default_code = "permission_denied"


class NotFound(ClientError):
    """The object does not exist, or belongs to another owner: the two look alike."""

    status = 404
    default_code = "not_found"


class RequestTimeout(ClientError):
    """The rest of a body did not come."""

    status = 408
    default_code = "request_timeout"


class ConversationLocked(ClientError):
    """A response is being made for the conversation, and only one may be at a time."""

    status = 409
    default_code = "conversation_locked"
    # Clients retry a 409 at once, some times in a row; the response that runs takes longer.
    should_retry = False

    def __init__(self, conversation_id: str) -> None:
        super().__init__(
            f"The conversation '{conversation_id}' is in use by another request; send this one "
            "again when that has ended.",
            param="conversation",
        )


class PayloadTooLarge(ClientError):
    """A body or frame is larger than the configured limit."""

    status = 413
    default_code = "payload_too_large"


class UnsupportedMediaType(ClientError):
    """The body is of a kind, or compressed in a way, that is not taken."""

    status = 415
    default_code = "unsupported_media_type"


class ExpectationFailed(ClientError):
    """The header `Expect` asks for something else than 100-continue."""

    status = 417
    default_code = "invalid_request"


class UpgradeRequired(ClientError):
    """GET /v1/responses without a WebSocket handshake, or where WebSocket mode is off.

    Attributes:
        offered: Whether a handshake would be taken.
    """

    status = 426
    default_code = "upgrade_required"

    def __init__(self, message: str, *, offered: bool = True) -> None:
        super().__init__(message)
        self.offered = offered


class TooManyRequests(ClientError):
    """A limit was hit; `code` says which."""

    status = 429
    type = "rate_limit_error"
    default_code = "rate_limit_exceeded"


class ServiceError(WireError):
    """The server failed; details stay in its log."""

    default_code = "server_error"


class Overloaded(ServiceError):
    """Every slot and every waiting place is taken."""

    status = 503
    type = "service_unavailable_error"
    default_code = "server_is_overloaded"


class EngineError(TurnwireError):
    """An engine failed while it generated; tokens already yielded stand."""


class EngineUnavailable(EngineError):
    """The engine refused before its first token; the same call may be tried again."""


class ContextTooLong(EngineError):
    """The prompt plus one new token exceeds the engine's window; before any delta."""


class StoreError(TurnwireError):
    """A storage back end failed; the driver's own error is chained."""


class ParentNotKept(StoreError):
    """A turn was not stored, because what it continues is not in the store for its owner.

    Who holds the whole context may store it again as a turn without a parent.
    """


class ConversationChanged(StoreError):
    """Nothing was appended, because the conversation is not what it was when it was read."""


class ItemIdTaken(StoreError):
    """Nothing was added, because the conversation has an item of this id already.

    Attributes:
        item_id: The id.
    """

    def __init__(self, item_id: str) -> None:
        super().__init__(f"An item with the id {item_id!r} is in the conversation already.")
        self.item_id = item_id


class SealError(TurnwireError):
    """Sealed text cannot be opened: altered, made for another owner, or with an unknown key."""


class ConfigError(TurnwireError):
    """The configuration cannot be used; the message names the field and the mend."""


class AddressUnavailable(TurnwireError):
    """The address of the server cannot be listened on; the message names it and the mend."""


class InvalidTransition(TurnwireError):
    """A state machine was asked for a move outside its table; nothing changed."""
