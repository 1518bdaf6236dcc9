"""Tests of `turnwire.rendering.load`, `probe` and the families: the right template is found.

That a template, once found, gives the ids of a full resend is tested with token models
(`test_token_model_templates`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.rendering.imitations import (
    BARE,
    GEMMA,
    LLAMA3,
    QWEN2,
    QWEN3,
    TEMPLATES,
    byte_level,
    loaded,
    shown,
)

from turnwire.errors import ConfigError, InvalidRequest
from turnwire.gguf import GgufHeader, Value
from turnwire.protocol.items import (
    FunctionCall,
    FunctionCallOutput,
    InputText,
    Item,
    Message,
    OutputText,
    Role,
)
from turnwire.protocol.tools import EMPTY_TOOL_SET, OfferedTool, ToolSet
from turnwire.rendering.base import Template
from turnwire.rendering.chatml import Renderer
from turnwire.rendering.family import FamilyTemplate
from turnwire.rendering.generic import GenericTemplate
from turnwire.rendering.load import load_directory, load_gguf, load_template
from turnwire.rendering.probe import CONVERSATIONS
from turnwire.rendering.tokenizer import Tokenizer

TOOLS = ToolSet(
    raw=b"t", offered={"f": OfferedTool(name="f", description="D")}, echo=EMPTY_TOOL_SET.echo
)


@pytest.mark.parametrize(
    ("name", "family", "output", "append_only"),
    [
        ("qwen2", "hermes", "hermes", True),
        ("qwen2, tags as text", "hermes", "hermes", True),
        ("qwen3", "hermes", "hermes", False),
        ("qwen3, tags as text", "hermes", "hermes", False),
        ("llama3", "llama3", "llama3", True),
        ("mistral", "mistral", "mistral", False),
        ("mistral, named", "mistral", "mistral", False),
        ("harmony", "harmony", "harmony", False),
        ("gemma", "generic", "plain", True),
        ("bare", "generic", "plain", True),
        ("deepseek", "generic", "plain", True),
    ],
)
def test_what_is_found(name: str, family: str, output: str, append_only: bool) -> None:
    """Each family has its renderer and its parser, and is known to append or not to."""
    report = loaded(name).report
    assert (family, output, append_only) == (report.family, report.output, report.append_only)
    assert append_only == (not any("changes what" in one for one in report.reasons)) or (
        family == "harmony"
    )


def test_the_reasons_say_what_changes() -> None:
    """A person reads where a template takes something back, and why a renderer is not used."""
    assert "reasoning: a user's message changes what stood before it" in (
        loaded("qwen3").report.reasons
    )
    assert ("no renderer of ours knows this format",) == loaded("gemma").report.reasons


ODD = QWEN2.replace("<tool_response>", "<output>")


def test_a_template_of_its_own() -> None:
    """One that differs in a word is run as it is, unless a family is asked for."""
    tokenizer = byte_level(TEMPLATES["qwen2"][1])
    found = load_template(tokenizer, ODD, stop=frozenset((tokenizer.special["<|im_end|>"],)))
    assert isinstance(found.template, GenericTemplate)
    assert ("generic", "hermes") == (found.report.family, found.report.output)
    assert "our hermes renderer differs in calls: " in found.report.reasons[0]
    assert "<tool_response>" in found.report.reasons[0]
    asked = load_template(tokenizer, ODD, family="hermes")
    assert isinstance(asked.template, FamilyTemplate)
    assert found.report.reasons == asked.report.reasons
    generic = load_template(tokenizer, QWEN2, family="generic")
    assert isinstance(generic.template, GenericTemplate)
    assert found.template.fingerprint != generic.template.fingerprint


def prompt(template: Template, text: str, role: Role = "user", told: str | None = None) -> str:
    """A first prompt as text."""
    begun = template.start(told, EMPTY_TOOL_SET, None)
    item = Message(role=role, content=(InputText(text=text),))
    rendered = template.extend(begun.turn, [item], [None], [None])
    ids = begun.ids + rendered.ids + template.opening(rendered.turn, reasoning=False)
    return shown(template.tokenizer, ids)


@pytest.mark.parametrize(
    ("name", "told", "expected"),
    [
        pytest.param(
            "qwen2", None,
            "<|im_start|>system\nYou are a model.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
            "<|im_start|>assistant\n", id="its own system prompt",
        ),
        pytest.param(
            "qwen3", "Be brief.",
            "<|im_start|>system\nBe brief.\n\n<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
            "<|im_start|>assistant\n<think>\n\n</think>\n\n", id="an empty thought",
        ),
        pytest.param(
            "mistral", "Be brief.",
            "<s>[SYSTEM_PROMPT]Be brief.[/SYSTEM_PROMPT][INST]Hi[/INST]", id="tags in brackets",
        ),
        pytest.param(
            "gemma", "Be brief.",
            "<bos><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\n",
            id="no system message",
        ),
        pytest.param("bare", None, "### user:\nHi\n\n### assistant:\n", id="no special token"),
        pytest.param(
            "harmony", "Be brief.",
            "<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\n"
            "Knowledge cutoff: 2024-06\n\nReasoning: low\n\n# Valid channels: analysis, "
            "commentary, final. Channel must be included for every message.<|end|><|start|>"
            "developer<|message|># Instructions\n\nBe brief.<|end|><|start|>user<|message|>Hi"
            "<|end|><|start|>assistant", id="harmony",
        ),
    ],
)  # fmt: skip
def test_prompts(name: str, told: str | None, expected: str) -> None:
    """What a model is shown, in its own words."""
    assert expected == prompt(loaded(name).template, "Hi", told=told)


def test_a_clients_system_message_takes_the_place_of_the_templates() -> None:
    """Without instructions the first message may be the system prompt."""
    text = prompt(loaded("qwen2").template, "Mine.", "system")
    assert "<|im_start|>system\nMine.<|im_end|>\n<|im_start|>assistant\n" == text


def test_a_template_that_takes_no_such_conversation() -> None:
    """Its words reach the client, with the parameter at fault."""
    template = loaded("llama3", "generic").template
    begun = template.start(None, TOOLS, None)
    calls = [FunctionCall(call_id=f"c{n}", name="f", arguments="{}") for n in range(2)]
    items: list[Item] = [Message(role="user", content=(InputText(text="Hi"),)), *calls]
    with pytest.raises(InvalidRequest, match=r"does not take this conversation: One call\.") as e:
        template.extend(begun.turn, items, [None] * 3, [None] * 3)
    assert "input" == e.value.param


def test_our_own_format() -> None:
    """The shipped vocabulary has the shipped template, unless it comes with another."""
    shipped = Tokenizer.shipped()
    found = load_template(shipped, None)
    assert isinstance(found.template, Renderer)
    assert ("turnwire", True) == (found.report.family, found.report.append_only)
    other = load_template(shipped, QWEN3)
    assert "hermes" == other.report.family
    asked = load_template(shipped, QWEN3, family="turnwire")
    assert isinstance(asked.template, Renderer)


@pytest.mark.parametrize(
    ("special", "source", "family", "reason"),
    [
        pytest.param("qwen2", None, None, "no chat template", id="none"),
        pytest.param("qwen2", QWEN2, "qwen", "no template family 'qwen'", id="unknown family"),
        pytest.param("gemma", GEMMA, "llama3", "not of the family 'llama3'", id="another family"),
        pytest.param("gemma", GEMMA, "turnwire", "no special token", id="not our tokens"),
        pytest.param("qwen2", QWEN2, "harmony", "no special token", id="not harmony's tokens"),
        pytest.param("qwen2", "{% if %}", None, "cannot be read", id="no template"),
        pytest.param("qwen2", "{{ raise_exception('No.') }}", None, "No.", id="takes nothing"),
        pytest.param("none", BARE, None, "which token ends an answer", id="no end"),
    ],
)
def test_templates_that_cannot_be_used(
    special: str, source: str | None, family: str | None, reason: str
) -> None:
    """A fault of the model's files or of the configuration is named."""
    tokenizer = byte_level(TEMPLATES[special][1] if special in TEMPLATES else ())
    with pytest.raises(ConfigError, match=reason):
        load_template(tokenizer, source, family=family)


