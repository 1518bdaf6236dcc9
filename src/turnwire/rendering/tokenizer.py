"""Text to token ids and back, exactly.

Text never becomes a special token here: `<|im_end|>` in a tool's output is ten characters of
text, and comes back as such. Special tokens are placed by id, by the template alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec
import tokenizers

from turnwire.errors import ConfigError
from turnwire.rendering.detokenizer import TokenTable
from turnwire.tokens import TokenArray, token_array

if TYPE_CHECKING:
    from llguidance import LLTokenizer

__all__ = ["Tokenizer", "byte_of_sign"]


# A tag of some template, even where a vocabulary calls it an ordinary added token, as Qwen's
# does with `<tool_call>`. Runs of blanks and added words are text.
_TAG = re.compile(r"[<\[]\W*\w.*[>\]]", re.DOTALL)


class Tokenizer:
    """A vocabulary in the Hugging Face JSON form, byte-level or of SentencePiece's kind.

    Attributes:
        fingerprint: Names the vocabulary: 16 hex digits, equal for equal files.
        vocab_size: One more than the highest id.
        special: Ids of the special tokens, by name: all that a template is made of, and that no
            text may become.
        prefix_space: Whether a text is encoded as if a space stood before it (SentencePiece).
            `decode` gives that space back, `text_of` does not.
    """

    def __init__(self, data: str) -> None:
        """Read a vocabulary from its JSON text.

        Raises:
            ConfigError: it is no tokenizer in this form.
        """
        try:
            data, tree = _guarded(data)
            impl = self._impl = tokenizers.Tokenizer.from_str(data)
        except Exception as error:  # the library raises bare Exception
            raise ConfigError(f"not a tokenizer.json: {error}") from error
        self._data = data
        # Without this switch the library turns look-alikes in user text into special ids.
        impl.encode_special_tokens = True
        impl.no_truncation()
        impl.no_padding()
        self._encode_batch = impl.encode_batch_fast
        self.fingerprint = hashlib.sha256(data.encode()).hexdigest()[:16]
        added = impl.get_added_tokens_decoder()
        self.special: Mapping[str, int] = MappingProxyType(
            {token.content: token_id for token_id, token in sorted(added.items()) if token.special}
        )
        kinds = set(_types(tree.get("pre_tokenizer"))) | set(_types(tree.get("decoder")))
        read = _byte_level(impl) if "ByteLevel" in kinds else _sentence_piece(impl, kinds)
        self._token_bytes = _token_bytes(impl, read)
        self.vocab_size = len(self._token_bytes)
        self.prefix_space = self.decode(self.encode("a")) == " a"

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """Read a `tokenizer.json`, byte-level or of SentencePiece's kind.

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
        """Token ids of `text`, none of them special; `text_of` gives back the same text.

        (Unless the vocabulary normalises: Qwen's composes characters to NFC.) Runs without
        the GIL, so that a large text may be encoded in a worker thread.
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

    def decode(self, ids: Iterable[int], errors: str = "replace") -> str:
        """The text of `ids`; bytes that are no UTF-8 become U+FFFD, or what `errors` says."""
        table = self._token_bytes
        return b"".join([table[token_id] for token_id in ids]).decode("utf-8", errors)

    def text_of(self, ids: Sequence[int]) -> str:
        """`decode`, for ids that `encode` could have made of one text.

        Others, with half a character in them, have a text that no other ids have.
        """
        text = self.decode(ids, "surrogateescape")
        return text[1:] if self.prefix_space and text.startswith(" ") else text

    @cached_property
    def guidance(self) -> LLTokenizer:
        """The vocabulary as llguidance wants it; made once (about 30 ms)."""
        from llguidance import LLTokenizer

        return LLTokenizer(self._data, n_vocab=self.vocab_size)


@cache
def _shipped() -> Tokenizer:
    file = resources.files("turnwire.rendering") / "data" / "turnwire.json"
    return Tokenizer(file.read_text("utf-8"))


def byte_of_sign() -> dict[str, int]:
    """The byte-level alphabet: each of the 256 bytes is written as one visible character.

    Bytes that are printable in Latin-1 stand for themselves; the others take the characters
    from U+0100 on, in order. Every byte-level BPE vocabulary since GPT-2 is written so.
    """
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in visible]
    signs = {chr(byte): byte for byte in visible}
    signs.update((chr(0x100 + place), byte) for place, byte in enumerate(hidden))
    return signs


def _guarded(data: str) -> tuple[str, dict[str, Any]]:
    """The JSON with every tag special and no blank put before texts inside a prompt."""
    tree: dict[str, Any] = msgspec.json.decode(data, type=dict[str, Any])
    changed = False
    for token in tree.get("added_tokens") or ():
        if not token["special"] and _TAG.fullmatch(token["content"]):
            token["special"] = changed = True
    for part in _parts(tree.get("pre_tokenizer")):
        # "first" is the start of the prompt, where a special token stands.
        if part.get("type") == "Metaspace" and part.get("prepend_scheme") == "first":
            part["prepend_scheme"] = "never"
            changed = True
    return (msgspec.json.encode(tree).decode() if changed else data), tree


def _parts(section: Any) -> Iterator[dict[str, Any]]:
    """A section of the JSON and all that it is a sequence of."""
    if not isinstance(section, dict):
        return
    yield section
    for name in ("pretokenizers", "decoders", "normalizers"):
        for part in section.get(name) or ():
            yield from _parts(part)


def _types(section: Any) -> Iterator[str]:
    return (str(part.get("type")) for part in _parts(section))


def _byte_level(impl: tokenizers.Tokenizer) -> Callable[[str], bytes]:
    signs = byte_of_sign()
    return lambda token: bytes([signs[sign] for sign in token])


_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


def _sentence_piece(impl: tokenizers.Tokenizer, kinds: set[str]) -> Callable[[str], bytes]:
    if not kinds & {"ByteFallback", "Metaspace"}:
        raise ConfigError("not a byte-level or SentencePiece vocabulary")

    def read(token: str) -> bytes:
        if found := _BYTE_TOKEN.fullmatch(token):
            return bytes([int(found[1], 16)])
        return token.replace("\N{LOWER ONE EIGHTH BLOCK}", " ").encode()

    return read


def _token_bytes(impl: tokenizers.Tokenizer, read: Callable[[str], bytes]) -> tuple[bytes, ...]:
    added = {token_id: t.content for token_id, t in impl.get_added_tokens_decoder().items()}
    vocabulary = impl.get_vocab(with_added_tokens=True)
    table = [b""] * (max(vocabulary.values(), default=-1) + 1)
    for token, token_id in vocabulary.items():
        if token_id in added:  # added tokens are written plainly, special or not
            table[token_id] = added[token_id].encode()
            continue
        try:
            table[token_id] = read(token)
        except KeyError as error:
            raise ConfigError(f"not a byte-level vocabulary: token {token!r}") from error
    return tuple(table)
