"""Items <-> tokens: tokenizer, template, detokenizer, output parser, grammar."""