def test_the_probe_tries_what_is_hard() -> None:
    """Tools, reasoning, parallel calls and late system messages are in its conversations."""
    names = {conversation.name for conversation in CONVERSATIONS}
    assert len(CONVERSATIONS) == len(names)
    assert {"reasoning", "calls with instructions", "parallel calls"} <= names


HOSTILE = st.one_of(
    st.lists(
        st.sampled_from(
            [name for _, names in TEMPLATES.values() for name in names]
            + ["<", "|>", "im_end|>", "[", "INST]", "think", "\ufdd0", "1", "\n", " ", "user", '"']
        ),
        max_size=6,
    ).map("".join),
    st.text(max_size=10),
)


def tokens_of(template: Template, text: str) -> list[int]:
    """The special tokens of a prompt in which a text stands wherever a client can put one."""
    described = OfferedTool(
        name="f", description=text, parameters=json.dumps({text: text}).encode()
    )
    tools = ToolSet(raw=b"t", offered={"f": described}, echo=EMPTY_TOOL_SET.echo)
    begun = template.start(f"a{text}", tools, None)
    answer = Message(role="assistant", content=(OutputText(text=f"a{text}"),))
    items: list[Item] = [
        Message(role="user", content=(InputText(text=f"a{text}"),)),
        FunctionCall(call_id="c", name="f", arguments=json.dumps({f"a{text}": text})),
        FunctionCallOutput(call_id="c", output=f"a{text}"),
        answer,
        Message(role="user", content=(InputText(text=f"{text}a"),)),
    ]
    labels = [("f", 0) if isinstance(item, FunctionCallOutput) else None for item in items]
    rendered = template.extend(begun.turn, items, labels, [None] * len(items))
    ids = begun.ids + rendered.ids + template.opening(rendered.turn, reasoning=False)
    special = set(template.tokenizer.special.values())
    return [token_id for token_id in ids if token_id in special]


