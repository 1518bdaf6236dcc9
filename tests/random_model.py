"""A GGUF file with random weights, so that real llama.cpp runs in tests without a download.

It has the vocabulary and the special tokens of Turnwire's own template, two small layers, and a
window of a real model's size. What it says is nonsense, but always the same nonsense, and all
that is about tokens, caches, slots and grammars is as real as with any other model.

The output layer is not quite random: `leanings` makes chosen tokens likelier everywhere, so that
the model now and then ends its turn or opens a tool call, as a trained one would; and as with a
trained one, nobody hears pieces of characters that do not belong together.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

from turnwire.rendering.tokenizer import Tokenizer

__all__ = ["WINDOW", "byte_tokenizer", "random_model"]

WINDOW = 131_072
_WIDTH = 64
_HEADS = 2
_LAYERS = 2
_HIDDEN = 128
_LISTENING = 6.0  # how much what was said before counts beside the last token
_PICKING = 8.0  # how much single tokens count in what was said before
_NEVER = 20.0  # standard deviations
_CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_CACHE = Path(__file__).parent.parent / ".cache" / "models"


def random_model(
    folder: Path = _CACHE,
    *,
    seed: int = 0,
    tokenizer: Tokenizer | None = None,
    leanings: Mapping[str, float] | None = None,
    calls_are_text: bool = False,
    chat_template: str = _CHAT_TEMPLATE,
) -> Path:
    """Return the path of the model's file, writing it if it is not there (some 100 ms).

    Args:
        folder: Where it is kept; its name is made from all that it is made of.
        seed: Of the weights.
        tokenizer: Its vocabulary; by default the shipped one.
        leanings: How many standard deviations likelier than chance special tokens are, by name.
        calls_are_text: Whether `<tool_call>` and the like are tokens that have a text.
        chat_template: What the file says about prompts.
    """
    tokenizer = tokenizer or Tokenizer.shipped()
    leanings = leanings or {"<|im_end|>": 2.5}
    recipe = (
        inspect.getsource(sys.modules[__name__]),
        tokenizer.fingerprint,
        seed,
        leanings,
        calls_are_text,
        chat_template,
    )
    name = hashlib.sha256(repr(recipe).encode()).hexdigest()[:16]
    path = folder / f"random-{name}.gguf"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # Another test process may be writing the same file.
        partial = path.with_suffix(f".{os.getpid()}.partial")
        _write(partial, tokenizer, seed, leanings, calls_are_text, chat_template)
        partial.replace(path)
    return path


def byte_tokenizer() -> Tokenizer:
    """The shipped special tokens and one token per byte: a text can be cut in one way only.

    A model with random weights does not cut texts as a tokenizer would. With this vocabulary it
    has no choice, so that what it sampled and the same text read again are the same tokens.
    """
    data = json.loads(Tokenizer.shipped().to_json())
    special = [token["content"] for token in data["added_tokens"]]
    signs = sorted(token for token in data["model"]["vocab"] if len(token) == 1)
    data["model"]["vocab"] = {token: id_ for id_, token in enumerate([*special, *signs])}
    data["model"]["merges"] = []
    return Tokenizer(json.dumps(data))


def _write(
    path: Path,
    tokenizer: Tokenizer,
    seed: int,
    leanings: Mapping[str, float],
    calls_are_text: bool,
    chat_template: str,
) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("random")
    writer.add_context_length(WINDOW)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(_HIDDEN)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(_WIDTH // _HEADS)
    writer.add_rope_freq_base(1_000_000.0)
    writer.add_vocab_size(tokenizer.vocab_size)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    _add_vocabulary(writer, tokenizer, calls_are_text)
    writer.add_chat_template(chat_template)
    _add_weights(writer, tokenizer, seed, leanings)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_vocabulary(writer: gguf.GGUFWriter, tokenizer: Tokenizer, calls_are_text: bool) -> None:
    data = json.loads(tokenizer.to_json())
    spelt: dict[int, str] = {id_: token for token, id_ in data["model"]["vocab"].items()}
    spelt.update({id_: name for name, id_ in tokenizer.special.items()})
    # In the files of real models, what frames turns is control, and what frames calls often is
    # not: then it is text like any other to llama.cpp.
    special = {
        id_: gguf.TokenType.USER_DEFINED
        if calls_are_text and not name.startswith("<|")
        else gguf.TokenType.CONTROL
        for name, id_ in tokenizer.special.items()
    }
    types = [special.get(id_, gguf.TokenType.NORMAL) for id_ in range(tokenizer.vocab_size)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([spelt[id_] for id_ in range(tokenizer.vocab_size)])
    writer.add_token_types(types)
    # There must be one; of text to tokens nothing is asked of llama.cpp.
    merges = [" ".join(merge) for merge in data["model"]["merges"]]
    writer.add_token_merges(merges or ["! !"])
    writer.add_bos_token_id(tokenizer.special["<|endoftext|>"])
    writer.add_eos_token_id(tokenizer.special["<|im_end|>"])
    writer.add_pad_token_id(tokenizer.special["<|endoftext|>"])
    writer.add_add_bos_token(False)


def _add_weights(
    writer: gguf.GGUFWriter, tokenizer: Tokenizer, seed: int, leanings: Mapping[str, float]
) -> None:
    dice = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> NDArray[np.float32]:
        return dice.standard_normal((rows, columns), np.float32) / np.float32(np.sqrt(columns))

    # The first number of every embedding is the same for all tokens: what an output row has
    # there is added to its token's logit everywhere.
    embedding = 8 * matrix(tokenizer.vocab_size, _WIDTH)
    embedding[:, 0] = 1.0
    output = 4 * matrix(tokenizer.vocab_size, _WIDTH)
    output[:, 0] = 0.0
    for id_, spelling in enumerate(tokenizer.token_bytes()):
        if not _is_text(spelling):
            output[id_, 0] = -4 * _NEVER
    for name, leaning in leanings.items():
        output[tokenizer.special[name], 0] = 4 * leaning
    ones = np.ones(_WIDTH, np.float32)
    tensors: dict[str, NDArray[np.float32]] = {
        "token_embd.weight": embedding,
        "output_norm.weight": ones,
        "output.weight": output,
    }
    for layer in range(_LAYERS):
        tensors |= {
            f"blk.{layer}.attn_norm.weight": ones,
            f"blk.{layer}.attn_q.weight": _PICKING * matrix(_WIDTH, _WIDTH),
            f"blk.{layer}.attn_k.weight": matrix(_WIDTH, _WIDTH),
            f"blk.{layer}.attn_v.weight": matrix(_WIDTH, _WIDTH),
            f"blk.{layer}.attn_output.weight": _quiet_first_row(
                _LISTENING * matrix(_WIDTH, _WIDTH)
            ),
            f"blk.{layer}.ffn_norm.weight": ones,
            f"blk.{layer}.ffn_up.weight": matrix(_HIDDEN, _WIDTH),
            f"blk.{layer}.ffn_gate.weight": matrix(_HIDDEN, _WIDTH),
            f"blk.{layer}.ffn_down.weight": _quiet_first_row(matrix(_WIDTH, _HIDDEN)),
        }
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)


def _is_text(spelling: bytes) -> bool:
    try:
        spelling.decode()
    except UnicodeDecodeError:
        return False
    return True


def _quiet_first_row(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """No layer changes the first number."""
    weights[0] = 0.0
    return weights
