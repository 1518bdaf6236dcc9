"""What of a conversation the model sees: a window of the chain.

Two things make it less than everything.

A compaction item stands for all that was before it. Of that only two things are still seen: the
messages that its content lists as retained (POST /responses/compact hands out the user's messages
in front of its item), and what it kept because it is needed later (`carried`): calls whose outputs
may still come, tools and settings that the history brought. Retained messages are known by a
fingerprint of what they say: a client may send them back with other ids, inside a whole history or
alone, and sees the same window. They are looked for backwards, so that of a message that is there
twice the later one counts.

Truncation leaves out items from the start of what a compaction left. Where it cuts follows from the
items and the room alone, never from how the conversation came here, and it cuts in large steps, so
that many turns have the same prefix (`Goal`). Calls are never parted from their outputs: those that
may be answered later stay until they were. Tools that the history added stay for good.

Both only say what is rendered; the chain stays whole. Pure: nothing here knows tokens or templates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import takewhile
from typing import Final

from msgspec import Struct, structs

from turnwire.context.chain import Context, last_compaction
from turnwire.context.pairing import OpenCall, calls_of, is_optional
from turnwire.protocol.codec import encode_item
from turnwire.protocol.items import (
    AdditionalTools,
    Compaction,
    ConfigurationUpdate,
    ContentPart,
    CustomToolCall,
    FunctionCall,
    InputFile,
    InputImage,
    InputText,
    Item,
    Message,
    Summary,
)
from turnwire.tokens import TokenArray

__all__ = [
    "HEADING",
    "Goal",
    "Seen",
    "carried",
    "cuts",
    "fingerprint",
    "goal",
    "links",
    "num_pinned",
    "pending",
    "seen",
    "summary_message",
    "user_messages",
]

HEADING: Final = "Summary of the conversation before this point:\n\n"
FINGERPRINT_BYTES: Final = 16
STEPS: Final = 4
"""Into how many steps the room is divided by which a cut moves: a new prefix every quarter."""


class Seen(Struct, frozen=True):
    """What is seen of one link; three lists in parallel.

    Attributes:
        items: Items as a template knows them: a compaction item is a message here.
        answers: As `Context.answers`.
        sampled: As `Context.sampled`.
    """

    items: Sequence[Item]
    answers: Sequence[OpenCall | None]
    sampled: Sequence[TokenArray | None]


def links(context: Context) -> list[Context]:
    """The links of which something is seen, oldest first."""
    start = context.start
    return [start, *context.since(start)]


def seen(link: Context) -> Seen:
    """What is seen of a link. O(its items), unless it holds a compaction item.

    Then it is everything that is seen up to it, and costs a walk back to the first retained
    message.
    """
    place = last_compaction(link.items)
    if place is None:
        return Seen(link.items, link.answers, link.sampled)
    item = link.items[place]
    summary = _opened(item)
    before = _retained(link, place, summary.retained)
    items = [*before, summary_message(item), *summary.kept]
    after = place + 1
    nothing: list[None] = [None] * len(items)
    return Seen(
        [*items, *link.items[after:]],
        [*nothing, *link.answers[after:]],
        [*nothing, *link.sampled[after:]],
    )


def summary_message(item: Item) -> Message:
    """A compaction item as the model sees it.

    A message of the user: templates take one at any place, and what a summary repeats from tool
    outputs gains no authority by it.
    """
    return Message(role="user", content=(InputText(text=HEADING + _opened(item).text),))


def user_messages(context: Context, parent: Context | None = None) -> list[Message]:
    """The user's messages behind a link of the chain, as far as they are seen.

    Args:
        context: The conversation.
        parent: The link; None for all of the conversation.
    """
    behind = {id(item) for link in context.since(parent) for item in link.items}
    return [
        item
        for link in links(context)
        for item in seen(link).items
        if isinstance(item, Message) and item.role == "user" and id(item) in behind
    ]


def carried(context: Context) -> tuple[Item, ...]:
    """What a compaction behind a conversation keeps, in its order.

    Open calls, tools that the history added, and the settings that it changed last.
    """
    kept: list[Item] = []
    effort: Item | None = None
    text_format: Item | None = None
    for link in links(context):
        for item in seen(link).items:
            if isinstance(item, ConfigurationUpdate):
                effort = item if item.reasoning is not None else effort
                text_format = item if item.text is not None else text_format
                kept.append(item)
            elif isinstance(item, AdditionalTools) or any(
                call.call_id in context.open_calls for call in calls_of(item)
            ):
                kept.append(item)
    last = {id(effort), id(text_format)}
    return tuple(one for one in kept if type(one) is not ConfigurationUpdate or id(one) in last)


def fingerprint(message: Message) -> bytes:
    """What a message says, whatever its id, its status and the pins in it."""
    plain = Message(role=message.role, content=tuple(map(_plain, message.content)))
    return blake2b(encode_item(plain), digest_size=FINGERPRINT_BYTES).digest()


def _plain(part: ContentPart) -> ContentPart:
    if isinstance(part, InputImage):
        return structs.replace(part, prompt_cache_breakpoint=None, detail=part.detail or "auto")
    if isinstance(part, InputText | InputFile):
        return structs.replace(part, prompt_cache_breakpoint=None)
    return part


def _opened(item: Item) -> Summary:
    if not isinstance(item, Compaction) or item.opened is None:
        raise AssertionError("compaction items are opened before a conversation is made")
    return item.opened


def _retained(link: Context, place: int, marks: Sequence[bytes]) -> list[Message]:
    wanted = list(marks)
    found: list[Message] = []
    for message in _messages_before(link, place):
        if not wanted:
            break
        if fingerprint(message) == wanted[-1]:
            wanted.pop()
            found.append(message)
    found.reverse()
    return found


def _messages_before(link: Context, place: int) -> Iterator[Message]:
    """The user's messages before an item, newest first."""
    items: Sequence[Item] = link.items[:place]
    parent = link.parent
    while True:
        for item in reversed(items):
            if isinstance(item, Message) and item.role == "user":
                yield item
        if parent is None:
            return
        items, parent = parent.items, parent.parent