@pytest.mark.parametrize("family", [None, "generic"], ids=["ours", "its own"])
@pytest.mark.parametrize("name", [name for name in TEMPLATES if name != "gemma"])
@given(text=HOSTILE)
@settings(max_examples=25, deadline=None)
def test_no_text_becomes_a_special_token(name: str, family: str | None, text: str) -> None:
    """In messages, calls, outputs, schemas and instructions: a prompt has its template's tags."""
    template = loaded(name, family if TEMPLATES[name][0] is not None else None).template
    assert tokens_of(template, "x") == tokens_of(template, text)


# -- files


def header(source: str | None, **changes: Value) -> GgufHeader:
    """A GGUF file's head with the vocabulary of the Qwen after which `QWEN3` is made."""
    tokenizer = byte_level(TEMPLATES["qwen3"][1])
    tree = json.loads(tokenizer.to_json())
    words: dict[str, int] = tree["model"]["vocab"]
    tokens = sorted(words, key=words.__getitem__)
    names = [token["content"] for token in tree["added_tokens"]]
    values: dict[str, Value] = {
        "general.architecture": "qwen3",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": (*tokens, *names),
        "tokenizer.ggml.token_type": (*([1] * len(tokens)), *([3] * len(names))),
        "tokenizer.ggml.merges": tuple(" ".join(merge) for merge in tree["model"]["merges"]),
        "tokenizer.ggml.bos_token_id": len(tokens),
        "tokenizer.ggml.eos_token_id": len(tokens) + 2,
        **({"tokenizer.chat_template": source} if source is not None else {}),
    }
    return GgufHeader("qwen.gguf", 3, 0, {**values, **changes})


