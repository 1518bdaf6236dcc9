"""A rendering in pieces: special tokens by id, and the text between them.

Text is cut only at special tokens, so a piece's ids do not depend on its neighbours
(engines.md section 4). A piece that is known with its ids is a *chunk*. Chunks of what a model
sampled keep the ids as they were sampled: where a new rendering says the same, they stand.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from turnwire.rendering.tokenizer import Tokenizer
from turnwire.tokens import TokenArray, token_array

__all__ = ["Aligned", "Chunk", "Piece", "Pieces", "align", "joined", "split"]

Piece = int | str
"""A special token's id, or text without any."""

Pieces = list[Piece]


class Chunk(Struct, frozen=True):
    """A piece and its ids."""

    piece: Piece
    ids: TokenArray


class Aligned(Struct, frozen=True):
    """A new rendering, as far as possible in ids that are known.

    Attributes:
        chunks: All of it.
        num_standing: How many of its chunks, from the first, are those that were known.
        num_tokenised: How many ids the tokenizer made for it.
    """

    chunks: list[Chunk]
    num_standing: int
    num_tokenised: int


def joined(pieces: Iterable[Piece]) -> Pieces:
    """The pieces with texts that touch made one, and without empty ones."""
    found: Pieces = []
    run: list[str] = []
    for piece in pieces:
        if isinstance(piece, str):
            if piece:
                run.append(piece)
            continue
        if run:
            found.append(run[0] if len(run) == 1 else "".join(run))
            run = []
        found.append(piece)
    if run:
        found.append("".join(run))
    return found


def split(tokenizer: Tokenizer, special: frozenset[int], ids: Sequence[int]) -> list[Chunk]:
    """Ids as chunks, in the same order."""
    chunks: list[Chunk] = []
    run = token_array()
    for token_id in ids:
        if token_id in special:
            if run:
                chunks.append(Chunk(tokenizer.text_of(run), run))
                run = token_array()
            chunks.append(Chunk(token_id, token_array((token_id,))))
        else:
            run.append(token_id)
    if run:
        chunks.append(Chunk(tokenizer.text_of(run), run))
    return chunks


def align(tokenizer: Tokenizer, wanted: Pieces, known: Sequence[Chunk]) -> Aligned:
    """The wanted pieces as chunks; those that are known, in place or elsewhere, keep their ids.

    Args:
        tokenizer: For what is not known.
        wanted: Pieces as `joined` leaves them.
        known: What stands now, and behind it what was sampled.
    """
    num_standing = 0
    for piece, chunk in zip(wanted, known, strict=False):
        if chunk.piece != piece:
            break
        num_standing += 1
    if num_standing == len(wanted):
        return Aligned(list(known[:num_standing]), num_standing, 0)
    # What is said twice may be spelled in two ways: each has its own, in order.
    others: dict[Piece, list[Chunk]] = {}
    for chunk in reversed(known[num_standing:]):
        others.setdefault(chunk.piece, []).append(chunk)
    chunks: list[Chunk | None] = list(known[:num_standing])
    unknown: list[str] = []
    for piece in wanted[num_standing:]:
        if isinstance(piece, int):
            chunks.append(Chunk(piece, token_array((piece,))))
        else:
            found = others.get(piece)
            chunks.append(None if found is None else found.pop() if len(found) > 1 else found[0])
            if found is None:
                unknown.append(piece)
    made = iter(zip(unknown, tokenizer.encode_batch(unknown), strict=True))
    num_tokenised = 0
    whole: list[Chunk] = []
    for known_chunk in chunks:
        if known_chunk is None:
            text, ids = next(made)
            num_tokenised += len(ids)
            known_chunk = Chunk(text, ids)
        whole.append(known_chunk)
    return Aligned(whole, num_standing, num_tokenised)
