"""Fit a conversation into a window by leaving out its oldest items (`truncation: "auto"`).

What is to go, and where a conversation may be cut, says `context.window`; here sizes come in, which
only a tokenizer knows. Beside the whole run of a conversation's tokens its links then keep a cut
one, and both grow by what is new. The cut moves when the whole conversation has grown by a step:
then the run is put together anew, from the segments of the links behind the cut.

Where it cuts depends on the items, the instructions and the room, and not on the turns before: a
client that resends everything gets the same prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, Final

from msgspec import Struct

from turnwire.context.chain import Context
from turnwire.context.window import Goal, Seen, cuts, goal, links, num_pinned, pending, seen
from turnwire.rendering.base import Rendered
from turnwire.tokens import TokenArray, Tokens, token_array

__all__ = ["Cut", "Render", "Segment", "output_room", "truncate"]

ROOM_SHARE: Final = 8
"""Without `max_output_tokens`, one part of so many of the window is left for output."""

MAX_TRIES: Final = 4
"""Calls that may be answered later stay, and so more than was reckoned with may have to go."""

Render = Callable[[Context, Seen, Any, int, int | None], Rendered]
"""Renders, of a link and what is seen of it, the items from one up to another, behind a turn."""

Segment = Callable[[Context, Any], Rendered]
"""What a link adds behind a turn, and the turn behind it; remembered where it can be."""


class Cut(Struct, frozen=True, eq=False):
    """A conversation with items left out.

    Attributes:
        preamble: What `tokens` begin with.
        enough: Whether `place` leaves out what was best; else it is the last there was.
        goal: How much had to go.
        place: The first item that is seen behind those that stay in any case.
        tokens: Preamble, what stays, and everything from `place` on.
        turn: State of the template behind that.
    """

    preamble: Tokens
    enough: bool
    goal: Goal
    place: tuple[Context, int]
    tokens: Tokens
    turn: Any

    def holds(self, preamble: Tokens, wanted: Goal) -> bool:
        """Whether it is still where `truncate` would cut: at the first place that is enough."""
        return self.enough and self.preamble is preamble and self.goal.best == wanted.best


def output_room(max_output_tokens: int | None, window: int) -> int:
    """How many tokens of a window to leave for output, at most half of it."""
    return min(max_output_tokens or window // ROOM_SHARE, window // 2)


def truncate(
    context: Context,
    preamble: Tokens,
    num_tokens: int,
    window: int,
    room: int,
    known: Cut | None,
    start: Any,
    render: Render,
    segment: Segment,
    *,
    before_users: bool = False,
) -> Cut | None:
    """Leave out items of a conversation so that it fits.

    Args:
        context: Its last link.
        preamble: What is in front of it.
        num_tokens: Of preamble and conversation.
        window: Most tokens of prompt and output.
        room: What to leave for output.
        known: The cut of the link before, if there is one and both see from the same start.
        start: The turn that a conversation begins at.
        render: Renders part of a link.
        segment: Gives a whole link.
        before_users: Whether what is left has to begin with a user's message.

    Returns:
        None if it fits, or if nothing may be left out that would help.
    """
    wanted = goal(num_tokens, len(preamble), room, window)
    if wanted is None:
        return None
    if known is not None and known.holds(preamble, wanted):
        new = segment(context, known.turn)
        tokens = _behind(known.tokens, new)
        return Cut(preamble, True, known.goal, known.place, tokens, new.turn)
    chain = links(context)
    shown = [seen(link) for link in chain]
    pinned, behind = _pinned(chain, shown, start, render)
    turns, sizes = [start], []
    for link in chain:
        added = segment(link, turns[-1])
        sizes.append(_size(added))
        turns.append(added.turn)
    offsets = list(accumulate(sizes, initial=0))
    places = cuts(shown, num_pinned(chain[0], shown), before_users=before_users)
    stays = len(pinned)
    for _ in range(MAX_TRIES):
        found = _choose(
            places,
            chain,
            offsets,
            turns,
            shown,
            Goal(stays + wanted.least, stays + wanted.best),
            render,
            must=num_tokens >= window,
        )
        if found is None:
            return None
        at, place, enough = found
        needed = pending(shown, at, place)
        # Nothing is nothing: some templates take no conversation without a message.
        calls = (
            render(chain[0], needed, behind, 0, None)
            if needed.items
            else Rendered(token_array(), behind, 0)
        )
        if len(pinned) + _size(calls) <= stays:
            break
        stays = len(pinned) + _size(calls)  # so much more has to go
    last = render(chain[at], shown[at], calls.turn, place, None)
    tokens = _behind(_behind(preamble.extend(pinned), calls), last)
    for link in chain[at + 1 :]:
        last = segment(link, last.turn)
        tokens = _behind(tokens, last)
    return Cut(preamble, enough, wanted, (chain[at], place), tokens, last.turn)


def _behind(tokens: Tokens, new: Rendered) -> Tokens:
    return tokens.drop(new.num_dropped).extend(new.ids)


def _size(new: Rendered) -> int:
    return len(new.ids) - new.num_dropped


def _pinned(
    chain: Sequence[Context], shown: Sequence[Seen], start: Any, render: Render
) -> tuple[TokenArray, Any]:
    ids, turn = token_array(), start
    left = num_pinned(chain[0], shown)
    for link, one in zip(chain, shown, strict=True):
        if not left:
            break
        count = min(left, len(one.items))
        rendered = render(link, one, turn, 0, count)
        stands = ids[: len(ids) - rendered.num_dropped]
        ids, turn, left = stands + rendered.ids, rendered.turn, left - count
    return ids, turn


def _choose(
    places: Sequence[tuple[int, int]],
    chain: Sequence[Context],
    offsets: Sequence[int],
    turns: Sequence[Any],
    shown: Sequence[Seen],
    wanted: Goal,
    render: Render,
    *,
    must: bool,
) -> tuple[int, int, bool] | None:
    """The first place that leaves out the best amount; else the last, if that is the least.

    Args:
        places: Where it may be cut, in order.
        chain: The links of the window.
        offsets: Where each link begins in the conversation's tokens, and where the last one ends.
        turns: State of the template in front of each link.
        shown: What is seen of each link.
        wanted: How much has to go, counted from the conversation's beginning.
        render: Renders part of a link.
        must: The last place is better than nothing, enough or not.

    Returns:
        The index of a link, that of an item in it, and whether it is the best; None if nothing
        helps.
    """
    inside, start, offset, turn = -1, 0, 0, turns[0]
    for at, place in places:
        if offsets[at + 1] < wanted.best:
            continue  # every place in this link comes too soon
        if at != inside:
            inside, start, offset, turn = at, 0, offsets[at], turns[at]
        if place > start:
            # Any partition of items gives the same ids, so sizes add up.
            rendered = render(chain[at], shown[at], turn, start, place)
            start, offset, turn = place, offset + _size(rendered), rendered.turn
        if offset >= wanted.best:
            return at, place, True
    if not places:
        return None
    at, place = places[-1]
    before = _size(render(chain[at], shown[at], turns[at], 0, place))
    return (at, place, False) if must or offsets[at] + before >= wanted.least else None
