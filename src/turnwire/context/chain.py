"""The conversation as an immutable chain: every link adds items to the link before it.

Forks share everything up to where they part. A link remembers, beside its items, the token ids
that the model sampled for them, because re-tokenising a model's own words breaks the prefix of
its KV cache. A model may leave a view of the whole chain on a link (its rendered tokens, its
encoded messages) and find it there when the conversation goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from turnwire.context.pairing import OpenCall, calls_of, pair
from turnwire.context.standing import NOTHING_STANDS, Standing, stand
from turnwire.context.weight import LINK_BYTES, weight_of
from turnwire.protocol.items import (
    AdditionalTools,
    Compaction,
    ContentPart,
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    InputFile,
    InputImage,
    InputText,
    Item,
    Message,
    OpaqueItem,
    OutputText,
    Reasoning,
    Refusal,
)
from turnwire.protocol.media import media_kinds
from turnwire.tokens import TokenArray

__all__ = ["Context", "chars_of", "last_compaction"]


class Context:
    """One link, and through `parent` all before it.

    Immutable but for `view`, `stored_id` and `digest`.

    Attributes:
        parent: The link this one extends, or None.
        start: Where what the model sees begins: the last link up to this one that holds a
            compaction item, or the first of all. What is seen of it says `context.window`.
        items: The items it adds.
        answers: Parallel to `items`: the call that an output item answers, else None.
        sampled: Parallel to `items`: the ids as the model sampled them (without the template's
            own tokens around them), or None where there are none to keep.
        opening: The template's ids in front of what was sampled, or None where that is not known.
        vocabulary: Fingerprint of the tokenizer that `sampled` and `opening` belong to, or "".
        called: Ids of all calls up to here, in sets: each at least twice as large as the next,
            so that there are few of them, and an id is copied a few times over a whole chain.
        open_calls: Calls without an output after the last item, by call_id.
        calls_in_a_row: Calls at the very end with nothing between them.
        holds: Types of the parts in the chain that are no text, such as `input_image`, but for
            those before a compaction item that retains no message.
        num_items: Items in the whole chain.
        num_chars: Characters of text in the whole chain, a measure of the work that it is.
        num_bytes: About what the whole chain holds in memory, rendered.
        standing: What the items up to here say about later turns.
        stored_id: The response whose output this link is, if the store holds it and everything
            before it; None for input links and for what was not stored as a whole.
        view: What a model keeps here about the chain up to this link. Derived data: whoever
            reads it checks that it is its own, and can do without.
        digest: Of every item up to here, as a model sees them; see `identity`. None until
            somebody asks.
    """

    __slots__ = (
        "answers",
        "called",
        "calls_in_a_row",
        "digest",
        "holds",
        "items",
        "num_bytes",
        "num_chars",
        "num_items",
        "open_calls",
        "opening",
        "parent",
        "sampled",
        "standing",
        "start",
        "stored_id",
        "view",
        "vocabulary",
    )

    def __init__(
        self,
        parent: Context | None,
        items: Sequence[Item],
        *,
        sampled: Sequence[TokenArray | None] | None = None,
        opening: TokenArray | None = None,
        vocabulary: str = "",
    ) -> None:
        """Extend `parent` by `items`. O(items).

        Raises:
            InvalidRequest: calls and outputs do not pair; see `pairing`. Or a tool is added
                under a name that is taken; see `standing`.
        """
        before: Mapping[str, OpenCall] = parent.open_calls if parent else {}
        row = parent.calls_in_a_row if parent else 0
        paired = pair(items, before, row, parent.was_called if parent else _never)
        if sampled is not None and len(sampled) != len(paired.items):
            raise AssertionError("a model's output never repeats a call")
        self.parent = parent
        self.items = paired.items
        self.answers = paired.answers
        self.sampled: tuple[TokenArray | None, ...] = (
            tuple(sampled) if sampled is not None else (None,) * len(paired.items)
        )
        self.opening = opening
        self.vocabulary = vocabulary
        self.open_calls: Mapping[str, OpenCall] = paired.open
        self.calls_in_a_row: int = paired.row
        place = last_compaction(paired.items)
        self.start: Context = self if parent is None or place is not None else parent.start
        made = frozenset(
            call.call_id
            for item in paired.items
            if isinstance(item, FunctionCall | CustomToolCall | Compaction)
            for call in calls_of(item)
        )
        self.called: tuple[frozenset[str], ...] = _join(parent.called if parent else (), made)
        self.holds: frozenset[str] = _held(parent, paired.items, place)
        self.num_items: int = (parent.num_items if parent else 0) + len(paired.items)
        self.num_chars: int = (parent.num_chars if parent else 0) + sum(map(chars_of, paired.items))
        self.num_bytes: int = (
            (parent.num_bytes if parent else 0) + LINK_BYTES + sum(map(weight_of, paired.items))
        )
        self.standing: Standing = stand(parent.standing if parent else NOTHING_STANDS, paired.items)
        self.stored_id: str | None = None
        self.view: object | None = None
        self.digest: bytes | None = None

    def was_called(self, call_id: str) -> bool:
        """Whether any link up to this one made a call with this id. O(log calls)."""
        return any(call_id in some for some in self.called)

    def spoken(self) -> TokenArray | None:
        """The opening and all that was sampled behind it; None if an item was not sampled."""
        if self.opening is None or not self.items:
            return None
        ids = self.opening[:]
        for one in self.sampled:
            if one is None:
                return None
            ids += one
        return ids

    def newest_first(self) -> Iterator[Context]:
        """The links from this one back to the root."""
        link: Context | None = self
        while link is not None:
            yield link
            link = link.parent

    def links(self) -> list[Context]:
        """The links, oldest first."""
        found = list(self.newest_first())
        found.reverse()
        return found

    def since(self, link: Context | None) -> list[Context]:
        """The links behind `link`, which is one of this chain, oldest first; None for all."""
        found: list[Context] = []
        for one in self.newest_first():
            if one is link:
                break
            found.append(one)
        found.reverse()
        return found

    def all_items(self) -> list[Item]:
        """Every item of the conversation, oldest first. O(items)."""
        return [item for link in self.links() for item in link.items]


def last_compaction(items: Sequence[Item]) -> int | None:
    """The place of the last compaction item, or None if there is none."""
    for place in range(len(items) - 1, -1, -1):
        if type(items[place]) is Compaction:
            return place
    return None


def _held(parent: Context | None, items: Sequence[Item], place: int | None) -> frozenset[str]:
    if place is not None:
        item = items[place]
        if isinstance(item, Compaction) and item.opened is not None and not item.opened.retained:
            return media_kinds(items[place + 1 :])
    kinds = media_kinds(items)
    return parent.holds | kinds if parent else kinds


def _join(sets: tuple[frozenset[str], ...], new: frozenset[str]) -> tuple[frozenset[str], ...]:
    if not new:
        return sets
    while sets and len(sets[-1]) < 2 * len(new):
        new |= sets[-1]
        sets = sets[:-1]
    return (*sets, new)


def _never(call_id: str) -> bool:
    return False


def chars_of(item: Item) -> int:
    """Characters of text in an item, a measure of what it costs."""
    match item:
        case Message(content=parts):
            return sum(map(_part_chars, parts))
        case FunctionCall(arguments=text) | CustomToolCall(input=text):
            return len(text)
        case FunctionCallOutput(output=output) | CustomToolCallOutput(output=output):
            return len(output) if isinstance(output, str) else sum(map(_part_chars, output))
        case Reasoning(content=parts):
            return sum(len(part.text) for part in parts or ())
        case Compaction(encrypted_content=sealed, opened=opened):
            return len(sealed) + (len(opened.text) if opened is not None else 0)
        case OpaqueItem(raw=raw) | AdditionalTools(raw=raw):
            return len(raw)
        case _:
            return 0


def _part_chars(part: ContentPart) -> int:
    match part:
        case OutputText(text=text, logprobs=logprobs):
            return len(text) + sum(memoryview(raw).nbytes for raw in logprobs)
        case InputText(text=text) | Refusal(refusal=text):
            return len(text)
        case InputImage(image_url=url):
            return len(url or "")
        case InputFile(file_data=data):
            return len(data or "")
