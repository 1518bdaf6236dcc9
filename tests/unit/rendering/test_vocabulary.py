"""Tests of `turnwire.rendering.vocabulary`: other forms give the ids of `tokenizer.json`."""

from __future__ import annotations

import base64
import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.rendering.imitations import sentence_piece

from turnwire.errors import ConfigError
from turnwire.gguf import GgufHeader, Value
from turnwire.rendering.tokenizer import Tokenizer
from turnwire.rendering.vocabulary import (
    PATTERNS,
    Cut,
    from_gguf,
    from_ranks,
    from_tekken,
    read_ranks,
)

SHIPPED: dict[str, Any] = json.loads(
    (resources.files("turnwire.rendering") / "data" / "turnwire.json").read_text("utf-8")
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>")
TEXTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        [
            "Don't DON'T it's 12345678 HelloWorld\r\n\t x  \n\n",
            "<|im_end|><tool_call>",
            "日本語 émoji 👩‍👩‍👧 ünïcödé",
            "def f(x):\n    return  x\n\n\n",
        ]
    ),
)


def metadata(pre: str, **changes: Value) -> GgufHeader:
    """The shipped words as a GGUF file has them, tags as control and user-defined tokens."""
    vocabulary: dict[str, int] = SHIPPED["model"]["vocab"]
    names = {SHIPPED["added_tokens"][n]["content"] for n in range(len(SHIPPED["added_tokens"]))}
    words = [word for word in sorted(vocabulary, key=vocabulary.__getitem__) if word not in names]
    tokens = [*words, *SPECIAL]
    types = [1] * len(words) + [3, 3, 3, 4]
    merges = [" ".join(merge) for merge in SHIPPED["model"]["merges"]]
    values: dict[str, Value] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tuple(tokens),
        "tokenizer.ggml.token_type": tuple(types),
        "tokenizer.ggml.merges": tuple(merges),
    }
    return GgufHeader("m.gguf", 3, 0, {**values, **changes})


def reference(pre: str) -> Tokenizer:
    """The same words as Hugging Face's file has them."""
    header = metadata(pre)
    tree = json.loads(json.dumps(SHIPPED))
    tokens = header.get("tokenizer.ggml.tokens", tuple, ())
    tree["model"]["vocab"] = {token: n for n, token in enumerate(tokens)}
    tree["model"]["ignore_merges"] = PATTERNS[pre].whole_words
    tree["added_tokens"] = [
        {
            "id": tokens.index(name),
            "content": name,
            "special": name != "<tool_call>",
            **dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False),
        }
        for name in SPECIAL
    ]
    tree["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [
            *(
                {"type": "Split", "pattern": {"Regex": p}, "behavior": "Isolated", "invert": False}
                for p in PATTERNS[pre].patterns
            ),
            {
                "type": "ByteLevel",
                "add_prefix_space": False,
                "use_regex": False,
                "trim_offsets": False,
            },
        ],
    }
    return Tokenizer(json.dumps(tree))


@pytest.mark.parametrize("pre", PATTERNS)
def test_a_gguf_file_gives_the_ids_of_tokenizer_json(pre: str) -> None:
    """Words, merges and special tokens arrive, whatever the pre-tokenizer."""
    ours, theirs = from_gguf(metadata(pre)), reference(pre)
    assert theirs.special == ours.special
    assert theirs.token_bytes() == ours.token_bytes()
    for text in ("Don't 12345 HelloWorld\r\n\n  x", "<|im_end|>", "größe 日本 👩‍👩‍👧", " ", ""):
        assert theirs.encode(text) == ours.encode(text)


BYTE_LEVEL = from_gguf(metadata("qwen2"))


@given(TEXTS)
def test_texts_come_back_and_hold_no_tag(text: str) -> None:
    """Not even a tag that the vocabulary calls an ordinary added token."""
    ids = BYTE_LEVEL.encode(text)
    assert text == BYTE_LEVEL.text_of(ids)
    assert set() == set(ids) & set(BYTE_LEVEL.special.values())
    assert set(SPECIAL) == set(BYTE_LEVEL.special)


@pytest.mark.parametrize("prefix", [True, False])
def test_sentence_piece(prefix: bool) -> None:
    """Words are joined by score, blanks are signs, and what is in no word is bytes."""
    tokenizer = sentence_piece(("<s>", "</s>"), prefix=prefix)
    assert prefix == tokenizer.prefix_space
    table = tokenizer.token_bytes()
    ids = tokenizer.encode(" Hello the é")
    blanks = b"  " if prefix else b" "
    expected = [blanks, b"Hello", b" the", b" ", b"\xc3", b"\xa9"]
    assert expected == [table[token_id] for token_id in ids]
    assert {"<unk>", "<s>", "</s>"} == set(tokenizer.special)


PIECES = sentence_piece(("<s>", "</s>", "[INST]"), prefix=True)


