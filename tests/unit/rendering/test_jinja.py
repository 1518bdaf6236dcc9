"""Tests of `turnwire.rendering.jinja`: templates in a sandbox, and texts that stay texts."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.errors import ConfigError
from turnwire.rendering import jinja
from turnwire.rendering.jinja import ChatTemplate, Guard, TemplateRefused

SPECIAL = {"<|im_start|>": 1, "<|im_end|>": 2, "<think>": 3, "[INST]": 4, "<tool_call>": 5}
NAMES = {token_id: name for name, token_id in SPECIAL.items()}


def template(source: str, **how: Any) -> ChatTemplate:
    return ChatTemplate(source, SPECIAL, **how)


def rendered(source: str, **arguments: Any) -> str:
    """What a template makes, special tokens as `{id}`."""
    chat = template(source)
    pieces = chat.render(**{name: chat.guard.put_all(one) for name, one in arguments.items()})
    return "".join(f"{{{piece}}}" if isinstance(piece, int) else piece for piece in pieces)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param("<|im_start|>{{ x }}<|im_end|>", "{1}a<|im_end|>{2}", id="tags and text"),
        pytest.param("{{ '<|im_start|>' + x }}", "{1}a<|im_end|>", id="in an expression"),
        pytest.param("<{{ y }}>", "<think>", id="a tag around a text"),
        pytest.param("<{{ z }}", "<think> b", id="a tag that a text completes"),
        pytest.param("<th{{ w }}k>", "<think>", id="a tag with a text in its middle"),
        pytest.param("{{ x | tojson }}", '"a<|im_end|>"', id="JSON"),
        pytest.param("{{ t | tojson }}", '{"<think>": ["<é>"]}', id="JSON of structures"),
        pytest.param("{{ t | tojson(indent=1) }}", '{\n "<think>": [\n  "<é>"\n ]\n}', id="indent"),
        pytest.param("{{ x | trim | length > 0 }}", "True", id="filters"),
        pytest.param("{{ n.role == 'tool' }}", "True", id="words are as they were"),
        pytest.param("{{ n.kind == 'object' }}", "True", id="so are the words of schemas"),
        pytest.param("{% if x %}\n  a\n  {% endif %}\nb", "  a\nb", id="blocks are trimmed"),
        pytest.param(
            "{% for i in [1, 2, 3] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}",
            "1",
            id="loop controls",
        ),
        pytest.param("{% generation %}a{% endgeneration %}b", "ab", id="generation"),
        pytest.param("{{ x[:1] }}", "a", id="slices"),
    ],
)
def test_rendering(source: str, expected: str) -> None:
    """A template's tags are tokens, and texts given to it never are."""
    assert expected == rendered(
        source,
        x="a<|im_end|>",
        y="think",
        z="think> b",
        w="in",
        t={"<think>": ["<é>"]},
        n={"role": "tool", "kind": "object"},
    )


@pytest.mark.parametrize("text", ["a<|im_end|>", "\\ufdd01<", "\\\\ufdd00", "\ufdd0<"])
def test_texts_that_a_template_prints_in_a_list(text: str) -> None:
    """Python shows them with escapes; what guards them does not show, and they are as they were."""
    assert f"{text}{[text.replace(chr(0xFDD0), '?')]}" == (
        rendered("{{ x }}{{ [x] }}", x=text).replace("['\ufdd0", "['?")
    )


HOSTILE = st.text(st.sampled_from("<|im_startend>[INSThk/\ufdd00 1"), max_size=24)
SOURCES = (
    "<|im_start|>{{ a }}\n{{ b }}<|im_end|>",
    "{{ a }}{{ b }}{{ a }}",
    "<{{ a }}>|<|{{ b }}|>[{{ a }}]",
    "<|im_{{ a }}|><th{{ b }}",
    "{{ {'x': a, b: [a]} | tojson }}",
    "{% set c = a + b %}{{ c }}{{ c | trim }}{{ (a ~ '|>') | replace('x', b) }}",
)


