from __future__ import annotations

from turnwire.engines.vocabulary import Vocabulary

__all__ = ["write_gbnf"]


def write_gbnf(grammar: str, vocabulary: Vocabulary) -> str:
    return ""
