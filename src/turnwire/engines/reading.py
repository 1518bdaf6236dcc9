"""What the simulated engine learns from a prompt, learnt once per link of it.

A prompt is a chain of links (`turnwire.tokens`); a conversation's next prompt is a few links
more. A `Reading` is everything that the engine knows about the ids up to the end of one link,
made from the reading of the link before it, so that a turn costs what it adds. It depends on
the ids alone, never on how they are cut into links.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from weakref import WeakKeyDictionary

from turnwire.engines.vocabulary import CALL, TURN, Vocabulary
from turnwire.tokens import TokenArray, Tokens, token_array

__all__ = ["Reader", "Reading"]

_DIGEST_SIZE = 16
_ID_SIZE = token_array().itemsize


class Reading:
    """What is known about the first `length` ids of a prompt. Never changed once made.

    Attributes:
        length: Ids read.
        last: The final id, or -1 if there is none.
        num_blocks: Whole blocks read.
        num_call_rounds: Assistant turns that hold a tool call, since the last user turn.
    """

    __slots__ = (
        "_called",
        "_digests",
        "_hash",
        "_head",
        "_in_assistant",
        "_parent",
        "_role_next",
        "_tail",
        "last",
        "length",
        "num_blocks",
        "num_call_rounds",
    )

    def __init__(self, parent: Reading | None) -> None:
        self._parent = parent
        self._digests: list[bytes] = []
        if parent is None:
            self.length = 0
            self.last = -1
            self.num_blocks = 0
            self.num_call_rounds = 0
            self._hash = blake2b(digest_size=32)
            self._head = b""
            self._tail = b""
            self._role_next = False
            self._in_assistant = False
            self._called = False
        else:
            self.length = parent.length
            self.last = parent.last
            self.num_blocks = parent.num_blocks
            self.num_call_rounds = parent.num_call_rounds
            self._hash = parent._hash.copy()
            # Digest of everything up to the last whole block, and the bytes after it.
            self._head = parent._head
            self._tail = parent._tail
            self._role_next = parent._role_next
            self._in_assistant = parent._in_assistant
            self._called = parent._called

    def seed(self) -> bytes:
        """32 bytes that follow from the ids and from nothing else."""
        return self._hash.digest()

    def digests(self) -> Iterator[bytes]:
        """The digests of the whole blocks, last block first; each covers all ids up to its end."""
        node: Reading | None = self
        while node is not None:
            yield from reversed(node._digests)
            node = node._parent


class Reader:
    """Reads prompts; remembers the reading of every link that is still alive."""

    def __init__(self, vocabulary: Vocabulary, *, block_size: int) -> None:
        """Prepare to read.

        Args:
            vocabulary: Must have the template's special tokens.
            block_size: Ids per block.
        """
        self._block_bytes = block_size * _ID_SIZE
        self._turn = _pattern(vocabulary.special[TURN])
        self._call = _pattern(vocabulary.special[CALL])
        self._user = _pattern(vocabulary.encode("user")[0])
        self._assistant = _pattern(vocabulary.encode("assistant")[0])
        self._start = Reading(None)
        self._known: WeakKeyDictionary[Tokens, Reading] = WeakKeyDictionary()

    def read(self, prompt: Tokens) -> Reading:
        """Return the reading of `prompt`: O(ids in links not read before)."""
        unread: list[Tokens] = []
        node: Tokens | None = prompt
        reading: Reading | None = None
        while node is not None:
            reading = self._known.get(node)
            if reading is not None:
                break
            unread.append(node)
            node = node.parent
        if reading is None:
            reading = self._start
        while unread:
            link = unread.pop()
            reading = self.extend(reading, link.tail)
            self._known[link] = reading
        return reading

    def extend(self, reading: Reading, ids: TokenArray) -> Reading:
        """Return the reading of what was read, followed by `ids`."""
        if not ids:
            return reading
        longer = Reading(reading)
        longer.length += len(ids)
        longer.last = ids[-1]
        data = ids.tobytes()
        longer._hash.update(data)
        self._cut_blocks(longer, data)
        self._follow_turns(longer, data)
        return longer

    def _cut_blocks(self, reading: Reading, data: bytes) -> None:
        size = self._block_bytes
        data = reading._tail + data
        whole = len(data) - len(data) % size
        head = reading._head
        digests = reading._digests
        for start in range(0, whole, size):
            # Hashing the digest before it makes each digest stand for the whole prefix.
            head = blake2b(head + data[start : start + size], digest_size=_DIGEST_SIZE).digest()
            digests.append(head)
        reading.num_blocks += len(digests)
        reading._head = head
        reading._tail = data[whole:]

    def _follow_turns(self, reading: Reading, data: bytes) -> None:
        at = 0
        while True:
            if reading._role_next:
                if at == len(data):
                    return  # the role is in the next link
                role = data[at : at + _ID_SIZE]
                at += _ID_SIZE
                reading._role_next = False
                reading._called = False
                reading._in_assistant = role == self._assistant
                if role == self._user:
                    reading.num_call_rounds = 0
            following = _find(data, self._turn, at)
            if reading._in_assistant and not reading._called:
                call = _find(data, self._call, at)
                if call >= 0 and (following < 0 or call < following):
                    reading._called = True
                    reading.num_call_rounds += 1
            if following < 0:
                return
            reading._role_next = True
            at = following + _ID_SIZE


def _pattern(id_: int) -> bytes:
    return token_array((id_,)).tobytes()


def _find(data: bytes, pattern: bytes, start: int) -> int:
    """Return where an id starts, or -1. Searching bytes is what makes this fast."""
    at = data.find(pattern, start)
    while at % _ID_SIZE and at >= 0:
        at = data.find(pattern, at + 1)
    return at
