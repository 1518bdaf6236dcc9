"""The models that a server offers without any configuration: the simulated ones.

Each is a real pipeline (tokenizer, template, parser, constrained decoding) over a simulated
engine: `sim` answers as fast as it can, `sim-65`, `sim-1000` and `sim-4000` at that many tokens
a second for each stream.
"""

from __future__ import annotations

from turnwire.engines.author import Author
from turnwire.engines.sim import SIM_PROFILES, SimEngine
from turnwire.engines.vocabulary import Vocabulary
from turnwire.models.sim_model import SimModel
from turnwire.models.token_model import TokenModel
from turnwire.rendering.chatml import Renderer
from turnwire.rendering.tokenizer import Tokenizer

__all__ = ["embedded_models"]


def embedded_models() -> list[SimModel]:
    """Build the simulated models; they share one tokenizer, template and grammar cache."""
    tokenizer = Tokenizer.shipped()
    renderer = Renderer(tokenizer)
    vocabulary = Vocabulary(
        token_bytes=tokenizer.token_bytes(), special=tokenizer.special, encode=tokenizer.encode
    )
    author = Author(vocabulary)
    return [
        SimModel(
            TokenModel(name, renderer, SimEngine(vocabulary, profile, author), every_schema=True)
        )
        for name, profile in SIM_PROFILES.items()
    ]
