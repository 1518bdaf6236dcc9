"""Text to token ids and back, exactly.

Text never becomes a special token here: `<|im_end|>` in a tool's output is ten characters of
text, and comes back as such. Special tokens are placed by id, by the template alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import tokenizers

from turnwire.errors import ConfigError
from turnwire.rendering.detokenizer import TokenTable
from turnwire.tokens import TokenArray, token_array

if TYPE_CHECKING:
    from llguidance import LLTokenizer

__all__ = ["Tokenizer"]


class Tokenizer:
    """A byte-level BPE vocabulary in the Hugging Face JSON form.

    Attributes:
        fingerprint: Names the vocabulary: 16 hex digits, equal for equal files.
        vocab_size: One more than the highest id.
        special: Ids of the special tokens, by name.
    """

    def __init__(self, data: str) -> None:
        """Read a vocabulary from its JSON text.

        Raises:
            ConfigError: it is not a byte-level tokenizer in this form.
        """
        try:
            self._impl = tokenizers.Tokenizer.from_str(data)
        except Exception as error:  # the library raises bare Exception
            raise ConfigError(f"not a tokenizer.json: {error}") from error
        self._data = data
        # Without this switch the library turns look-alikes in user text into special ids.
        self._impl.encode_special_tokens = True
        self._encode_batch = self._impl.encode_batch_fast
        self.fingerprint = hashlib.sha256(data.encode()).hexdigest()[:16]
        added = self._impl.get_added_tokens_decoder()
        self.special: Mapping[str, int] = MappingProxyType(
            {token.content: token_id for token_id, token in sorted(added.items()) if token.special}
        )
        self._token_bytes = _token_bytes(self._impl)
        self.vocab_size = len(self._token_bytes)

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """Read a `tokenizer.json`.

        Raises:
            ConfigError: the file cannot be read or is of another kind.
        """
        try:
            data = Path(path).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the tokenizer {str(path)!r}: {error}") from error
        return cls(data)

    def to_json(self) -> str:
        """The vocabulary in the form it was read from."""
        return self._data

    @staticmethod
    def shipped() -> Tokenizer:
        """The vocabulary in this package, made by `tools/train_tokenizer.py`; loaded once."""
        return _shipped()

    def encode(self, text: str) -> TokenArray:
        """Token ids of `text`, none of them special; `decode` gives back the same text.

        Runs without the GIL, so that a large text may be encoded in a worker thread.
        """
        # The batch form even for one text: the plain one holds the GIL throughout and also
        # computes offsets that nobody reads (0.14 s against 0.08 s for 500 kB).
        encoded = self._encode_batch([text], add_special_tokens=False)
        return token_array(encoded[0].ids)

    def encode_batch(self, texts: Sequence[str]) -> list[TokenArray]:
        """`encode` for each text; uses more than one core where there is one."""
        if not texts:
            return []
        encoded = self._encode_batch(texts, add_special_tokens=False)
        return [token_array(one.ids) for one in encoded]

    def token_bytes(self) -> Sequence[bytes]:
        """What each id stands for, shape (vocab_size,); special tokens as their names."""
        return self._token_bytes

    @cached_property
    def table(self) -> TokenTable:
        """What a `Detokenizer` reads; made once."""
        return TokenTable(self._token_bytes)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; bytes that are no UTF-8 become U+FFFD."""
        table = self._token_bytes
        return b"".join([table[token_id] for token_id in ids]).decode("utf-8", "replace")

    @cached_property
    def guidance(self) -> LLTokenizer:
        """The vocabulary as llguidance wants it; made once (about 30 ms)."""
        from llguidance import LLTokenizer

        return LLTokenizer(self._data, n_vocab=self.vocab_size)


@cache
def _shipped() -> Tokenizer:
    file = resources.files("turnwire.rendering") / "data" / "turnwire.json"
    return Tokenizer(file.read_text("utf-8"))


def _byte_of_sign() -> dict[str, int]:
    """The byte-level alphabet: each of the 256 bytes is written as one visible character.

    Bytes that are printable in Latin-1 stand for themselves; the others take the characters
    from U+0100 on, in order. Every byte-level BPE vocabulary since GPT-2 is written so.
    """
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in visible]
    signs = {chr(byte): byte for byte in visible}
    signs.update((chr(0x100 + place), byte) for place, byte in enumerate(hidden))
    return signs


def _token_bytes(impl: tokenizers.Tokenizer) -> tuple[bytes, ...]:
    signs = _byte_of_sign()
    added = {token_id: t.content for token_id, t in impl.get_added_tokens_decoder().items()}
    vocabulary = impl.get_vocab(with_added_tokens=True)
    table = [b""] * (max(vocabulary.values(), default=-1) + 1)
    for token, token_id in vocabulary.items():
        if token_id in added:  # added tokens are written plainly, special or not
            table[token_id] = added[token_id].encode()
            continue
        try:
            table[token_id] = bytes([signs[sign] for sign in token])
        except KeyError as error:
            raise ConfigError(f"not a byte-level vocabulary: token {token!r}") from error
    return tuple(table)
