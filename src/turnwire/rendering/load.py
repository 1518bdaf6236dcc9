"""From a model's files to a template: the renderer of ours that fits, or the model's own.

A renderer of ours is used where it gives, for every conversation of the probe, exactly the ids
that the model's chat template gives; otherwise the chat template itself is run for every prompt,
which is as correct and slower. Either way the report says what was found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from turnwire.errors import ConfigError, InvalidRequest
from turnwire.gguf import GgufHeader
from turnwire.rendering import hermes, mistral
from turnwire.rendering.base import Template
from turnwire.rendering.chatml import Renderer
from turnwire.rendering.family import Family, FamilyTemplate
from turnwire.rendering.formats import Format
from turnwire.rendering.generic import GenericTemplate, Rendering
from turnwire.rendering.harmony import HARMONY_NAMES, Harmony
from turnwire.rendering.harmony_output import HarmonyOutput
from turnwire.rendering.hermes import Hermes
from turnwire.rendering.jinja import ChatTemplate
from turnwire.rendering.llama3 import Llama3
from turnwire.rendering.mistral import Mistral
from turnwire.rendering.outputs import PLAIN, answer_ends, find_format, shows_calls
from turnwire.rendering.probe import differences, find_quirks, rewrites
from turnwire.rendering.tokenizer import Tokenizer
from turnwire.rendering.vocabulary import from_gguf, from_tekken

__all__ = ["FAMILIES", "Loaded", "Report", "load_directory", "load_gguf", "load_template"]

FAMILIES: Final = ("generic", "harmony", "hermes", "llama3", "mistral", "turnwire")
"""Names that `load_template` takes; `generic` is the model's own template."""


class Report(Struct, frozen=True, kw_only=True):
    """What was found out about a template.

    Attributes:
        family: Whose renderer is used; `generic` if it is the model's own template.
        output: The format that outputs are read in; `plain` has no tool calls.
        append_only: Whether prompts only ever grow, in every conversation of the probe.
        reasons: What speaks against a renderer of ours or against appending, for people.
    """

    family: str
    output: str
    append_only: bool
    reasons: tuple[str, ...] = ()

    @property
    def reads_calls(self) -> bool:
        """Whether tool calls of the model become function calls, and not text."""
        return self.output != PLAIN


class Loaded(Struct, frozen=True, eq=False):
    """A template, and what was found out about it."""

    template: Template
    report: Report


def load_template(
    tokenizer: Tokenizer,
    chat_template: str | None,
    *,
    family: str | None = None,
    variables: Mapping[str, str] | None = None,
    stop: frozenset[int] = frozenset(),
    bos: int | None = None,
    now: Callable[[], datetime] = datetime.now,
) -> Loaded:
    """Find the template of a model. Takes some tenths of a second.

    Args:
        tokenizer: The model's vocabulary.
        chat_template: The model's chat template, or None if it has none.
        family: One of `FAMILIES`, whatever the probe says; None to find it out.
        variables: What the chat template may read: `bos_token`, `eos_token` and such.
        stop: Ids that end an output, as far as the model's files say.
        bos: A token that every prompt begins with, whether the chat template says so or not.
        now: The time that the chat template sees.

    Raises:
        ConfigError: there is no template, or it cannot be used; or the family does not fit the
            vocabulary.
    """
    if family is not None and family not in FAMILIES:
        raise ConfigError(f"there is no template family {family!r}; known: {', '.join(FAMILIES)}")
    own = family is None and tokenizer.fingerprint == Tokenizer.shipped().fingerprint
    if family == "turnwire" or (own and chat_template is None):
        return Loaded(
            Renderer(tokenizer), Report(family="turnwire", output="turnwire", append_only=True)
        )
    if family == "harmony" or (family is None and tokenizer.special.keys() >= set(HARMONY_NAMES)):
        report = Report(
            family="harmony",
            output="harmony",
            append_only=False,
            reasons=("reasoning is dropped behind a final answer",),
        )
        words, reader = Harmony(tokenizer), HarmonyOutput(tokenizer)
        return Loaded(FamilyTemplate(tokenizer, words, reader), report)
    if chat_template is None:
        raise ConfigError(
            "the model has no chat template; give one, or say which family it belongs to "
            f"({', '.join(FAMILIES)})"
        )
    chat = ChatTemplate(chat_template, tokenizer.special, variables=variables, now=now)
    rendering = find_quirks(chat, bos)
    output = find_format(tokenizer, rendering, stop)
    rewritten = rewrites(rendering)
    reasons: list[str] = []
    if family != "generic":
        found, reasons = _fitting(tokenizer, rendering, output, family)
        if found is not None:
            return _loaded(found, output, rewritten, reasons)
    if output.name != PLAIN and not shows_calls(tokenizer, rendering):
        reasons.append("the template does not show the model what it called before")
    return _loaded(GenericTemplate(tokenizer, rendering, output), output, rewritten, reasons)


def _loaded(
    template: FamilyTemplate | GenericTemplate,
    output: Format,
    rewritten: list[str],
    reasons: list[str],
) -> Loaded:
    family = "generic" if isinstance(template, GenericTemplate) else output.name
    report = Report(
        family=family,
        output=output.name,
        append_only=not rewritten,
        reasons=(*reasons, *rewritten),
    )
    return Loaded(template, report)


