"""Output that obeys a grammar and is short: the simulated engine's sampling under a mask.

Every token is allowed by the real guide, so what comes out is valid whatever is chosen here;
the choices only make it short, varied and plain. What is looked at is single characters (a
byte-level vocabulary has a token for each): may a quote, a bracket, a letter come next?
"""

from __future__ import annotations

from typing import Final

import numpy as np

from turnwire.engines.babble import Babble
from turnwire.engines.constrain import Guide, Mask
from turnwire.engines.dice import Dice
from turnwire.engines.vocabulary import CALL, CALL_END, Vocabulary

__all__ = ["Sampler"]

# From here on every choice is for the end: no new object or list, the shortest value.
_PATIENCE = 32


class Sampler:
    """Chooses tokens under a guide, over one vocabulary."""

    def __init__(self, vocabulary: Vocabulary, babble: Babble) -> None:
        self._vocabulary = vocabulary
        self._words = babble.words
        self._first_words = babble.first_words
        self._call: Final = vocabulary.special[CALL]
        self._call_end: Final = vocabulary.special[CALL_END]
        spelt = {spelling: id_ for id_, spelling in enumerate(vocabulary.token_bytes)}
        self._quote = spelt[b'"']
        self._closers = (spelt[b"}"], spelt[b"]"])
        self._comma = spelt[b","]
        self._newline = spelt[b"\n"]
        # No place outside a string takes both of these in JSON (true, false, null).
        self._letters = (spelt[b"q"], spelt[b"z"])
        special = set(vocabulary.special.values())
        plain = [
            id_ not in special and spelling.isascii() and spelling.decode().isprintable()
            for id_, spelling in enumerate(vocabulary.token_bytes)
        ]
        single = [len(s) == 1 or s == b' "' for s in vocabulary.token_bytes]
        visible = [bool(spelling.strip()) for spelling in vocabulary.token_bytes]
        opening = [any(sign in b"{[(<\\" for sign in s) for s in vocabulary.token_bytes]
        wordlike = [s.replace(b" ", b"").isalnum() for s in vocabulary.token_bytes]
        self._plain: Mask = np.array(plain) & np.array(visible)
        # Single characters first: every way to go on is then about as likely as the others,
        # however many tokens begin with it. (And the quote that comes after a colon.)
        self._sign: Mask = self._plain & np.array(single)
        self._modest: Mask = self._sign & ~np.array(opening)
        self._ending: Mask = self._modest & ~np.array(wordlike)
        self._no_special: Mask = ~np.isin(np.arange(len(vocabulary)), sorted(special))

    def must_call(self, guide: Guide) -> bool:
        """Whether the next token that `guide` lets through can only open a tool call."""
        mask = guide.mask()
        return mask is not None and bool(mask[self._call]) and not (mask & self._no_special).any()

    def may_speak(self, guide: Guide) -> bool:
        """Whether the output may end here, and may go on in free text too."""
        mask = guide.mask() if guide.may_stop else None
        return mask is not None and all(mask[letter] for letter in self._letters)

    def sample(
        self, guide: Guide, dice: Dice, *, num_calls: int, max_calls: int, max_tokens: int
    ) -> tuple[list[int], bool]:
        """Follow `guide` to an end; return the ids, without a stop token, and whether it ended.

        Behind a call the end is where free text could follow; an answer of another form, which
        the grammar lets follow, is written.

        Args:
            guide: Held by its grammar; it is used up.
            dice: Decides everything that the grammar leaves open.
            num_calls: Tool calls opened before.
            max_calls: No further call is opened once there are as many, unless it must be.
            max_tokens: Give up when there are so many ids.
        """
        ids: list[int] = []
        start = 0  # where the call that is being written starts
        in_text = 0  # tokens of the free text that is being written
        while len(ids) < max_tokens:
            chosen = guide.forced()
            was_in_text, in_text = in_text, 0
            if not chosen:
                if guide.complete:
                    return ids, True
                mask = guide.mask()
                if mask is None:
                    raise ValueError("the guide is not held by its grammar")
                call_next = mask[self._call]
                # A model that does not wait for its call's output has more to say.
                more = ids[-1:] == [self._call_end] and bool((mask & self._no_special).any())
                if more and num_calls >= max_calls and self.may_speak(guide):
                    return ids, True
                if (
                    guide.may_stop
                    and not more
                    and (num_calls >= max_calls if call_next else dice.roll(8) <= len(ids) // 2)
                ):
                    return ids, True
                if call_next and (num_calls < max_calls or not (mask & self._no_special).any()):
                    chosen = [self._call]
                elif mask[self._letters[0]] and mask[self._letters[1]]:
                    chosen = [self._write(mask, dice, was_in_text, ids[-1:])]
                    in_text = was_in_text + 1
                else:
                    chosen = [self._build(mask, dice, ids[-1:], len(ids) - start)]
            if self._call in chosen:
                start = len(ids)
                num_calls += 1
            for id_ in chosen:
                guide.commit(id_)
            ids += chosen
        return ids, guide.complete

    def _write(self, mask: Mask, dice: Dice, in_text: int, last: list[int]) -> int:
        """One more word of a text, or its end."""
        if in_text > dice.roll(4):
            if mask[self._call_end]:
                return self._call_end
            # No string takes a line end as it is: this is text in lines, and a line may end.
            if mask[self._newline] and last != [self._newline]:
                return self._newline
            # A quote that did not end the text is not tried twice.
            if mask[self._quote] and last != [self._quote]:
                return self._quote
            if in_text > 4 and not dice.roll(4) and (mask & self._ending).any():
                return self._any(mask & self._ending, dice)
        words = self._words if in_text else self._first_words
        for _ in range(4):
            word = words[dice.roll(len(words))]
            if mask[word]:
                return word
        if mask[self._quote]:
            return self._quote
        return self._one_of(mask, dice, 0)

    def _build(self, mask: Mask, dice: Dice, last: list[int], num_written: int) -> int:
        """One more token where only some are allowed: structure, a number, a fixed choice."""
        in_number = self._vocabulary.decode(last)[-1:].isdigit()
        if dice.roll(16) < 4 + num_written // 2 or (in_number and dice.roll(2)):
            for closer in (self._call_end, *self._closers):
                if mask[closer]:
                    return closer
            if in_number and mask[self._comma]:
                return self._comma
        return self._one_of(mask, dice, num_written)

    def _one_of(self, mask: Mask, dice: Dice, num_written: int) -> int:
        wishes = (self._sign, self._plain, self._no_special)
        for wish in (self._modest, *wishes) if num_written > _PATIENCE else wishes:
            wished = mask & wish
            if wished.any():
                return self._any(wished, dice)
        return self._any(mask, dice)

    def _any(self, mask: Mask, dice: Dice) -> int:
        ids = np.flatnonzero(mask)
        return int(ids[dice.roll(len(ids))])
