"""What a model takes beside text, and the refusal of what it does not.

An image may stand in a message or in what a tool returned, in the new input or far back in the
conversation. Each link of a context knows which kinds of parts it and all before it hold, so that
a long history costs no more to check than a short one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from turnwire.context.chain import Context
from turnwire.errors import InvalidRequest
from turnwire.protocol.items import InputImage
from turnwire.protocol.media import MEDIA_KINDS, MediaPart

__all__ = ["EVERYTHING", "TEXT_ONLY", "Takes", "check_taken"]


class Takes(Struct, frozen=True, kw_only=True):
    """What a model takes beside text.

    Attributes:
        images: `input_image` parts.
        files: `input_file` parts.
    """

    images: bool = False
    files: bool = False


TEXT_ONLY: Final = Takes()
EVERYTHING: Final = Takes(images=True, files=True)


def check_taken(
    model: str,
    takes: Takes,
    before: Context | None,
    media: Sequence[tuple[str, MediaPart]],
    *,
    origin: str,
) -> None:
    """Refuse parts that a model does not take. O(media), however long the conversation.

    Args:
        model: Its name.
        takes: What it takes.
        before: The conversation before the input, or None.
        media: The input's images and files, each with its path.
        origin: The parameter that brought `before`.

    Raises:
        InvalidRequest: `unsupported_value`; `param` is the part's path in the input, or `origin`.
    """
    for path, part in media:
        images = isinstance(part, InputImage)
        if not (takes.images if images else takes.files):
            raise InvalidRequest(
                f"'{path}' is {'an image' if images else 'a file'}, and the model '{model}' takes "
                f"no {'images' if images else 'files'}. Leave it out, or ask another model.",
                code="unsupported_value",
                param=path,
            )
    if before is None or not MEDIA_KINDS & before.holds:
        return
    for kind, taken, words in (
        ("input_image", takes.images, "images"),
        ("input_file", takes.files, "files"),
    ):
        if kind in before.holds and not taken:
            raise InvalidRequest(
                f"The conversation that '{origin}' names holds {words}, and the model '{model}' "
                f"takes no {words}. Go on with another model, or begin anew without them.",
                code="unsupported_value",
                param=origin,
            )
