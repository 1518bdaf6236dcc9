"""Grammars in llama.cpp's own notation, GBNF.

    rule ::= "text" [a-z] <[5]> other-rule (a | b)? c{1,3}

Two things are different from what our grammars mean, and decide how they are written:

* A character of a grammar matches a special token too, if its name has the character there: the
  token `</tool_call>` fits into any JSON string. So texts are written as automata that never
  spell the beginning of such a name (`Shunned`), and JSON can still say it with `\\u003c`.
* There is no JSON schema. `turnwire.engines.schema_gbnf` writes those it can write exactly,
  or more narrowly than they are; where it cannot, any value of the right type.
"""

from __future__ import annotations

from turnwire.engines.gbnf_rules import ANY_CHARACTER, Rules, Shunned, literal
from turnwire.engines.grammar_tree import (
    Choice,
    Grammar,
    Literal,
    Node,
    Pattern,
    Repeat,
    Rule,
    Schema,
    Sequence,
    Special,
    Text,
    Unwritable,
    read_lark,
)
from turnwire.engines.schema_gbnf import SchemaWriter
from turnwire.engines.vocabulary import Vocabulary

__all__ = ["write_gbnf"]


def write_gbnf(grammar: str, vocabulary: Vocabulary) -> str:
    """Write an llguidance Lark grammar as GBNF; the rule `obeyed` is its start.

    Raises:
        Unwritable: it cannot be.
    """
    rules = Rules(Shunned(vocabulary.special))
    writer = _Writer(rules)
    rules.add("obeyed", writer.grammar(read_lark(grammar, vocabulary.special)))
    return rules.text()


class _Writer:
    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._schemas = SchemaWriter(rules)
        # Rules of the grammars around the place that is being written, innermost last.
        self._known: list[dict[str, str]] = []

    def grammar(self, grammar: Grammar) -> str:
        """Add its rules; return what stands for its start."""
        names = {name: self._rules.fresh(name) for name in grammar.rules}
        self._known.append(names)
        for name, node in grammar.rules.items():
            self._rules.add(names[name], self._node(node))
        self._known.pop()
        return names["start"]

    def _node(self, node: Node) -> str:
        match node:
            case Literal(text):
                return literal(text)
            case Special(id_):
                return f"<[{id_}]>"
            case Schema(schema):
                return self._schemas.write(schema)
            case Pattern(regex):
                return self._rules.pattern(regex)
            case Text(without, ""):
                return self._rules.run(ANY_CHARACTER, less=without)
            case Text(_, end):
                return self._rules.until(end)
            case Rule(name):
                if name not in self._known[-1]:
                    raise Unwritable(f"no rule is called {name}")
                return self._known[-1][name]
            case Sequence(nodes):
                return " ".join(map(self._node, nodes)) or '""'
            case Choice(nodes):
                return "(" + " | ".join(map(self._node, nodes)) + ")"
            case Repeat(inner, least, most):
                return f"({self._node(inner)}){{{least},{'' if most is None else most}}}"
            case Grammar():
                return self.grammar(node)