# -- truncation


class Goal(Struct, frozen=True):
    """How much has to go, in tokens.

    Attributes:
        least: So that it fits.
        best: So that it goes on fitting for some turns: `least`, rounded up to whole steps.
    """

    least: int
    best: int


def goal(num_tokens: int, num_fixed: int, room: int, window: int) -> Goal | None:
    """How much of a conversation has to go, or None if it fits.

    Args:
        num_tokens: The whole prompt.
        num_fixed: Of those, instructions and tools.
        room: What is to be left for output.
        window: Most tokens of prompt and output.
    """
    least = num_tokens + room - window
    if least <= 0:
        return None
    step = max(1, (window - room - num_fixed) // STEPS)
    return Goal(least, -(-least // step) * step)


def num_pinned(start: Context, window: Sequence[Seen]) -> int:
    """How many of the items seen first are never left out.

    What a compaction left, up to its summary; else system and developer messages at the very
    beginning, which are instructions in another form.

    Args:
        start: The link where the window starts.
        window: What is seen of that link and of those behind it.
    """
    place = last_compaction(start.items)
    if place is not None:
        behind = len(start.items) - place - 1 + len(_opened(start.items[place]).kept)
        return len(window[0].items) - behind
    items = (item for one in window for item in one.items)
    return sum(1 for _ in takewhile(_instructs, items))


def _instructs(item: Item) -> bool:
    return isinstance(item, Message) and item.role in ("system", "developer")


def cuts(
    window: Sequence[Seen], pinned: int, *, before_users: bool = False
) -> list[tuple[int, int]]:
    """The places where what comes before may be left out, in order.

    Whether it may depends on nothing behind a place, so that a place stays one.

    Args:
        window: What is seen of each link.
        pinned: How many of the first items stay in any case.
        before_users: Only those where a user speaks next.

    Returns:
        The index of a link and that of an item in it; an item is left behind every place.
    """
    places: list[tuple[int, int]] = []
    parted: set[str] = set()
    number = 0
    for at, one in enumerate(window):
        for place, (item, answer) in enumerate(zip(one.items, one.answers, strict=True)):
            if number > pinned and not parted and (_is_users(item) or not before_users):
                places.append((at, place))
            number += 1
            if answer is not None:
                parted.discard(answer.call_id)
            elif isinstance(item, FunctionCall | CustomToolCall) and not is_optional(item):
                parted.add(item.call_id)
    return places


def _is_users(item: Item) -> bool:
    return isinstance(item, Message) and item.role == "user"


def pending(window: Sequence[Seen], at: int, place: int) -> Seen:
    """What before a place is needed behind it: added tools, and calls that were not answered."""
    found: dict[object, Item] = {}
    for number, one in enumerate(window[: at + 1]):
        end = place if number == at else len(one.items)
        for item, answer in zip(one.items[:end], one.answers[:end], strict=True):
            if answer is not None:
                found.pop(answer.call_id, None)
            elif isinstance(item, FunctionCall | CustomToolCall):
                found[item.call_id] = item
            elif isinstance(item, AdditionalTools):
                found[id(item)] = item
    nothing = (None,) * len(found)
    return Seen(list(found.values()), nothing, nothing)
