"""Prompts out of contexts: what a token model keeps on the links of a conversation.

Theory of operation. A prompt is `[preamble: instructions + tools] + items + [opening]`. Each
link of the context keeps a `TokenView`: the ids it adds (`segment`), the whole sequence up to
it (`tokens`), and the state of the template (`turn`). A continuation with the same preamble
appends to its parent's `tokens` and costs O(new items). With another preamble the segments are
joined anew behind it, and nothing is tokenised again, if the template says that no segment
depends on the preamble. Otherwise, and for a context that another tokenizer rendered, it is
rendered again in full. A template may take back ids at the end of what stands, when it knows
what follows (`dropped`).

The model sees a window of the chain (`context.window`). A link with a compaction item starts a new
run: its segment is all that is seen up to there, and its `tokens` begin with the preamble again.
Truncation is a second run beside the whole one (`models.truncation`); each turn extends both.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct, structs

from turnwire.context.chain import Context
from turnwire.context.window import Seen, links, seen
from turnwire.models.base import RenderMode, Settings
from turnwire.models.truncation import Cut, output_room, truncate
from turnwire.protocol.items import Item
from turnwire.protocol.tools import ToolSet
from turnwire.rendering.base import Label, Rendered, Spoken, Template
from turnwire.tokens import EMPTY, TokenArray, Tokens

__all__ = ["Preamble", "TokenView", "Views"]

MAX_PREAMBLES: Final = 512  # some KB of tokens each; agents share a handful


class Preamble(Struct, frozen=True, eq=False):
    """Instructions and tools, rendered. Identity is equality: one object per distinct preamble.

    Attributes:
        turn: State of the template behind it.
        effort: The reasoning effort, where the template puts it there; else None.
        separable: Whether nothing behind it depends on it.
    """

    tokens: Tokens
    turn: Any
    instructions: str | None
    tools: ToolSet
    effort: str | None
    separable: bool


class TokenView(Struct, frozen=True, eq=False):
    """What a token model keeps on a context link.

    Attributes:
        vocabulary: Fingerprint of tokenizer and template.
        preamble: The preamble in front of `tokens`.
        before: State of the template in front of the segment.
        segment: The ids this link adds to the window; whatever the preamble, if the template is
            separable.
        num_dropped: How many ids before the segment it takes back.
        tokens: Preamble and every segment from the window's start up to here.
        turn: State of the template after the segment.
        goes_on: Whether the tokens go on from the prompt that an answer was made to.
        cut: The same with items left out, if they had to be.
    """

    vocabulary: str
    preamble: Preamble
    before: Any
    segment: TokenArray
    num_dropped: int
    tokens: Tokens
    turn: Any
    goes_on: bool = True
    cut: Cut | None = None


class Views:
    """Makes the views of one template. For several threads: large inputs are prepared in some."""

    def __init__(self, renderer: Template) -> None:
        """
        Args:
            renderer: Template and vocabulary.
        """
        self._renderer: Final = renderer
        self._lock: Final = threading.Lock()
        self._preambles: OrderedDict[tuple[str | None, bytes, str | None], Preamble] = OrderedDict()

    def preamble(self, parent: Context | None, settings: Settings) -> tuple[Preamble, bool]:
        """The preamble of a turn behind `parent`, and whether it had to be rendered now."""
        effort = settings.effort if self._renderer.effort_in_start else None
        if parent is not None and isinstance(parent.view, TokenView):
            known = parent.view.preamble
            if (
                parent.view.vocabulary == self._renderer.fingerprint
                and known.tools is settings.tools
                and known.instructions == settings.instructions
                and known.effort == effort
            ):
                return known, False
        key = (settings.instructions, settings.tools.raw, effort)
        with self._lock:
            found = self._preambles.get(key)
            if found is not None:
                self._preambles.move_to_end(key)
                return found, False
            begun = self._renderer.start(settings.instructions, settings.tools, effort)
            made = Preamble(
                EMPTY.extend(begun.ids),
                begun.turn,
                settings.instructions,
                settings.tools,
                effort,
                begun.separable,
            )
            self._preambles[key] = made
            if len(self._preambles) > MAX_PREAMBLES:
                self._preambles.popitem(last=False)
            return made, True

    def view(self, context: Context, preamble: Preamble) -> tuple[TokenView, RenderMode, str, int]:
        """Leave the view of `context` on it; return it with mode, reason and tokens made."""
        parent = context.parent
        if parent is None:
            view, made = self._append(context, preamble.turn, preamble.tokens, preamble)
            return view, "full", "first", made
        if context.start is context:
            view, made = self._append(context, preamble.turn, preamble.tokens, preamble)
            return view, "full", "compacted", made
        before = parent.view
        if isinstance(before, TokenView) and before.vocabulary == self._renderer.fingerprint:
            if before.preamble is preamble:
                view, made = self._append(context, before.turn, before.tokens, preamble)
                # A format that takes back what stood keeps a prefix only.
                return (
                    (view, "prefix", "template", made)
                    if view.num_dropped or not before.goes_on
                    else (view, "append", "", made)
                )
            reason = "preamble"
        else:
            reason = "restored"
            if before is not None:
                reason = "model"
            elif parent.start is parent and parent.parent is not None:
                reason = "compacted"  # at the end of the turn before
        if not preamble.separable:
            view, made = self._render_all(context, preamble)
            return view, "full", reason, made
        tokens, turn, total = preamble.tokens, preamble.turn, 0
        for link in links(parent):
            known = link.view
            if (
                isinstance(known, TokenView)
                and known.vocabulary == self._renderer.fingerprint
                and known.preamble.separable
            ):
                segment, dropped, turn = known.segment, known.num_dropped, known.turn
                tokens = tokens.drop(dropped).extend(segment)
            else:
                view, made = self._append(link, turn, tokens, preamble)
                turn, tokens = view.turn, view.tokens
                total += made
        view, made = self._append(context, turn, tokens, preamble)
        mode: RenderMode = "prefix" if total == 0 else "full"
        return view, mode, reason, total + made

    def fit(
        self, context: Context, view: TokenView, window: int, max_output_tokens: int | None
    ) -> tuple[TokenView, bool]:
        """The view with items left out if they have to be; whether others than a turn ago.

        Args:
            context: The link that it is on.
            view: What `view` gave.
            window: Tokens of prompt and output together.
            max_output_tokens: Those of the output, or None for what is left.
        """
        before = context.parent.view if context.parent is not None else None
        known = before.cut if isinstance(before, TokenView) else None
        cut = truncate(
            context,
            view.preamble.tokens,
            len(view.tokens),
            window,
            output_room(max_output_tokens, window),
            known if context.start is not context else None,
            view.preamble.turn,
            self._part,
            self._segment,
            before_users=self._renderer.user_first,
        )
        if cut is None:
            return view, False
        context.view = structs.replace(view, cut=cut)
        return context.view, known is None or known.place != cut.place

    def _segment(self, link: Context, turn: Any) -> Rendered:
        """What a link adds behind a turn: as it was rendered, if that was behind such a turn."""
        known = link.view
        if (
            isinstance(known, TokenView)
            and known.vocabulary == self._renderer.fingerprint
            and known.preamble.separable
            and known.before == turn
        ):
            return Rendered(known.segment, known.turn, 0, known.num_dropped)
        return self._part(link, seen(link), turn)

    def _append(
        self, context: Context, turn: Any, tokens: Tokens, preamble: Preamble
    ) -> tuple[TokenView, int]:
        rendered = self.render([context], turn)
        view = self.viewed(rendered, turn, tokens, preamble)
        context.view = view
        return view, rendered.num_tokenised

    def _render_all(self, context: Context, preamble: Preamble) -> tuple[TokenView, int]:
        """Render the whole window in one go; the links between keep the views that they have."""
        rendered = self.render(links(context), preamble.turn)
        view = self.viewed(rendered, preamble.turn, preamble.tokens, preamble)
        context.view = view
        return view, rendered.num_tokenised

    def viewed(
        self, rendered: Rendered, before: Any, tokens: Tokens, preamble: Preamble
    ) -> TokenView:
        """The view of a link that was rendered.

        Args:
            rendered: What it adds.
            before: State of the template in front of it.
            tokens: In front of it.
            preamble: In front of those.
        """
        return TokenView(
            self._renderer.fingerprint,
            preamble,
            before,
            rendered.ids,
            rendered.num_dropped,
            tokens.drop(rendered.num_dropped).extend(rendered.ids),
            rendered.turn,
        )

    def render(self, chain: Sequence[Context], turn: Any, *, live: bool = False) -> Rendered:
        """Render what is seen of links behind a conversation.

        Args:
            chain: The links, oldest first.
            turn: Where the template stands.
            live: They are what was said right now; see `Template.extend`.
        """
        items: list[Item] = []
        labels: list[Label | None] = []
        sampled: list[TokenArray | None] = []
        spoken: list[Spoken] = []
        for link in chain:
            found = seen(link)
            ours = link.vocabulary == self._renderer.fingerprint
            if ours and (said := link.spoken()) is not None:
                spoken.append(Spoken(len(items), len(items) + len(found.items), said))
            items += found.items
            labels += [(call.name, call.ordinal) if call else None for call in found.answers]
            sampled += found.sampled if ours else (None,) * len(found.items)
        return self._renderer.extend(turn, items, labels, sampled, spoken, live=live)

    def _part(
        self, link: Context, found: Seen, turn: Any, begin: int = 0, end: int | None = None
    ) -> Rendered:
        """Render what is seen of a link, or some items of that."""
        if begin == 0 and end is None and found.items is link.items:
            return self.render([link], turn)
        part = slice(begin, end)
        items = found.items[part]
        ours = link.vocabulary == self._renderer.fingerprint
        return self._renderer.extend(
            turn,
            items,
            [(call.name, call.ordinal) if call else None for call in found.answers[part]],
            found.sampled[part] if ours else (None,) * len(items),
        )
