"""Bytes to tool sets and tool choices (protocol.md sections 2.1 and 2.2).

What is offered and what is echoed differ: hosted tools and tools of unknown types are echoed as
given and left out of the prompt (Codex sends `web_search` and `namespace` on every turn, and a
400 ends its turn); a namespace is flattened.

Rule for the names of flattened tools [D]: a namespace's tool is offered as `namespace.name`,
whatever else is offered, so that a call in a history is rendered alike without its tools. Own
names hold no dot, so the two can never be mistaken for one another. The same name twice at one
place is a 400.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta, Raw, Struct, field
from msgspec.json import Encoder

from turnwire.errors import InvalidJson, InvalidRequest
from turnwire.protocol.requests import ABSENT
from turnwire.protocol.tools import EMPTY_TOOL_SET, OfferedTool, ToolChoice, ToolSet, qualified
from turnwire.protocol.validation import CheckedDecoder

__all__ = ["MAX_TOOLS", "decode_tool_choice", "decode_tools", "single_line"]

MAX_TOOLS: Final = 128
"""[D] protocol.md section 2.1; entries of `tools`, a namespace counting as one."""

_ToolName = Annotated[str, Meta(pattern=r"\A[a-zA-Z0-9_-]{1,128}\Z")]
_NamespaceName = Annotated[str, Meta(pattern=r"\A[a-zA-Z0-9_.-]{1,128}\Z")]
_Callers = Annotated[tuple[Literal["direct", "programmatic"], ...], Meta(min_length=1)]


class _Tool(Struct, kw_only=True):
    name: _ToolName
    description: str | None = None
    allowed_callers: _Callers | None = None
    async_: bool | None = field(default=None, name="async")

    @property
    def callable(self) -> bool:
        """Whether the model itself may call it, rather than only programs it writes."""
        return self.allowed_callers is None or "direct" in self.allowed_callers


class _Function(_Tool, kw_only=True):
    parameters: dict[str, Raw] | None = None
    strict: bool | None = None


class _FreeText(Struct, tag_field="type", tag="text"):
    pass


class _Grammar(Struct, tag_field="type", tag="grammar"):
    syntax: Literal["lark", "regex"]
    definition: str


class _Custom(_Tool, kw_only=True):
    format: _FreeText | _Grammar | None = None


class _Namespace(Struct, kw_only=True):
    name: _NamespaceName
    description: str | None = None
    tools: list[Raw]


class _Head(Struct):
    type: str


class _Named(Struct):
    type: str
    name: str


class _Allowed(Struct):
    tools: Annotated[list[Raw], Meta(min_length=1, max_length=MAX_TOOLS)]
    # Open Responses requires it in the echo, and not in the request.
    mode: Literal["auto", "required"] | None = None


_ToolList: TypeAlias = Annotated[list[Raw], Meta(max_length=MAX_TOOLS)]

_TOOLS: Final = CheckedDecoder[list[Raw] | None](_ToolList | None)
_HEAD: Final = CheckedDecoder[_Head](_Head)
_FUNCTION: Final = CheckedDecoder[_Function](_Function)
_CUSTOM: Final = CheckedDecoder[_Custom](_Custom)
_NAMESPACE: Final = CheckedDecoder[_Namespace](_Namespace)
_KEYS: Final = CheckedDecoder[dict[str, Raw]](dict[str, Raw])
_CHOICE: Final = CheckedDecoder[str | _Head | None](str | _Head | None)
_NAMED: Final = CheckedDecoder[_Named](_Named)
_ALLOWED: Final = CheckedDecoder[_Allowed](_Allowed)
_ENCODER: Final = Encoder()

NULL: Final = Raw(b"null")
EMPTY: Final = Raw(b'""')
TRUE: Final = Raw(b"true")
FALSE: Final = Raw(b"false")


def decode_tools(raw: Raw, known: ToolSet | None = None, *, param: str = "tools") -> ToolSet:
    """Decode `tools`.

    Args:
        raw: The JSON value, or `ABSENT`.
        known: The set of an earlier turn: returned itself if it came from the same bytes.
        param: Its path in the request, for errors.

    Raises:
        InvalidRequest: with the path of the field at fault.
    """
    given = bytes(raw)
    if known is not None and given == known.raw:
        return known
    elements = _TOOLS.decode(given, param) if given else None
    if not elements:
        return EMPTY_TOOL_SET
    collected = _Collected()
    for index, element in enumerate(elements):
        collected.take(element, f"{param}[{index}]")
    return ToolSet(
        raw=given,
        offered=collected.offered(),
        echo=single_line(_ENCODER.encode(collected.echo)),
        left_out=tuple(collected.left_out),
    )


def decode_tool_choice(raw: Raw, tools: ToolSet) -> ToolChoice:
    """Decode `tool_choice` against the tools it chooses from; absent or null is auto.

    Raises:
        InvalidRequest: it is malformed, names a tool that is not offered, or demands a call
            where no tool is offered.
    """
    choice = _CHOICE.decode(raw, "tool_choice") if raw is not ABSENT and bytes(raw) else None
    if choice is None:
        return ToolChoice()
    if isinstance(choice, str):
        return _decode_mode(choice, tools)
    echo = single_line(bytes(raw))
    match choice.type:
        case "function" | "custom":
            return ToolChoice(
                mode="required", allowed=_decode_named(raw, "tool_choice", tools), echo=echo
            )
        case "allowed_tools":
            return _decode_allowed(raw, tools)
        case _:
            raise _not_hosted(choice.type)


def single_line(encoded: bytes) -> Raw:
    """Return a copy of a JSON value that fits in one line, as an SSE frame needs it.

    What clients send may be pretty-printed; the text of numbers and strings stays as it is.

    Raises:
        InvalidJson: it is nested deeper than the stack here has room for.
    """
    if b"\n" in encoded or b"\r" in encoded:
        try:
            return Raw(msgspec.json.format(encoded, indent=-1))
        except RecursionError:
            raise InvalidJson("The JSON is nested too deeply.") from None
    return Raw(bytes(encoded))


class _Collected:
    """The tools of one request while they are read.

    Attributes:
        echo: One value per entry of `tools`.
        left_out: See `ToolSet`.
    """

    def __init__(self) -> None:
        self.echo: list[Raw | dict[str, Raw]] = []
        self.left_out: list[str] = []
        # By (namespace, own name); None for tools outside namespaces.
        self._found: dict[tuple[str | None, str], OfferedTool] = {}

    def take(self, raw: Raw, where: str) -> None:
        """Read one entry of `tools`."""
        kind = _HEAD.decode(raw, where).type
        match kind:
            case "function":
                self.echo.append(self._take_function(raw, where, None))
            case "custom":
                self._take_custom(raw, where, None)
                self.echo.append(raw)
            case "namespace":
                self.echo.append(self._take_namespace(raw, where))
            case _:
                self.left_out.append(kind)
                self.echo.append(raw)

    def offered(self) -> dict[str, OfferedTool]:
        """The tools by the names they are offered under, in the order given."""
        offered: dict[str, OfferedTool] = {}
        for (namespace, _), tool in self._found.items():
            name = qualified(tool.name, namespace)
            offered[name] = msgspec.structs.replace(tool, name=name)
        return offered

    def _take_function(self, raw: Raw, where: str, namespace: str | None) -> dict[str, Raw]:
        tool = _FUNCTION.decode(raw, where)
        keys = _KEYS.decode(raw, where)
        strict = tool.strict is not False
        self._offer(
            tool,
            OfferedTool(
                name=tool.name,
                description=tool.description or "",
                parameters=None if tool.parameters is None else bytes(keys["parameters"]),
                strict=strict,
                strict_asked=tool.strict is True,
                namespace=namespace,
                is_async=tool.async_ is True,
                path=where,
            ),
            where,
        )
        # The echo has these four keys whatever was sent [C].
        keys.setdefault("description", NULL)
        keys.setdefault("parameters", NULL)
        keys["strict"] = TRUE if strict else FALSE
        return keys

    def _take_custom(self, raw: Raw, where: str, namespace: str | None) -> None:
        tool = _CUSTOM.decode(raw, where)
        form = tool.format
        self._offer(
            tool,
            OfferedTool(
                name=tool.name,
                kind="custom",
                description=tool.description or "",
                grammar=(form.syntax, form.definition) if isinstance(form, _Grammar) else None,
                namespace=namespace,
                is_async=tool.async_ is True,
                path=where,
            ),
            where,
        )

    def _take_namespace(self, raw: Raw, where: str) -> Raw | dict[str, Raw]:
        namespace = _NAMESPACE.decode(raw, where)
        for index, element in enumerate(namespace.tools):
            place = f"{where}.tools[{index}]"
            kind = _HEAD.decode(element, place).type
            match kind:
                case "function":
                    self._take_function(element, place, namespace.name)
                case "custom":
                    self._take_custom(element, place, namespace.name)
                case _:
                    self.left_out.append(kind)
        if namespace.description is not None:
            return raw
        # Clients may leave it out; whoever reads the echo by the official types may not.
        return {**_KEYS.decode(raw, where), "description": EMPTY}

    def _offer(self, tool: _Tool, offered: OfferedTool, where: str) -> None:
        if tool.async_ and "programmatic" in (tool.allowed_callers or ()):
            raise InvalidRequest(
                f"'{where}.async' must not be true for a tool that programs may call: they wait "
                "for its output.",
                param=f"{where}.async",
            )
        if not tool.callable:
            self.left_out.append(offered.kind)
            return
        key = (offered.namespace, offered.name)
        if key in self._found:
            raise InvalidRequest(
                f"'{where}.name' must be unique, but another tool is called '{tool.name}' too.",
                param=f"{where}.name",
            )
        self._found[key] = offered


def _decode_mode(choice: str, tools: ToolSet) -> ToolChoice:
    match choice:
        case "auto":
            return ToolChoice()
        case "none":
            return ToolChoice(mode="none", echo=Raw(b'"none"'))
        case "required":
            if not tools.offered:
                raise InvalidRequest(
                    "'tool_choice' must not be 'required' where no tool can be called.",
                    param="tool_choice",
                )
            return ToolChoice(mode="required", echo=Raw(b'"required"'))
        case _:
            raise InvalidRequest(
                "'tool_choice' must be 'none', 'auto', 'required' or an object, but "
                f"{choice!r} was given.",
                param="tool_choice",
            )


def _decode_allowed(raw: Raw, tools: ToolSet) -> ToolChoice:
    allowed = _ALLOWED.decode(raw, "tool_choice")
    names = [
        name
        for index, entry in enumerate(allowed.tools)
        for name in _decode_named(entry, f"tool_choice.tools[{index}]", tools)
    ]
    mode = allowed.mode or "auto"
    keys = {**_KEYS.decode(raw, "tool_choice"), "mode": Raw(f'"{mode}"'.encode())}
    return ToolChoice(
        mode=mode,
        allowed=tuple(dict.fromkeys(names)),
        echo=single_line(_ENCODER.encode(keys)),
    )


def _decode_named(raw: Raw, where: str, tools: ToolSet) -> tuple[str, ...]:
    """Return the offered names that `{type, name}` stands for: several, where namespaces
    share the name and no tool outside them has it."""
    kind = _HEAD.decode(raw, where).type
    if kind not in ("function", "custom"):
        raise _not_hosted(kind)
    name = _NAMED.decode(raw, where).name
    exact = tools.offered.get(name)
    if exact is not None and exact.kind == kind:
        return (name,)
    names = tuple(
        offered
        for offered, tool in tools.offered.items()
        if tool.call_name == name and tool.kind == kind
    )
    if not names:
        raise InvalidRequest(
            f"'tool_choice' names the {kind} {name!r}, which is not in 'tools'.",
            param="tool_choice",
        )
    return names


def _not_hosted(kind: str) -> InvalidRequest:
    return InvalidRequest(
        f"'tool_choice' names a tool of type {kind!r}, which this server does not run.",
        code="unsupported_value",
        param="tool_choice",
    )
