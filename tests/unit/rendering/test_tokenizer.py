"""Tests of `turnwire.rendering.tokenizer`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.errors import ConfigError
from turnwire.rendering.tokenizer import Tokenizer

TOKENIZER = Tokenizer.shipped()
NAMES = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
TEXTS = st.lists(
    st.one_of(
        st.text(max_size=20),
        st.sampled_from(
            (*NAMES, "<tool_call>", "</tool_call>", "\r\n\n", "  \t", "👩‍👩‍👧", "e\u0301")
        ),
    ),
    max_size=8,
).map("".join)


@given(TEXTS)
def test_text_comes_back_as_it_was_and_holds_no_special_token(text: str) -> None:
    """Any text, look-alikes of special tokens included, is plain tokens that decode to it."""
    ids = TOKENIZER.encode(text)
    assert text == TOKENIZER.decode(ids)
    assert set() == set(ids) & set(TOKENIZER.special.values())


@given(st.lists(TEXTS, max_size=4))
def test_a_batch_is_each_text_alone(texts: list[str]) -> None:
    """Encoding texts together gives the ids of each."""
    assert [TOKENIZER.encode(text) for text in texts] == TOKENIZER.encode_batch(texts)


@pytest.mark.parametrize("role", ["user", "assistant", "system", "developer", "tool"])
def test_roles_are_one_token(role: str) -> None:
    """A role costs one token in a turn's header."""
    assert 1 == len(TOKENIZER.encode(role))


@pytest.mark.parametrize("name", NAMES)
def test_special_tokens_are_known_by_name(name: str) -> None:
    """A special token's bytes are its name."""
    assert name.encode() == TOKENIZER.token_bytes()[TOKENIZER.special[name]]


def test_every_id_has_bytes_and_no_two_have_the_same() -> None:
    """The table covers the vocabulary, each of the 256 bytes alone among it."""
    table = TOKENIZER.token_bytes()
    assert TOKENIZER.vocab_size == len(table) == len(set(table))
    assert set() == {bytes([byte]) for byte in range(256)} - set(table)


def test_the_shipped_vocabulary_is_loaded_once_and_is_small() -> None:
    """`shipped` is one object, between 8k and 16k tokens."""
    assert Tokenizer.shipped() is TOKENIZER
    assert 8_000 <= TOKENIZER.vocab_size <= 16_384


def test_unfinished_characters_decode_to_the_replacement_sign() -> None:
    """Ids that are no whole character give U+FFFD, not an error."""
    table = TOKENIZER.token_bytes()
    assert "a\ufffd" == TOKENIZER.decode([table.index(b"a"), table.index(b"\xe2")])


def test_equal_files_have_equal_fingerprints(tmp_path: Path) -> None:
    """The fingerprint follows the file's content and nothing else."""
    data = TOKENIZER.to_json()
    (tmp_path / "same.json").write_text(data, "utf-8")
    changed = json.loads(data)
    changed["added_tokens"].pop()
    (tmp_path / "other.json").write_text(json.dumps(changed), "utf-8")
    assert TOKENIZER.fingerprint == Tokenizer.load(tmp_path / "same.json").fingerprint
    assert TOKENIZER.fingerprint != Tokenizer.load(tmp_path / "other.json").fingerprint


WORD_LEVEL = {
    "version": "1.0",
    "added_tokens": [],
    "model": {"type": "WordLevel", "vocab": {"a b": 0, "[UNK]": 1}, "unk_token": "[UNK]"},
}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(None, "cannot read", id="no file"),
        pytest.param("{}", "not a tokenizer.json", id="other JSON"),
        pytest.param(json.dumps(WORD_LEVEL), "not a byte-level", id="other kind"),
    ],
)
def test_what_is_no_vocabulary_is_a_config_error(
    tmp_path: Path, content: str | None, words: str
) -> None:
    """A file that cannot be used is refused with its reason."""
    file = tmp_path / "tokenizer.json"
    if content is not None:
        file.write_text(content, "utf-8")
    with pytest.raises(ConfigError, match=words):
        Tokenizer.load(file)


def test_llguidance_sees_the_same_vocabulary() -> None:
    """The constraint library maps ids to the same bytes."""
    ids = TOKENIZER.encode('naïve {"a": 1}\n日本')
    assert TOKENIZER.vocab_size == TOKENIZER.guidance.vocab_size
    assert TOKENIZER.decode(ids).encode() == TOKENIZER.guidance.decode_bytes(list(ids))


def test_a_tag_is_special_whatever_the_file_says() -> None:
    """An added token that looks like a tag is no text; an added word and a run of blanks are."""
    tree = json.loads(TOKENIZER.to_json())
    free = 1 + max(tree["model"]["vocab"].values())
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    names = ("<tool_response>", "[INST]", "turnwire", "    ")
    tree["added_tokens"] += [
        {"id": free + n, "content": name, **flags} for n, name in enumerate(names)
    ]
    tokenizer = Tokenizer(json.dumps(tree))
    assert {"<tool_response>", "[INST]"} == tokenizer.special.keys() - TOKENIZER.special.keys()
    ids = set(tokenizer.encode("<tool_response> [INST] turnwire    x"))
    assert {free + 2, free + 3} == ids & set(range(free, free + 4))


def test_a_limit_on_length_is_not_obeyed() -> None:
    """Some files cut texts off; a prompt must be whole."""
    tree = json.loads(TOKENIZER.to_json())
    tree["truncation"] = {
        "max_length": 4,
        "strategy": "LongestFirst",
        "direction": "Right",
        "stride": 0,
    }
    text = "one two three four five six"
    assert text == Tokenizer(json.dumps(tree)).text_of(TOKENIZER.encode(text))
    assert TOKENIZER.encode(text) == Tokenizer(json.dumps(tree)).encode(text)


def test_no_blank_in_front_inside_a_prompt() -> None:
    """Where a vocabulary puts a blank before the first text only, no text here is the first."""
    tree: dict[str, object] = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Metaspace",
            "replacement": "\N{LOWER ONE EIGHTH BLOCK}",
            "prepend_scheme": "first",
            "split": False,
        },
        "post_processor": None,
        "decoder": {
            "type": "Metaspace",
            "replacement": "\N{LOWER ONE EIGHTH BLOCK}",
            "prepend_scheme": "first",
            "split": False,
        },
        "model": {
            "type": "BPE",
            "unk_token": None,
            "vocab": {"\N{LOWER ONE EIGHTH BLOCK}": 0, "a": 1, "<0x41>": 2},
            "merges": [],
        },
    }
    tokenizer = Tokenizer(json.dumps(tree))
    assert [1, 0, 1] == list(tokenizer.encode("a a"))
    assert not tokenizer.prefix_space
    assert (b" ", b"a", b"A") == tuple(tokenizer.token_bytes())