def test_a_gguf_file() -> None:
    """Vocabulary, template, and the tokens that end an answer come out of one file."""
    found = load_gguf(header(QWEN3))
    assert "hermes" == found.report.family
    assert {"<|im_end|>", "<|endoftext|>"} == {
        name
        for name, token_id in found.template.tokenizer.special.items()
        if token_id in found.template.stop
    }
    told = load_gguf(header("{{- eos_token }}" + QWEN3)).template
    assert prompt(told, "Hi").startswith("<|im_end|><|im_start|>user")


def test_a_token_in_front_of_everything() -> None:
    """Where the file says so it is there, even if the template does not write it; never twice."""
    begun = {"tokenizer.ggml.add_bos_token": True}
    for source in (QWEN3, "{{- bos_token }}" + QWEN3):
        text = prompt(load_gguf(header(source, **begun)).template, "Hi")
        assert text.startswith("<|endoftext|><|im_start|>user")
    assert prompt(load_gguf(header(QWEN3)).template, "Hi").startswith("<|im_start|>")


def test_a_template_for_tools_is_preferred() -> None:
    """Of several templates in a file the one for tools is taken; none at all is an error."""
    found = load_gguf(header(BARE, **{"tokenizer.chat_template.tool_use": QWEN3}))
    assert "hermes" == found.report.family
    with pytest.raises(ConfigError, match="no chat template"):
        load_gguf(header(None))


def write(folder: Path, **files: Any) -> Path:
    """A model's folder: the vocabulary of `LLAMA3`, and files by name."""
    tokenizer = byte_level(TEMPLATES["llama3"][1])
    (folder / "tokenizer.json").write_text(tokenizer.to_json(), "utf-8")
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name.replace("__", ".")).write_text(text, "utf-8")
    return folder


CONFIG = {
    "bos_token": {"content": "<|begin_of_text|>", "lstrip": False},
    "eos_token": "<|eot_id|>",
    "chat_template": LLAMA3,
    "add_bos_token": True,
}


@pytest.mark.parametrize(
    "template",
    [
        pytest.param(LLAMA3, id="one"),
        pytest.param(
            [{"name": "default", "template": BARE}, {"name": "tool_use", "template": LLAMA3}],
            id="several",
        ),
    ],
)
def test_a_folder(tmp_path: Path, template: object) -> None:
    """Hugging Face's layout: tokens as text or as objects, one template or several."""
    ends = {"eos_token_id": [3, 5]}
    config = {**CONFIG, "chat_template": template}
    found = load_directory(
        write(tmp_path, tokenizer_config__json=config, generation_config__json=ends)
    )
    assert "llama3" == found.report.family
    special = found.template.tokenizer.special
    names = ("<|eot_id|>", "<|eom_id|>", "<|end_of_text|>")
    assert {3, 5, *(special[name] for name in names)} == found.template.stop
    assert prompt(found.template, "Hi").startswith("<|begin_of_text|><|start_header_id|>system")


def test_a_template_in_a_file_of_its_own(tmp_path: Path) -> None:
    """`chat_template.jinja` is newer than what `tokenizer_config.json` says."""
    config = {**CONFIG, "chat_template": BARE}
    folder = write(tmp_path, tokenizer_config__json=config, chat_template__jinja=LLAMA3)
    assert "llama3" == load_directory(folder).report.family


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    """What is missing or broken is named."""
    with pytest.raises(ConfigError, match=r"tokenizer\.json"):
        load_directory(tmp_path)
    with pytest.raises(ConfigError, match="no chat template"):
        load_directory(write(tmp_path))
    with pytest.raises(ConfigError, match=r"tokenizer_config\.json"):
        load_directory(write(tmp_path, tokenizer_config__json="["))
    (tmp_path / "tokenizer_config.json").unlink()
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"chat_template\.jinja"):
        load_directory(tmp_path)


def test_mistrals_layout(tmp_path: Path) -> None:
    """A `tekken.json` stands in for a `tokenizer.json` that is not there."""
    (tmp_path / "tekken.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"tekken\.json"):
        load_directory(tmp_path)
