"""Libraries of Python, in programs that ask two questions and have a tool.

openai-python itself has a file of its own, and the integration tests besides.
"""

from __future__ import annotations

from pathlib import Path

from tests.clients.conftest import Program, Proven
from tests.clients.install import python
from tests.clients.loop import check_told, check_websocket, is_incremental, sse_responses
from tests.clients.tape import Tape
from tests.clients.test_openai_python import VERSION

PROGRAMS = Path(__file__).parent / "programs"

AGENTS = "0.24.0"
LANGCHAIN = "1.7.4"
LIVEKIT = "1.8.9"
OPENAI = f"openai[realtime]=={VERSION}"
PIPECAT = "1.14.0"
PYDANTIC_AI = "2.68.0"
AGENTS_PACKAGES = (f"openai-agents=={AGENTS}", OPENAI)


async def test_agents_python(tape: Tape, program: Program, proven: Proven) -> None:
    """A WebSocket session plays both turns on one connection, each request with what is new."""
    interpreter = python("agents-python", AGENTS_PACKAGES)
    printed = await program([interpreter, PROGRAMS / "openai_agents.py", f"{tape.url}/v1"])
    check_websocket(tape, printed)
    assert is_incremental(tape)
    fact = (
        "`responses_websocket_session`: tool rounds in two turns on one connection, streamed, "
        "only what is new"
    )
    proven("Agents SDK (Python)", AGENTS, "WebSocket", fact)


async def test_pydantic_ai(tape: Tape, program: Program, proven: Proven) -> None:
    """With its WebSocket transport it plays both turns on one connection."""
    interpreter = python("pydantic-ai", [f"pydantic-ai-slim[openai]=={PYDANTIC_AI}", OPENAI])
    printed = await program([interpreter, PROGRAMS / "pydantic_agent.py", f"{tape.url}/v1"])
    check_websocket(tape, printed)
    assert is_incremental(tape)
    fact = "`openai_transport='websocket'`: tool rounds in two turns on one connection"
    proven("pydantic-ai", PYDANTIC_AI, "WebSocket", fact)


async def test_langchain(tape: Tape, program: Program, proven: Proven) -> None:
    """`ChatOpenAI` with `use_responses_api` streams over HTTP."""
    interpreter = python("langchain", [f"langchain-openai=={LANGCHAIN}"])
    printed = await program([interpreter, PROGRAMS / "langchain_chat.py", f"{tape.url}/v1"])
    tape.check_clean()
    assert [] == tape.sockets
    check_told(sse_responses(tape), printed)
    proven(
        "LangChain (`langchain-openai`)", LANGCHAIN, "HTTP", "tool rounds in two turns, streamed"
    )


async def test_livekit(tape: Tape, program: Program, proven: Proven) -> None:
    """Its plugin, which checks every event against the official types, keeps one WebSocket."""
    interpreter = python("livekit", [f"livekit-plugins-openai=={LIVEKIT}"])
    printed = await program([interpreter, PROGRAMS / "livekit_llm.py", f"{tape.url}/v1"])
    check_websocket(tape, printed)
    fact = "`responses.LLM`: tool rounds in two turns on one connection, streamed"
    proven("LiveKit Agents (`livekit-plugins-openai`)", LIVEKIT, "WebSocket", fact)


async def test_pipecat(tape: Tape, program: Program, proven: Proven) -> None:
    """A user who interrupts ends the response; the conversation goes on from the one before."""
    interpreter = python("pipecat", [f"pipecat-ai[openai]=={PIPECAT}", OPENAI])
    printed = await program([interpreter, PROGRAMS / "pipecat_pipeline.py", f"{tape.url}/v1"])
    tape.check_clean(num_cancelled=1)
    (socket,) = tape.sockets
    completed = [one for one in socket.responses if one["status"] == "completed"]
    check_told(completed, printed, num_calls=1)
    (cancel,) = [event for event in socket.sent if event["type"] == "response.cancel"]
    (cancelled,) = [one for one in socket.responses if one["status"] == "cancelled"]
    assert cancel["response_id"] == cancelled["id"]
    # The question that was interrupted, and the one after it, both go on from the last answer. It
    # may add the words that were heard before the interruption only later, and sends all then.
    one, two, three, *_ = (response["id"] for response in completed)
    parents = [create.get("previous_response_id") for create in socket.creates]
    assert [None, one, two, three, three] == parents[:5]
    fact = (
        "`OpenAIResponsesLLMService`: tool rounds in two turns on one connection; a response that "
        "the user interrupts is cancelled"
    )
    proven("Pipecat (`pipecat-ai`)", PIPECAT, "WebSocket", fact)
