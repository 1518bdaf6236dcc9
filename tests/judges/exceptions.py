"""Where what we send is not what a description says, and whose word we have for that.

Tables, made to be added to. `OPENAI` and `OPEN_RESPONSES` widen one schema each. `BEYOND` names
what the closed unions of Open Responses do not have, `NEWER` the events that the official library
knows and OpenAI's description, which is older, does not. `EXTRAS` are keys that the official types
do not have, `NULLS` those where they have no null, `VALUES` values they do not list. An exception
that no sample of `test_judge.py` needs any more fails a test there, so that these lists stay as
short as they can be.

Sources: O is OpenAI's description, R that of Open Responses, S the types of openai-python 3.52.0,
W recorded traffic of the real service; the section numbers are those of protocol.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

__all__ = [
    "BEYOND",
    "EXTRAS",
    "NEWER",
    "NULLS",
    "OPENAI",
    "OPEN_RESPONSES",
    "OURS",
    "VALUES",
    "Amendment",
]

NULL: Final[Mapping[str, Any]] = {"type": "null"}


class Amendment(Struct, frozen=True):
    """One schema of a description that takes more than it says.

    Attributes:
        schema: Its name among the definitions.
        path: Where in it, key by key; empty for all of it.
        also: What it takes besides.
        source: Who sends that, or says that it may be sent.
    """

    schema: str
    path: tuple[str | int, ...]
    also: Mapping[str, Any]
    source: str

    def apply(self, definitions: dict[str, Any]) -> None:
        """Widen the schema.

        Raises:
            KeyError: the description has no such schema.
        """
        place: Any = definitions
        *steps, last = self.schema, *self.path
        for step in steps:
            place = place[step]
        place[last] = {"anyOf": [place[last], dict(self.also)]}


OPENAI: Final = (
    Amendment(
        schema="ModelResponseProperties",
        path=("properties", "user"),
        also=NULL,
        source="W: sent as null in all 202 recordings; section 4",
    ),
    Amendment(
        schema="Response",
        path=("allOf", 2, "properties", "usage"),
        also=NULL,
        source="W and R: null until the response has ended; section 4",
    ),
    Amendment(
        schema="TextResponseFormatJsonSchema",
        path=("properties", "description"),
        also=NULL,
        source="W sends null; R requires the key; section 4",
    ),
    Amendment(
        schema="Response",
        path=("allOf", 2, "properties", "incomplete_details", "anyOf", 0, "properties", "reason"),
        also={"enum": ["steered"]},
        source="S: newer than O; section 4",
    ),
    Amendment(
        schema="ResponseErrorCode",
        path=(),
        also={"enum": ["context_length_exceeded"]},
        source="Codex reads it in response.failed, and tells its user what to do",
    ),
    Amendment(
        schema="ResponseItemList",
        path=("properties", "first_id"),
        also=NULL,
        source="no item has an id on an empty page: our decision; section 14.2",
    ),
    Amendment(
        schema="ResponseItemList",
        path=("properties", "last_id"),
        also=NULL,
        source="as first_id",
    ),
    Amendment(
        schema="ConversationItemList",
        path=("properties", "first_id"),
        also=NULL,
        source="as in a ResponseItemList",
    ),
    Amendment(
        schema="ConversationItemList",
        path=("properties", "last_id"),
        also=NULL,
        source="as in a ResponseItemList",
    ),
)

OPEN_RESPONSES: Final = (
    Amendment(
        schema="JsonSchemaResponseFormat",
        path=("properties", "schema"),
        also={"type": "object"},
        source="O W: the schema itself; that R types it as null is a slip; section 17",
    ),
    Amendment(
        schema="ReasoningEffortEnum",
        path=(),
        also={"enum": ["minimal", "max"]},
        source="O S: two more levels, echoed as given; section 17",
    ),
)

BEYOND: Final[Mapping[str, frozenset[str]]] = {
    # O has them; R would have them under a prefix of ours, where no client looks: section 17.
    "event": frozenset(
        {
            "response.custom_tool_call_input.delta",
            "response.custom_tool_call_input.done",
            # R calls them response.reasoning.*; both only where a server option asks for them.
            "response.reasoning_text.delta",
            "response.reasoning_text.done",
        }
    ),
    "item": frozenset({"custom_tool_call"}),
    "choice": frozenset({"custom"}),  # also among allowed_tools
}

# Items that the server reads; those of other types are the client's, kept as they came.
OURS: Final = frozenset(
    {
        "additional_tools",
        "compaction",
        "configuration_update",
        "custom_tool_call",
        "custom_tool_call_output",
        "function_call",
        "function_call_output",
        "message",
        "reasoning",
    }
)

NEWER: Final = frozenset(
    {
        "response.compaction.compacting",
        "response.steer.accepted",
        "response.steer.pending",
        "response.steer.failed",
    }
)

# (class of the official library, key): why it is there all the same.
EXTRAS: Final[Mapping[tuple[str, str], str]] = {
    ("Response", "store"): "R requires it, W sends it; section 4",
    ("Response", "presence_penalty"): "R requires it, W sends it; section 2",
    ("Response", "frequency_penalty"): "R requires it, W sends it; section 2",
    ("ResponseFunctionCallArgumentsDoneEvent", "name"): "O requires it; section 5.2",
    ("ResponseCustomToolCall", "status"): "R: every item has one; section 3.6",
    ("ResponseTextDeltaEvent", "obfuscation"): "O and R have it, if asked for; section 5.4",
    ("ResponseFunctionCallArgumentsDeltaEvent", "obfuscation"): "W pads these too; section 5.4",
    ("ResponseReasoningSummaryTextDeltaEvent", "obfuscation"): "W pads these too; section 5.4",
    ("Logprob", "bytes"): "R requires them in events too; section 5.2",
    ("LogprobTopLogprob", "bytes"): "as in a Logprob",
    ("ResponseErrorEvent", "status"): "as in WebSocket mode; section 8.6",
    ("ResponseErrorEvent", "error"): "R and W nest what S has flat, so both; section 5.3",
    ("ErrorObject", "headers"): "O and R have it in errors of streams; section 5.3",
    ("ResponseWsError", "code"): "the flat form beside the nested one; section 5.3",
    ("ResponseWsError", "message"): "as code",
    ("ResponseWsError", "param"): "as code",
}

# Where an official type lists the values that there are: one more, and why.
VALUES: Final[Mapping[tuple[tuple[str, str], str], str]] = {
    (("error", "code"), "context_length_exceeded"): "as in the ResponseErrorCode above",
}

# (class of the official library, key): why it may be null all the same.
NULLS: Final[Mapping[tuple[str, str], str]] = {
    ("ResponseItemList", "first_id"): "no item has an id on an empty page; section 14.2",
    ("ResponseItemList", "last_id"): "as first_id",
    ("ConversationItemList", "first_id"): "as in a ResponseItemList",
    ("ConversationItemList", "last_id"): "as in a ResponseItemList",
}
