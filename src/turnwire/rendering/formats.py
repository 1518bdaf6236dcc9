"""What a family of models answers with: its tags, its calls, and the grammar of both.

A `Format` reads an output (`parser`) and says what an output may be (`constraint`). It is found
by the tags that a vocabulary and a template have, and is the same whether the prompt was rendered
by a renderer of ours or by the model's own template.

The grammars are those of `grammar.py`, with the words of the family around the JSON and with the
separators that its template writes, so that a call that is rendered again is the same text:

| tool_choice      | text.format | the output is                                                  |
|------------------|-------------|----------------------------------------------------------------|
| none, or no tool | text        | free                                                           |
| none, or no tool | json        | JSON                                                           |
| auto             | text        | free until a call opens (by a trigger, if that is one token)   |
| auto             | json        | JSON or calls                                                  |
| required         | any         | calls                                                          |

Where the model may think, it may do so before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from msgspec import Struct, structs

from turnwire.constraint import Constraint
from turnwire.errors import InvalidRequest
from turnwire.protocol.requests import TextFormat
from turnwire.protocol.tools import OfferedTool, ToolChoice, ToolSet
from turnwire.rendering.element_grammar import ElementPieces, element_rules
from turnwire.rendering.grammar import callable_tools
from turnwire.rendering.grammar_text import embedded, sequence, spaced, until, without
from turnwire.rendering.pieces import Piece
from turnwire.rendering.schema import Schema, argument_schemas, text_schema
from turnwire.rendering.tagged import TaggedParser, Tags
from turnwire.rendering.tokenizer import Tokenizer

__all__ = ["CallForm", "Format", "as_functions"]


class CallForm(Struct, frozen=True, kw_only=True):
    """How a family writes calls, in pieces.

    Attributes:
        first: In front of the first call.
        between: Between two calls; None where there is never more than one.
        last: Behind the last call.
        name_key: What stands before a call's name, up to the quote that opens it.
        arguments_key: What stands between a call's name and its arguments.
        end: Behind the arguments.
        elements: How arguments are written that come one by one and not as a JSON object.
    """

    first: tuple[Piece, ...] = ()
    between: tuple[Piece, ...] | None = None
    last: tuple[Piece, ...] = ()
    name_key: str = '{"name": "'
    arguments_key: tuple[Piece, ...] = ('", "arguments": ',)
    end: str = "}"
    elements: ElementPieces | None = None


class Format(Struct, frozen=True, kw_only=True, eq=False):
    """The output of one family over one vocabulary.

    Attributes:
        name: The family's.
        tokenizer: The vocabulary.
        tags: What divides an output.
        stop: Ids that end one.
        calls: How calls are written, or None where that is not known.
        begun: By whether the model was asked to think: whether the prompt's opening ends inside
            a thought.
    """

    name: str
    tokenizer: Tokenizer
    tags: Tags
    stop: frozenset[int]
    calls: CallForm | None = None
    begun: tuple[bool, bool] = (False, False)

    def parser(self, offered: Mapping[str, OfferedTool], *, thinking: bool) -> TaggedParser:
        """A parser for one output; see `Template.parser`."""
        begun = self.begun[thinking]
        return TaggedParser(self.tokenizer, self.tags, self.stop, offered, thinking=begun)

    def constraint(
        self,
        tools: ToolSet,
        tool_choice: ToolChoice,
        *,
        parallel: bool,
        text_format: TextFormat,
        thinking_possible: bool,
        every_schema: bool = False,
    ) -> Constraint | None:
        """The constraint of a turn; see `Template.constraint`.

        Raises:
            InvalidRequest: also where a call is required of a model whose calls are not known.
        """
        form = self.calls
        offered = callable_tools(tools, tool_choice)
        if form is None and offered:
            if tool_choice.mode == "required":
                raise InvalidRequest(self._unforced(), param="tool_choice")
            offered = []
        schemas = argument_schemas(
            self.tokenizer, as_functions(tools), [_as_function(t) for t in offered], every_schema
        )
        content = text_schema(self.tokenizer, text_format)
        if not offered and content is None:
            return None
        rules, trigger = self._rules(offered, schemas, content, tool_choice.mode, parallel)
        insisted = every_schema or any(tool.strict for tool in offered)
        if trigger is None and content is None and tool_choice.mode == "auto" and not insisted:
            return None  # every token would be held, for schemas that nobody insists on
        begun = self.begun[thinking_possible]
        free_span = None
        tags = self.tags
        if begun and tags.end_think is not None:
            if trigger is None:
                name = "thought" if isinstance(tags.end_think, int) else "THOUGHT"
                rules["start"] = f"{name} BLANKS? ({rules['start']})"
                rules[name] = until(tags.end_think)
        elif thinking_possible and isinstance(tags.think, int) and isinstance(tags.end_think, int):
            free_span = (tags.think, tags.end_think)
            if trigger is None:
                rules["start"] = f"BLANKS? ({rules['start']})"
        rules["BLANKS"] = r"/\n{1,2}/"
        grammar = "".join([f"{name}: {body}\n" for name, body in rules.items()])
        return Constraint(grammar=grammar, trigger=trigger, free_span=free_span)

    def _rules(
        self,
        tools: Sequence[OfferedTool],
        schemas: Mapping[str, Schema],
        content: Schema | None,
        mode: str,
        parallel: bool,
    ) -> tuple[dict[str, str], int | None]:
        """The grammar's rules by name, and the token that it begins behind."""
        rules: dict[str, str] = {}
        trigger: int | None = None
        form = self.calls
        if not tools or form is None:
            rules["start"] = "text"
        elif mode == "required":
            rules["start"] = f"{sequence(form.first)} calls"
        elif content is not None:
            rules["start"] = f"text | {sequence(form.first)} calls"
        elif tokens := [piece for piece in form.first if isinstance(piece, int)]:
            trigger = tokens[0]  # a tag may begin in front of it
            rules["start"] = f"{sequence(form.first[form.first.index(trigger) + 1 :])} calls"
        else:
            rules["start"] = f"FREE | OPEN {sequence(form.first[1:])} calls"
            rules["FREE"], rules["OPEN"] = _free(form.first, self._text_openers())
        if content is not None:
            rules["text"] = embedded(content)
        if tools and form is not None:
            more = parallel and form.between is not None
            again = f" ({sequence(form.between or ())} call)*" if more else ""
            rules["calls"] = f"call{again} {sequence(form.last)}"
            rules["call"] = " | ".join(f"call{n}" for n in range(len(tools)))
            for n, tool in enumerate(tools):
                name = f"{form.name_key}{tool.name}"
                before = sequence((name, *form.arguments_key))
                rules[f"call{n}"] = f"{before} value{n} {sequence((form.end,))}"
                schema = schemas[tool.name]
                if form.elements is None:
                    rules[f"value{n}"] = embedded(spaced(schema))
                else:
                    rules.update(element_rules(f"value{n}", schema, form.elements))
        return rules, trigger

    def _unforced(self) -> str:
        """Why no call can be required, and what to do."""
        if self.tags.call:
            return (
                "This model writes calls in a notation that no grammar is made for here, so none "
                "can be required. Let it decide (tool_choice 'auto'), or ask another model."
            )
        return (
            "This model's chat template writes no tool calls that are known here, so none can be "
            "required. Ask another model, or have the operator give this one a template for tools "
            "(model.NAME.template)."
        )

    def _text_openers(self) -> list[str]:
        return [tag for tag in self.tags.call if isinstance(tag, str)]


def as_functions(tools: ToolSet) -> ToolSet:
    """The set with custom tools as functions of one field, as these families know tools."""
    if all(tool.kind == "function" for tool in tools.offered.values()):
        return tools
    offered = {name: _as_function(tool) for name, tool in tools.offered.items()}
    return structs.replace(tools, offered=offered)


def _as_function(tool: OfferedTool) -> OfferedTool:
    if tool.kind == "function":
        return tool
    text: dict[str, str] = {"type": "string"}
    if tool.grammar is not None and tool.grammar[0] == "regex":
        text["pattern"] = f"^(?:{tool.grammar[1]})$"
    schema = {
        "type": "object",
        "properties": {"input": text},
        "required": ["input"],
        "additionalProperties": False,
    }
    parameters = json.dumps(schema).encode()
    return structs.replace(tool, kind="function", parameters=parameters, strict=True, grammar=None)


def _free(first: Sequence[Piece], openers: Sequence[str]) -> tuple[str, str]:
    """What is no call, and what begins one: where no token of its own opens calls."""
    if not first:  # a call is a message that is an object
        return r"/(\s*[^\s{](?s:.*))?/", '""'
    return without(openers), f"({without(openers)}) {json.dumps(str(first[0]))}"
