"""Vocabularies that come in other forms than `tokenizer.json`, brought into it.

| from                       | kind                                     | where               |
|----------------------------|------------------------------------------|---------------------|
| a GGUF file's metadata     | `gpt2`: byte-level BPE, merges given     | `from_gguf`         |
|                            | `llama`: SentencePiece BPE, scores given | `from_gguf`         |
| ranks, as tiktoken's files | byte-level BPE, merges implied           | `from_ranks`        |
| Mistral's `tekken.json`    | the same, with a pattern of its own      | `from_tekken`       |

Where merges are implied, every way to make a token of two others is one, and the token's rank
says when: that is what tiktoken and SentencePiece do with ranks and scores.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from turnwire.errors import ConfigError
from turnwire.gguf import GgufHeader
from turnwire.rendering.tokenizer import Tokenizer, byte_of_sign

__all__ = ["PATTERNS", "Cut", "from_gguf", "from_ranks", "from_tekken", "read_ranks"]

T = TypeVar("T", str, bytes)
Json = dict[str, Any]

_CONTRACTION: Final = "'s|'t|'re|'ve|'m|'ll|'d"
_UPPER: Final = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER: Final = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_BLANKS: Final = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT2: Final = rf"{_CONTRACTION}| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|\s+(?!\S)"


def _words(digits: str) -> str:
    """How Llama 3 and Qwen cut text: they differ in how many digits stay together."""
    return (
        rf"(?i:{_CONTRACTION})|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}"
        rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_BLANKS}"
    )


def _cased_words(contraction: str, digits: str) -> str:
    """How o200k and Tekken cut text: also where a word's case changes."""
    return (
        rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{contraction}"
        rf"|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{contraction}"
        rf"|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_BLANKS}"
    )


class Cut(Struct, frozen=True):
    """How a vocabulary cuts a text into words before it merges.

    Attributes:
        patterns: Each cuts what the one before it left; what matches is a word.
        whole_words: A word that is a token is taken as it is, whatever its merges say.
    """

    patterns: tuple[str, ...]
    whole_words: bool = False


_LLAMA3 = Cut((_words(r"\p{N}{1,3}"),), whole_words=True)
_QWEN2 = Cut((_words(r"\p{N}"),))
_O200K = Cut((_cased_words(f"(?i:{_CONTRACTION})?", r"\p{N}{1,3}"),))
_TEKKEN = Cut((_cased_words("", r"\p{N}"),), whole_words=True)

