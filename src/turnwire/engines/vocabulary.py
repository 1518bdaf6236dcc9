"""What an in-process engine must know about its model's tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import Struct

__all__ = [
    "CALL",
    "CALL_END",
    "END_OF_TEXT",
    "END_OF_TURN",
    "THINK",
    "THINK_END",
    "TURN",
    "Vocabulary",
]

END_OF_TEXT = "<|endoftext|>"
TURN = "<|im_start|>"
END_OF_TURN = "<|im_end|>"
THINK = "<think>"
THINK_END = "</think>"
CALL = "<tool_call>"
CALL_END = "</tool_call>"


class Vocabulary(Struct, frozen=True):
    """Tokens and their bytes.

    Attributes:
        token_bytes: The bytes of every token, index = id, shape (vocabulary_size,); those of a
            special token are its name in UTF-8.
        special: Ids of the special tokens by name. The names above are those of the template
            that ships with Turnwire.
        encode: Text to token ids. It never makes a special token: `<tool_call>` in a text is
            text.
    """

    token_bytes: Sequence[bytes]
    special: Mapping[str, int]
    encode: Callable[[str], Sequence[int]]

    def __len__(self) -> int:
        return len(self.token_bytes)

    def decode(self, ids: Iterable[int]) -> bytes:
        """Return the bytes that `ids` stand for; they need not be whole characters."""
        token_bytes = self.token_bytes
        return b"".join([token_bytes[id_] for id_ in ids])

    def is_canonical(self, ids: Sequence[int]) -> bool:
        """Tell whether `ids`, none of them special, is what `encode` makes of its own text."""
        try:
            text = self.decode(ids).decode()
        except UnicodeDecodeError:
            return False
        return list(self.encode(text)) == list(ids)
