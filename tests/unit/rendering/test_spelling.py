"""Tests of `turnwire.rendering.spelling`: families are found by what a template writes."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from turnwire.rendering.spelling import PROBE, Hole, Spelling, fitted
from turnwire.rendering.spellings import SPELLINGS

NAMED = Spelling(
    name="named", begin="<calls> ", call=("<c> ", Hole.NAME, ": ", Hole.ARGUMENTS, " </c>"),
    end=" </calls>",
)  # fmt: skip
ELEMENTS = Spelling(
    name="elements",
    call=("<c>", Hole.NAME, " ", Hole.ELEMENTS, "</c>"),
    element=("<", Hole.KEY, ' s="', Hole.STRING, '"> ', Hole.VALUE, " </> "),
)


def written(begin: str, call: str, between: str, end: str) -> list[str]:
    """What a template makes of the probe; `NAME` and `ARGS` are where they go."""
    found = []
    for message in PROBE:
        calls = [call.replace("NAME", c.name).replace("ARGS", c.arguments) for c in message.calls]
        found.append(f"q<a>{begin}{between.join(calls)}{end}<e>r")
    return found


def elements(call: str, element: str, between: str = "") -> list[str]:
    """The same with arguments one by one."""
    found = []
    for message in PROBE:
        calls = []
        for one in message.calls:
            parts = [
                element.replace("KEY", key).replace("VALUE", str(value)).replace(
                    "STRING", json.dumps(isinstance(value, str))
                )
                for key, value in (one.decoded() or {}).items()
            ]  # fmt: skip
            calls.append(call.replace("NAME", one.name).replace("ELEMENTS", "".join(parts)))
        found.append(between.join(calls) + "<e>")
    return found


def test_blanks_are_the_templates() -> None:
    """Where the spelling has a blank any may stand, and what stands there is kept."""
    found = fitted(NAMED, written("<calls>", "<c>\n  NAME:ARGS</c>", "\n\n", "\t</calls>"))
    assert found is not None
    assert ("<calls>", "\n\n", "\t</calls>") == (
        *(found.exact.begin, found.exact.between, found.exact.end),
    )
    assert ("<c>\n  ", Hole.NAME, ":", Hole.ARGUMENTS, "</c>") == found.exact.call
    assert (True, "<e>r") == (found.several, found.behind)
    assert NAMED == found.spelling


def test_arguments_one_by_one() -> None:
    """Elements are found with the blanks around their values, strings told from others."""
    text = elements("<c>NAME\nELEMENTS</c>", '<KEY s="STRING">\nVALUE\n</>\n')
    found = fitted(ELEMENTS, text)
    assert found is not None
    assert ("<", Hole.KEY, ' s="', Hole.STRING, '">\n', Hole.VALUE, "\n</>\n") == (
        found.exact.element
    )
    assert ("<c>", Hole.NAME, "\n", Hole.ELEMENTS, "</c>") == found.exact.call


def test_a_template_that_takes_one_call() -> None:
    """It is known by that one."""
    _, one = written("<calls>", "<c>NAME: ARGS</c>", "", "</calls>")
    found = fitted(NAMED, ["", one])
    assert found is not None
    assert not found.several


@pytest.mark.parametrize(
    "texts",
    [
        pytest.param(["", ""], id="refused"),
        pytest.param(written("<calls>", "<d>NAME: ARGS</d>", "", "</calls>"), id="other words"),
        pytest.param(written("<calls>", "<c>f: ARGS</c>", "", "</calls>"), id="another name"),
        pytest.param(written("<calls>", "<c>NAME: none</c>", "", "</calls>"), id="no arguments"),
        pytest.param(written("<calls>", "<c>NAME: ARGS</c>", "", ""), id="no end"),
    ],
)
def test_other_templates(texts: Sequence[str]) -> None:
    """A template that writes otherwise is not of the family."""
    assert fitted(NAMED, texts) is None


def test_literals_are_changed_everywhere() -> None:
    """Holes stay; every literal is changed, and all of them are listed."""
    for spelling in SPELLINGS:
        changed = spelling.mapped(str.upper)
        assert list(changed.literals()) == [one.upper() for one in spelling.literals()]
        assert [one for one in changed.call if isinstance(one, Hole)] == [
            one for one in spelling.call if isinstance(one, Hole)
        ]


@pytest.mark.parametrize("spelling", SPELLINGS, ids=lambda spelling: spelling.name)
def test_what_every_spelling_has(spelling: Spelling) -> None:
    """A name, arguments behind it, and a tag that opens calls."""
    assert spelling.place(Hole.NAME) < spelling.place(spelling.body)
    assert isinstance(spelling.tail[-1], str)
    opener = (spelling.begin or str(spelling.call[0])).split()[0]
    assert opener.startswith("<")
    assert all(word in str(spelling.call[0]) for word in spelling.also)
    assert (Hole.VALUE in spelling.element) == bool(spelling.element)