@given(HOSTILE, HOSTILE, st.sampled_from(SOURCES))
def test_no_text_becomes_a_tag(a: str, b: str, source: str) -> None:
    """The tokens are those of the template's own tags, whatever the texts are."""
    own = [SPECIAL[name] for name in re.findall(r"<\|im_start\|>|<\|im_end\|>", source)]
    chat = template(source)
    pieces = chat.render(a=chat.guard.put(a), b=chat.guard.put(b))
    assert own == [piece for piece in pieces if isinstance(piece, int)]


@given(HOSTILE, st.text(max_size=20))
def test_texts_come_back_as_they_were(a: str, b: str) -> None:
    """Guards are taken out again; what looks like one stays."""
    chat = template("{{ a }}\x00{{ b }}")
    pieces = chat.render(a=chat.guard.put(a), b=chat.guard.put(b))
    assert f"{a}\x00{b}" == "".join(str(piece) for piece in pieces)


def test_a_guard_without_tags() -> None:
    """A vocabulary without special tokens has nothing to guard."""
    guard = Guard((), "{{ x }}")
    assert "<a>" == guard.put("<a>")
    assert ["<a>"] == guard.taken("<a>", {})


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        pytest.param("{{ raise_exception('Roles.') }}", "Roles.", id="its own exception"),
        pytest.param("{{ x.y.z }}", "UndefinedError", id="an undefined value"),
        pytest.param("{{ 1 + 'a' }}", "TypeError", id="a wrong type"),
        pytest.param("{{ 'a' * 100000000 }}", "'*'", id="a long text"),
        pytest.param("{{ [1] * 100000000 }}", "'*'", id="a long list"),
        pytest.param("{{ 2 ** 100000000 }}", "'**'", id="a large number"),
        pytest.param("{{ range(100000000) }}", "OverflowError", id="a long range"),
        pytest.param("{{ l.append(1) }}", "SecurityError", id="a changed argument"),
        pytest.param("{{ ''.__class__.__mro__ }}", "unsafe", id="a way out"),
        pytest.param("{% include 'x' %}", "TypeError", id="another file"),
    ],
)
def test_what_a_template_may_not_do(source: str, reason: str) -> None:
    """Failures of a template are refusals with a reason; it reaches nothing of ours."""
    chat = template(source)
    with pytest.raises(TemplateRefused, match=re.escape(reason)):
        chat.render(l=[])


def test_time_and_size_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A template that goes on for ever, or talks for ever, is stopped."""
    monkeypatch.setattr(jinja, "MAX_SEC", -1.0)
    with pytest.raises(TemplateRefused, match="takes longer"):
        template("{% for i in range(9) %}{{ i }}{% endfor %}").render()
    with pytest.raises(TemplateRefused, match="takes longer"):
        template("{% for i in range(9) %}{% set x = range(9) %}{% endfor %}").render()
    monkeypatch.undo()
    monkeypatch.setattr(jinja, "MAX_CHARS", 1000)
    talks = "{% for i in range(9999) %}{{ i }}{% endfor %}"
    doubles = "{% set n.x = n.x ~ n.x %}"
    grows = f"{{% set n = namespace(x='a') %}}{{% for i in range(99) %}}{doubles}{{% endfor %}}"
    for source in (talks, grows):
        with pytest.raises(TemplateRefused, match="more than 1000"):
            template(source).render()


@pytest.mark.parametrize(
    "source", ["{% if %}", "{{ ", "{% for %}", "{{ x | nofilter }}", "x" * 300_000]
)
def test_what_is_no_template(source: str) -> None:
    """A source that cannot be compiled is a fault of the configuration."""
    with pytest.raises(ConfigError, match="chat template"):
        template(source)


def test_time_stands_still() -> None:
    """A template sees the time of loading, and the variables that it was given."""
    times = iter([datetime(2026, 1, 2), datetime(2027, 1, 2)])
    chat = template(
        "{{ strftime_now('%Y-%m-%d') }} {{ bos_token }}",
        now=lambda: next(times),
        variables={"bos_token": "<think>"},
    )
    expected = ["2026-01-02 ", 3]
    assert expected == chat.render()
    assert expected == chat.render()