PATTERNS: Final[Mapping[str, Cut]] = {
    "default": Cut((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]")),
    "gpt-2": Cut((_GPT2 + r"|\s+",)),
    "phi-2": Cut((_GPT2 + r"|\s+",)),
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "llama-bpe": _LLAMA3,
    "falcon3": _LLAMA3,
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
    "gpt-4o": _O200K,
    "llama4": _O200K,
    "tekken": _TEKKEN,
}
"""By llama.cpp's name of a pre-tokenizer (`tokenizer.ggml.pre`)."""

_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4  # of `tokenizer.ggml.token_type`


def from_gguf(header: GgufHeader) -> Tokenizer:
    """The vocabulary in a GGUF file's metadata.

    Raises:
        ConfigError: it has none, or one of a kind that is not known here.
    """
    tokens = _list(header, "tokenizer.ggml.tokens", str)
    if not tokens:
        raise ConfigError(f"{header.name}: it holds no vocabulary (tokenizer.ggml.tokens)")
    types = _list(header, "tokenizer.ggml.token_type", int) or [1] * len(tokens)
    if len(types) != len(tokens):
        raise ConfigError(
            f"{header.name}: {len(tokens)} tokens, but tokenizer.ggml.token_type has {len(types)}"
        )
    added = [
        _added(token_id, token, special=kind != _USER_DEFINED)
        for token_id, (token, kind) in enumerate(zip(tokens, types, strict=True))
        if kind in (_UNKNOWN, _CONTROL, _USER_DEFINED)
    ]
    vocabulary = {token: token_id for token_id, token in enumerate(tokens)}
    model = header.get("tokenizer.ggml.model", str, "")
    if model == "gpt2":
        name = header.get("tokenizer.ggml.pre", str, "default")
        cut = PATTERNS.get(name)
        if cut is None:
            raise ConfigError(
                f"{header.name}: the pre-tokenizer {name!r} is not known here (tokenizer.ggml.pre);"
                f" known are {', '.join(PATTERNS)}. Give the model's tokenizer.json instead."
            )
        merges = [merge.split(" ", 1) for merge in _list(header, "tokenizer.ggml.merges", str)]
        return _made(header.name, _byte_level(vocabulary, merges, cut, added))
    if model == "llama":
        scores = _list(header, "tokenizer.ggml.scores", float)
        if len(scores) != len(tokens):
            raise ConfigError(
                f"{header.name}: {len(tokens)} tokens, but tokenizer.ggml.scores has {len(scores)}"
            )
        prefix = header.get("tokenizer.ggml.add_space_prefix", bool, default=True)
        unknown = header.get("tokenizer.ggml.unknown_token_id", int, 0)
        return _made(
            header.name,
            _sentence_piece(vocabulary, scores, added, tokens[unknown % len(tokens)], prefix),
        )
    raise ConfigError(
        f"{header.name}: a vocabulary of kind {model!r} is not known here "
        "(tokenizer.ggml.model); give the model's tokenizer.json instead"
    )


def from_ranks(
    ranks: Mapping[bytes, int], cut: Cut, special: Mapping[str, int], name: str = "ranks"
) -> Tokenizer:
    """A byte-level vocabulary of ranked tokens. Takes about a second for 200,000.

    Args:
        ranks: Id of each token, which is also its rank: lower ones are merged first.
        cut: How text is cut into words.
        special: Ids of the special tokens, by name.
        name: Where they come from, for messages.

    Raises:
        ConfigError: an id is there twice.
    """
    signs = {byte: sign for sign, byte in byte_of_sign().items()}

    def spelled(token: bytes) -> str:
        return "".join([signs[byte] for byte in token])

    vocabulary = {spelled(token): token_id for token, token_id in ranks.items()}
    if len({*ranks.values(), *special.values()}) != len(ranks) + len(special):
        raise ConfigError(f"{name}: an id stands for two tokens")
    merges = [[spelled(a), spelled(b)] for a, b in _implied(ranks, ranks.__getitem__)]
    added = [_added(token_id, token, special=True) for token, token_id in special.items()]
    vocabulary |= special  # or the library gives them ids of its own
    whole = Cut(cut.patterns, whole_words=True)
    return _made(name, _byte_level(vocabulary, merges, whole, added))


def read_ranks(path: str | Path) -> dict[bytes, int]:
    """Read a file of tiktoken's: on each line a token in base64 and its rank.

    Raises:
        ConfigError: the file cannot be read or is of another kind.
    """
    try:
        lines = Path(path).read_bytes().splitlines()
        pairs = [line.split() for line in lines if line]
        return {base64.b64decode(token, validate=True): int(rank) for token, rank in pairs}
    except OSError as error:
        raise ConfigError(f"cannot read the vocabulary {str(path)!r}: {error}") from error
    except (ValueError, binascii.Error) as error:
        raise ConfigError(f"{path}: not a file of ranks: {error}") from error


class _TekkenToken(Struct):
    rank: int
    token_bytes: str


class _TekkenSpecial(Struct):
    rank: int
    token_str: str


class _TekkenConfig(Struct):
    pattern: str
    default_vocab_size: int
    default_num_special_tokens: int


class _Tekken(Struct):
    config: _TekkenConfig
    vocab: list[_TekkenToken]
    special_tokens: list[_TekkenSpecial] | None = None


# Files of before there was a list of them (2024) leave out what every Mistral model has.
_TEKKEN_SPECIAL: Final = (
    *("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]"),
    *("[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]"),
    *("[IMG_END]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
    "[TOOL_CONTENT]",
)


def from_tekken(path: str | Path) -> Tokenizer:
    """Read a `tekken.json`.

    Raises:
        ConfigError: the file cannot be read or is of another kind.
    """
    try:
        tekken = msgspec.json.decode(Path(path).read_bytes(), type=_Tekken)
        num_special = tekken.config.default_num_special_tokens
        kept = tekken.config.default_vocab_size - num_special
        ranks = {
            base64.b64decode(token.token_bytes): token.rank + num_special
            for token in tekken.vocab[:kept]
        }
    except OSError as error:
        raise ConfigError(f"cannot read the vocabulary {str(path)!r}: {error}") from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise ConfigError(f"{path}: not a tekken.json: {error}") from error
    if tekken.special_tokens is not None:
        special = {token.token_str: token.rank for token in tekken.special_tokens}
    else:
        special = {name: token_id for token_id, name in enumerate(_TEKKEN_SPECIAL)}
    for token_id in range(len(special), num_special):
        special.setdefault(f"<SPECIAL_{token_id}>", token_id)
    cut = Cut((tekken.config.pattern,), whole_words=True)
    return from_ranks(ranks, cut, special, str(path))


def _list(header: GgufHeader, key: str, kind: type[Any]) -> list[Any]:
    values = header.get(key, tuple, ())
    for value in values[:1]:
        if not isinstance(value, kind):
            raise ConfigError(f"{header.name}: {key} is not a list of {kind.__name__}")
    return list(values)


def _implied(tokens: Iterable[T], rank: Callable[[T], float]) -> list[tuple[T, T]]:
    """Every way to make a token of two others, in the order of the tokens' ranks."""
    known = set(tokens)
    found: list[tuple[T, T]] = []
    for token in sorted(known, key=rank):
        splits = [(token[:at], token[at:]) for at in range(1, len(token))]
        found += sorted(
            [(a, b) for a, b in splits if a in known and b in known],
            key=lambda pair: (rank(pair[0]), rank(pair[1])),
        )
    return found


def _added(token_id: int, token: str, *, special: bool) -> Json:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": token_id, "content": token, "special": special, **flags}


def _byte_level(
    vocabulary: Mapping[str, int], merges: Sequence[Sequence[str]], cut: Cut, added: list[Json]
) -> Json:
    splits: list[Json] = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        for pattern in cut.patterns
    ]
    signs = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
    return {
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [*splits, {**signs, "use_regex": False}],
        },
        "decoder": {**signs, "use_regex": False},
        "model": _bpe(vocabulary, merges, ignore_merges=cut.whole_words),
    }