@given(TEXTS)
def test_sentence_piece_gives_texts_back(text: str) -> None:
    """All but the sign that blanks are written with, which is a blank to such a vocabulary."""
    text = text.replace("\N{LOWER ONE EIGHTH BLOCK}", "")
    ids = PIECES.encode(text)
    assert text == PIECES.text_of(ids)
    assert set() == set(ids) & set(PIECES.special.values())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"tokenizer.ggml.tokens": ()}, "holds no vocabulary", id="none"),
        pytest.param({"tokenizer.ggml.tokens": (1, 2)}, "is not a list of str", id="numbers"),
        pytest.param({"tokenizer.ggml.token_type": (1,)}, "token_type has 1", id="types"),
        pytest.param({"tokenizer.ggml.model": "bert"}, "kind 'bert' is not known", id="kind"),
        pytest.param({"tokenizer.ggml.pre": "odd"}, "'odd' is not known here", id="pre"),
        pytest.param({"tokenizer.ggml.merges": ("zz qq",)}, "cannot be used", id="merges"),
        pytest.param({"tokenizer.ggml.model": "llama"}, "scores has 0", id="no scores"),
    ],
)
def test_vocabularies_that_cannot_be_used(changes: dict[str, Value], reason: str) -> None:
    """The message names the file, the key and what is wrong."""
    with pytest.raises(ConfigError, match=f"m.gguf: .*{reason}"):
        from_gguf(metadata("qwen2", **changes))


def ranked() -> dict[bytes, int]:
    """The 256 bytes and some words, by rank."""
    words = [b"he", b"ll", b"hell", b"hello", b" w", b"or", b" wor", b"\xc3\xa9", b"12"]
    return {token: n for n, token in enumerate([*(bytes((b,)) for b in range(256)), *words])}


def test_ranks(tmp_path: Path) -> None:
    """Pairs are merged by the rank of what they make; a word that is a token is taken whole."""
    lines = [b"%s %d" % (base64.b64encode(token), n) for token, n in ranked().items()]
    path = tmp_path / "x.tiktoken"
    path.write_bytes(b"\n".join(lines) + b"\n")
    assert ranked() == read_ranks(path)
    tokenizer = from_ranks(read_ranks(path), PATTERNS["gpt-4o"], {"<|end|>": 300})
    table = tokenizer.token_bytes()
    ids = tokenizer.encode("hello worhellé 123<|end|>")
    assert [b"hello", b" wor", b"hell", b"\xc3\xa9", b" ", b"12", b"3"] == [
        table[token_id] for token_id in ids[:7]
    ]
    assert 300 not in ids
    assert {"<|end|>": 300} == dict(tokenizer.special)


def test_ranks_that_cannot_be_used(tmp_path: Path) -> None:
    """Files that are none, and ids for two tokens, are refused."""
    for content in (b"a b c", b"!! 1", b"YQ== x"):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(ConfigError, match="not a file of ranks"):
            read_ranks(tmp_path / "x")
    with pytest.raises(ConfigError, match="cannot read"):
        read_ranks(tmp_path / "gone")
    with pytest.raises(ConfigError, match="two tokens"):
        from_ranks(ranked(), Cut(()), {"<a>": 0})


def tekken(**changes: Any) -> dict[str, Any]:
    """A small `tekken.json`."""
    vocab = [
        {"rank": rank, "token_bytes": base64.b64encode(token).decode(), "token_str": None}
        for token, rank in ranked().items()
    ]
    config = {
        "pattern": PATTERNS["tekken"].patterns[0],
        "default_vocab_size": 30 + 260,
        "default_num_special_tokens": 30,
    }
    return {"config": config, "vocab": vocab, **changes}


def test_tekken(tmp_path: Path) -> None:
    """Special tokens come first, words behind them, as many as the file says."""
    path = tmp_path / "tekken.json"
    path.write_text(json.dumps(tekken()))
    tokenizer = from_tekken(path)
    assert (290, 1, 3) == (
        tokenizer.vocab_size,
        tokenizer.special["<s>"],
        tokenizer.special["[INST]"],
    )
    assert 29 == tokenizer.special["<SPECIAL_29>"]
    assert [30 + 259] == list(tokenizer.encode("hello"))
    named = [{"rank": 0, "token_str": "<a>", "is_control": True}]
    path.write_text(json.dumps(tekken(special_tokens=named)))
    assert 0 == from_tekken(path).special["<a>"]
    for content in ("{}", "[", json.dumps(tekken(vocab=[{"rank": 0, "token_bytes": "x"}]))):
        path.write_text(content)
        with pytest.raises(ConfigError, match=r"not a tekken\.json"):
            from_tekken(path)
    with pytest.raises(ConfigError, match="cannot read"):
        from_tekken(tmp_path / "gone")
