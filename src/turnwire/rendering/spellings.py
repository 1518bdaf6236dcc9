"""The families whose calls are spelled in tags of their own, each in one place.

Read a tuple as a line of text: strings stand for themselves, and names for what differs from
call to call (see `spelling.py`). The order is that in which a template is compared with them.
"""

from __future__ import annotations

from typing import Final

from turnwire.rendering.spelling import Hole, Spelling

__all__ = ["SPELLINGS"]

NAME, ID, NUMBER, ARGUMENTS, ELEMENTS = (
    *(Hole.NAME, Hole.ID, Hole.NUMBER),
    *(Hole.ARGUMENTS, Hole.ELEMENTS),
)
KEY, VALUE, STRING = Hole.KEY, Hole.VALUE, Hole.STRING

QWEN_CODER: Final = Spelling(
    # Qwen3-Coder, Qwen 3.5, Nemotron 3 Nano, Step 3.5. The models leave `<tool_call>` out at times.
    name="qwen-coder",
    call=("<tool_call> <function=", NAME, "> ", ELEMENTS, "</function> </tool_call>"),
    element=("<parameter=", KEY, "> ", VALUE, " </parameter> "),
    also=("<function=",),
)
SEED: Final = Spelling(
    name="seed-oss",
    call=("<seed:tool_call> <function=", NAME, "> ", ELEMENTS, "</function> </seed:tool_call>"),
    element=("<parameter=", KEY, ">", VALUE, "</parameter> "),
)
GLM: Final = Spelling(
    # GLM 4.5 to 5: with line ends up to 4.6, without since.
    name="glm",
    call=("<tool_call>", NAME, " ", ELEMENTS, "</tool_call>"),
    element=("<arg_key>", KEY, "</arg_key> <arg_value>", VALUE, "</arg_value> "),
)
DEEPSEEK_V3: Final = Spelling(
    # V3, R1 and the models distilled from it, with templates that have tools.
    name="deepseek-v3",
    begin="<｜tool▁calls▁begin｜> ",
    call=(
        *("<｜tool▁call▁begin｜> function <｜tool▁sep｜>", NAME, " ```json ", ARGUMENTS),
        " ``` <｜tool▁call▁end｜>",
    ),
    end=" <｜tool▁calls▁end｜>",
)
DEEPSEEK: Final = Spelling(
    # V3.1
    name="deepseek",
    begin="<｜tool▁calls▁begin｜> ",
    call=("<｜tool▁call▁begin｜> ", NAME, "<｜tool▁sep｜>", ARGUMENTS, "<｜tool▁call▁end｜>"),
    end=" <｜tool▁calls▁end｜>",
)
_DSML_CALL: Final = (*('<｜DSML｜invoke name="', NAME, '"> ', ELEMENTS, "</｜DSML｜invoke> "),)
_DSML_ELEMENT: Final = (
    *('<｜DSML｜parameter name="', KEY, '" string="', STRING, '">', VALUE),
    "</｜DSML｜parameter> ",
)
DSML: Final = tuple(
    Spelling(
        # DeepSeek V3.2 says `function_calls`, V4 `tool_calls`.
        name="dsml",
        begin=f"<｜DSML｜{word}> ",
        call=_DSML_CALL,
        element=_DSML_ELEMENT,
        end=f"</｜DSML｜{word}>",
    )
    for word in ("function_calls", "tool_calls")
)
KIMI: Final = Spelling(
    # Kimi K2. An id is `functions.NAME:NUMBER`; the number counts calls.
    name="kimi",
    begin="<|tool_calls_section_begin|> ",
    call=(
        *("<|tool_call_begin|> functions.", NAME, ":", NUMBER, " <|tool_call_argument_begin|> "),
        *(ARGUMENTS, " <|tool_call_end|>"),
    ),
    end=" <|tool_calls_section_end|>",
)
MINIMAX: Final = Spelling(
    # MiniMax M2
    name="minimax",
    begin="<minimax:tool_call> ",
    call=('<invoke name="', NAME, '"> ', ELEMENTS, "</invoke> "),
    element=('<parameter name="', KEY, '">', VALUE, "</parameter> "),
    end="</minimax:tool_call>",
)
SOLAR: Final = Spelling(
    name="solar",
    begin="<|tool_calls|> ",
    call=(
        *("<|tool_call:begin|> ", ID, "<|tool_call:name|>", NAME, "<|tool_call:args|>", ARGUMENTS),
        "<|tool_call:end|>",
    ),
)
GEMMA: Final = Spelling(
    # Gemma 4. Its arguments are no JSON, so no grammar is made of them.
    name="gemma",
    call=("<|tool_call> call:", NAME, "", ARGUMENTS, "<tool_call|>"),
    quote='<|"|>',
)
FUNCTIONARY: Final = Spelling(
    name="functionary",
    call=("<function=", NAME, ">", ARGUMENTS, "</function>"),
)

_LISTED: Final = ('{ "name": "', NAME, '", "arguments": ', ARGUMENTS, " }")
COMMAND: Final = Spelling(
    # Command R7B and A. Calls are numbered within a message.
    name="command",
    begin="<|START_ACTION|> [ ",
    call=(
        *('{ "tool_call_id": "', NUMBER, '", "tool_name": "', NAME, '", "parameters": '),
        *(ARGUMENTS, " }"),
    ),
    between=", ",
    end=" ] <|END_ACTION|>",
    listed=True,
)
_WITH_ID: Final = (*_LISTED[:-1], ', "id": "', ID, '" }')
LISTS: Final = tuple(
    Spelling(name=name, begin=f"{begin} [ ", call=call, between=", ", end=f" ] {end}", listed=True)
    for call in (_LISTED, _WITH_ID)
    for name, begin, end in (
        ("phi", "<|tool_call|>", "<|/tool_call|>"),  # Phi-4-mini
        ("granite", "<|tool_call|>", ""),  # 3.x; Granite 4 writes as Hermes does
        ("tool-calls", "<tool_calls>", "</tool_calls>"),  # Hunyuan A13B, Apriel
        ("nemotron", "<TOOLCALL>", "</TOOLCALL>"),  # Nemotron Nano 2
    )
)
LINES: Final = tuple(
    Spelling(name=name, begin=begin, call=call, end=end, listed=True)
    for name, begin, call, end in (
        ("tool-lines", "<tool_calls> ", _LISTED, " </tool_calls>"),  # MiniMax M1
        ("gigachat", "", ("<|function_call|> ", *_LISTED), ""),  # GigaChat 3.1
        ("granite-code", "", ("<function_call> ", *_LISTED), ""),  # Granite 20B
        (
            *("internlm", ""),
            *(("<|action_start|> <|plugin|> ", *_LISTED[:-1], "} <|action_end|>"), ""),
        ),
    )
)

SPELLINGS: Final = (
    *(QWEN_CODER, SEED, GLM, DEEPSEEK_V3, DEEPSEEK, *DSML, KIMI, MINIMAX, SOLAR, GEMMA),
    FUNCTIONARY,
    *(COMMAND, *LISTS, *LINES),
)
"""All of them; where one is the beginning of another, the longer one first."""
