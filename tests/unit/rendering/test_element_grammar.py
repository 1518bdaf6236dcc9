"""Tests of `turnwire.rendering.element_grammar`: what its rules let through, by llguidance."""

from __future__ import annotations

from typing import Any

import pytest
from llguidance import LLMatcher
from tests.unit.rendering.imitations import byte_level, encoded

from turnwire.rendering.element_grammar import ElementPieces, element_rules

TOKENIZER = byte_level(("<end>", "</v>"))
AS_TEXT = ElementPieces(
    first=("<p=",), before_text=(">\n",), before_json=(">\n",), last=("\n</p>\n",)
)
AS_TOKENS = ElementPieces(
    first=("<p=",),
    before_text=(' s="true">',),
    before_json=(' s="false">',),
    last=(TOKENIZER.special["</v>"],),
)


def obeys(schema: dict[str, Any], pieces: ElementPieces, text: str) -> bool:
    """Whether the whole text is what the rules say."""
    rules = dict(element_rules("start", {"type": "object", **schema}, pieces))
    grammar = "".join(f"{name}: {body}\n" for name, body in rules.items())
    matcher = LLMatcher(TOKENIZER.guidance, grammar, log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    ids = list(encoded(TOKENIZER, text))
    return bool(matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting())


def element(key: str, value: str) -> str:
    return f"<p={key}>\n{value}\n</p>\n"


NAMED = {"p": {"type": "string"}, "n": {"type": "integer"}}


@pytest.mark.parametrize(
    ("schema", "text", "taken"),
    [
        pytest.param({"properties": {}}, "", True, id="none"),
        pytest.param({"properties": NAMED, "required": ["p", "n"]},
                     element("p", "a") + element("n", "7"), True, id="in order"),
        pytest.param({"properties": NAMED, "required": ["p", "n"]},
                     element("n", "7") + element("p", "a"), False, id="out of order"),
        pytest.param({"properties": NAMED, "required": ["n"]}, element("n", "7"), True,
                     id="one may be left out"),
        pytest.param({"properties": NAMED, "required": ["p"]}, element("n", "7"), False,
                     id="one is missing"),
        pytest.param({"properties": NAMED}, element("n", '"7"'), False, id="no number"),
        pytest.param({"properties": NAMED}, element("p", "</p> <p=\n\n"), True, id="tags in text"),
        pytest.param({"properties": {"p": {"enum": ["a b", 7, {"k": [1]}]}}},
                     element("p", "a b"), True, id="one of some"),
        pytest.param({"properties": {"p": {"enum": ["a b", 7]}}}, element("p", "7"), True,
                     id="a number of some"),
        pytest.param({"properties": {"p": {"enum": ["a b", 7]}}}, element("p", "8"), False,
                     id="none of them"),
        pytest.param({"properties": {"p": {"const": "x"}}}, element("p", "x"), True, id="const"),
        pytest.param({"properties": {"p": {"type": "string", "pattern": "^a+$"}}},
                     element("p", "aa"), True, id="a pattern"),
        pytest.param({"properties": {"p": {"type": "string", "pattern": "^a+$"}}},
                     element("p", "ab"), False, id="not the pattern"),
        pytest.param({"properties": {"p": {"type": "string", "pattern": "^x?a/by$"}}},
                     element("p", "xa/by"), True, id="a slash in a pattern"),
        pytest.param({"properties": {"p": {"type": "string", "pattern": "^a|b$"}}},
                     element("p", "any"), True, id="a pattern that is not held"),
        pytest.param({"properties": {"p": {"type": "string", "maxLength": 2}}},
                     element("p", "éé"), True, id="short"),
        pytest.param({"properties": {"p": {"type": "string", "maxLength": 2}}},
                     element("p", "aaa"), False, id="too long"),
        pytest.param({"properties": {"p": {"type": "string", "minLength": 2}}},
                     element("p", "a"), False, id="too short"),
        pytest.param({"properties": {"p": {"type": "string", "maxLength": 9999}}},
                     element("p", "a"), True, id="a length that is not held"),
        pytest.param({"properties": {"p": {"$ref": "#/$defs/d"}},
                      "$defs": {"d": {"type": "array", "items": {"$ref": "#/$defs/e"}},
                                "e": {"type": "null"}}},
                     element("p", "[null]"), True, id="definitions"),
        pytest.param({"properties": {"p": {"$ref": "#/$defs/d"}}, "$defs": {"d": {"enum": ["x"]}}},
                     element("p", "y"), False, id="a definition of some values"),
        pytest.param({}, element("any-thing", "x") + element("b", "{"), True, id="no schema"),
        pytest.param({"properties": NAMED, "patternProperties": {}}, element("z", "x"), True,
                     id="a schema that is not held"),
        pytest.param({}, element("a b", "x"), False, id="no key"),
    ],
)  # fmt: skip
def test_elements(schema: dict[str, Any], text: str, taken: bool) -> None:
    """In the schema's order, strings as they are, all else as JSON."""
    assert taken == obeys(schema, AS_TEXT, text)


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ('<p=p s="true">\n</v>\n</v>', False),
        ('<p=p s="true"> any </p> "text" </v>', True),
        ('<p=p s="true">a</v><p=n s="false">7</v>', True),
        ('<p=n s="true">7</v>', False),
    ],
)
def test_ends_that_are_tokens(text: str, taken: bool) -> None:
    """A value is any text without the token; what is no string is said to be none."""
    assert taken == obeys({"properties": NAMED}, AS_TOKENS, text)


def test_a_pattern_before_a_token() -> None:
    """It is held there too."""
    schema = {"properties": {"p": {"type": "string", "pattern": "^[ab]{2}$"}}}
    assert obeys(schema, AS_TOKENS, '<p=p s="true">ab</v>')
    assert not obeys(schema, AS_TOKENS, '<p=p s="true">abc</v>')


def test_names_of_rules_are_their_owners() -> None:
    """The first is the one that was asked for, and all begin with it."""
    names = [name for name, _ in element_rules("value3", {"properties": NAMED}, AS_TEXT)]
    assert "value3" == names[0]
    assert all(name.lower().startswith("value3") for name in names)