def _sentence_piece(
    vocabulary: Mapping[str, int],
    scores: Sequence[float],
    added: list[Json],
    unknown: str,
    prefix: bool,
) -> Json:
    # Tags and bytes are never made of other tokens.
    tags = {str(token["content"]) for token in added}
    words = [t for t in vocabulary if t not in tags and not (len(t) == 6 and t[:3] == "<0x")]
    merges = _implied(words, lambda token: -scores[vocabulary[token]])
    blank = "\N{LOWER ONE EIGHTH BLOCK}"
    to_blank: Json = {"type": "Replace", "pattern": {"String": " "}, "content": blank}
    before: list[Json] = [{"type": "Prepend", "prepend": blank}] if prefix else []
    return {
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": [*before, to_blank]},
        "pre_tokenizer": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": blank}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": _bpe(vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True),
    }


def _bpe(vocabulary: Mapping[str, int], merges: Sequence[Sequence[str]], **fields: Any) -> Json:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": vocabulary,
        "merges": merges,
        **fields,
    }


def _made(name: str, tree: Json) -> Tokenizer:
    head = {"version": "1.0", "truncation": None, "padding": None, "post_processor": None}
    try:
        return Tokenizer(msgspec.json.encode({**head, **tree}).decode())
    except (ConfigError, UnicodeEncodeError) as error:
        raise ConfigError(f"{name}: the vocabulary cannot be used: {error}") from error
