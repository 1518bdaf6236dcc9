"""Free text of a given length in tokens, spelt as the tokenizer itself would spell it.

A client may send a text back, to be tokenised again; the prompt is the same, token for token,
only if `encode(text)` gives the ids that were sampled. So text is made of units that no
tokenizer of the byte-level kind joins with their neighbours: each starts with a space and a
letter. Most units are one word and one token; some end in punctuation or in a new line, some
have letters of several bytes, spelt with tokens that are not whole characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import shake_128
from itertools import islice

from turnwire.engines.vocabulary import Vocabulary

__all__ = ["Babble"]

_NUM_UNITS = 4096  # a power of two: a 16-bit number picks one by its low bits
_NUM_WORDS = 1024
_SAMPLE_SIZE = 2048
_RARE_WORDS = (" naïve", " café", " größer", " señal", " здесь", " 東京", " 😀")


class Babble:
    """Makes text over one vocabulary."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        """Choose words from the vocabulary.

        Raises:
            ValueError: the vocabulary has no words, or does not split a text at its spaces.
        """
        self._vocabulary = vocabulary
        self.words = _single_tokens(vocabulary, b" ")
        self.first_words = _single_tokens(vocabulary, b"")
        if not self.words or not self.first_words:
            raise ValueError("the vocabulary has no token that is a word")
        self._units = self._make_units()
        sample = self.text(b"sample", _SAMPLE_SIZE)
        if not vocabulary.is_canonical(sample):
            raise ValueError("the vocabulary joins words across the space between them")

    def text(self, seed: bytes, num_tokens: int) -> list[int]:
        """Return exactly `num_tokens` ids; encoding their text gives the same ids.

        Args:
            seed: Decides the text, with `num_tokens`. A shorter text is the start of a longer
                one, up to its last few tokens.
            num_tokens: At least 0.
        """
        if num_tokens <= 0:
            return []
        # Every unit takes at least one token, so there are more numbers than are needed.
        numbers = memoryview(shake_128(seed).digest(2 * num_tokens)).cast("H")
        units = self._units
        ids = [self.first_words[numbers[0] % len(self.first_words)]]
        for number in numbers[1:]:
            unit = units[number % _NUM_UNITS]
            ids += unit
            if len(ids) >= num_tokens:
                if len(unit) > 1:
                    # It may not fit, and a new line at the end of a text is easily lost: plain
                    # words, one token each, take its place.
                    del ids[-len(unit) :]
                    words = self.words
                    missing = num_tokens - len(ids)
                    ids += [words[(number + place) % len(words)] for place in range(missing)]
                break
        return ids

    def _make_units(self) -> list[tuple[int, ...]]:
        words, vocabulary = self.words, self._vocabulary
        rare = [tuple(vocabulary.encode(word)) for word in _RARE_WORDS]
        units: list[tuple[int, ...]] = []
        for place in range(_NUM_UNITS):
            word = words[place % len(words)]
            spelling = vocabulary.token_bytes[word].decode()
            if place % 16 == 3:
                units.append(tuple(vocabulary.encode(spelling + ",")))
            elif place % 16 == 7:
                units.append(tuple(vocabulary.encode(spelling + ".")))
            elif place % 64 == 11:
                units.append(tuple(vocabulary.encode(spelling + ".\n")))
            elif place % 64 == 15:
                units.append(rare[place // 64 % len(rare)])
            else:
                units.append((word,))
        return units


def _single_tokens(vocabulary: Vocabulary, prefix: bytes) -> Sequence[int]:
    """Ids of tokens that are `prefix` and a lower-case word, and that `encode` would choose.

    Long ones are rather words than pieces of words; short ones do where there are no others.
    """

    def candidates(least: int) -> Iterable[int]:
        for id_, spelling in enumerate(vocabulary.token_bytes):
            word = spelling.removeprefix(prefix)
            if (
                spelling.startswith(prefix)
                and least <= len(word) <= 12
                and word.isalpha()
                and word.islower()
                and word.isascii()
                and list(vocabulary.encode(spelling.decode())) == [id_]
            ):
                yield id_

    return list(islice(candidates(4), _NUM_WORDS)) or list(islice(candidates(1), _NUM_WORDS))