def _fitting(
    tokenizer: Tokenizer, rendering: Rendering, output: Format, family: str | None
) -> tuple[FamilyTemplate | None, list[str]]:
    """The renderer of ours that fits best, if it may be used, and what speaks against it."""
    best: FamilyTemplate | None = None
    least: list[str] | None = None
    for words in _candidates(tokenizer, rendering, output, family):
        template = FamilyTemplate(tokenizer, words, output)
        found = differences(template, rendering)
        if least is None or len(found) < len(least):
            best, least = template, found
        if not found:
            return template, []
    if least is None:
        if family is not None:
            raise ConfigError(f"the model's vocabulary is not of the family {family!r}")
        return None, ["no renderer of ours knows this format"]
    reasons = [f"our {output.name} renderer differs in {one}" for one in least]
    return (best if family is not None else None), reasons


def _candidates(
    tokenizer: Tokenizer, rendering: Rendering, output: Format, family: str | None
) -> Iterator[Family]:
    special = tokenizer.special
    wanted = family or output.name
    try:
        if wanted == "hermes" and {"<|im_start|>", "<|im_end|>"} <= special.keys():
            for variant in hermes.VARIANTS:
                yield Hermes(tokenizer, rendering, variant)
        if wanted == "llama3" and {"<|start_header_id|>", "<|eot_id|>"} <= special.keys():
            for quoted in (False, True):
                yield Llama3(tokenizer, rendering, quoted=quoted)
        ends = answer_ends(rendering)
        if wanted == "mistral" and ends and {"[INST]", "[/INST]", "[TOOL_CALLS]"} <= special.keys():
            for style in mistral.VARIANTS:
                yield Mistral(tokenizer, rendering, style, min(ends))
    except InvalidRequest:
        return  # its template does not open a turn as the family does


# -- where models come from


def load_gguf(header: GgufHeader, *, family: str | None = None) -> Loaded:
    """The template of a GGUF file; see `load_template`.

    Raises:
        ConfigError: also where the file holds no vocabulary that can be used.
    """
    tokenizer = from_gguf(header)
    names = {token_id: name for name, token_id in tokenizer.special.items()}
    ids = {
        kind: header.get(f"tokenizer.ggml.{kind}_token_id", int, -1)
        for kind in ("bos", "eos", "eot", "eom", "unknown", "padding")
    }
    variables = {f"{kind}_token": names.get(token_id, "") for kind, token_id in ids.items()}
    variables["unk_token"], variables["pad_token"] = (
        variables.pop("unknown_token"),
        variables.pop("padding_token"),
    )
    add_bos = header.get("tokenizer.ggml.add_bos_token", bool, default=False)
    with_tools = header.get("tokenizer.chat_template.tool_use", str, "")
    return load_template(
        tokenizer,
        with_tools or header.chat_template,
        family=family,
        variables=variables,
        stop=frozenset(ids[kind] for kind in ("eos", "eot", "eom") if ids[kind] >= 0),
        bos=ids["bos"] if add_bos and ids["bos"] >= 0 else None,
    )


def load_directory(path: str | Path, *, family: str | None = None) -> Loaded:
    """The template of a model in Hugging Face's layout; see `load_template`.

    It reads `tokenizer.json` (or Mistral's `tekken.json`), `tokenizer_config.json`,
    `chat_template.jinja` and `generation_config.json`, the last three if they are there.

    Raises:
        ConfigError: also where a file cannot be read or is of another kind.
    """
    folder = Path(path)
    tekken = folder / "tekken.json"
    standard = folder / "tokenizer.json"
    tokenizer = (
        from_tekken(tekken)
        if tekken.exists() and not standard.exists()
        else Tokenizer.load(standard)
    )
    config = _json(folder / "tokenizer_config.json")
    variables = {key: _content(value) for key, value in config.items() if key.endswith("_token")}
    stop = {tokenizer.special.get(variables.get("eos_token", ""), -1)}
    ends = _json(folder / "generation_config.json").get("eos_token_id")
    stop |= {one for one in (ends if isinstance(ends, list) else [ends]) if isinstance(one, int)}
    return load_template(
        tokenizer,
        _chat_template(folder, config),
        family=family,
        variables=variables,
        stop=frozenset(stop - {-1}),
    )


def _chat_template(folder: Path, config: Mapping[str, Any]) -> str | None:
    file = folder / "chat_template.jinja"
    if file.exists():
        try:
            return file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read {str(file)!r}: {error}") from error
    found = config.get("chat_template")
    if isinstance(found, list):  # several, by name
        named = {one.get("name"): one.get("template") for one in found if isinstance(one, dict)}
        found = named.get("tool_use") or named.get("default")
    return found if isinstance(found, str) else None


def _content(value: Any) -> str:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else ""


def _json(path: Path) -> dict[str, Any]:
    """A JSON object, or an empty one if there is no file."""
    if not path.exists():
        return {}
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(f"cannot read {str(path)!r}: {error}") from error
