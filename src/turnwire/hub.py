"""Files from a model hub: fetched once, continued where a download broke off, checked.

A hub answers `GET /OWNER/NAME/resolve/REVISION/FILE`, mostly with a redirect to where the bytes
are. On the first answer `X-Linked-Etag` is the file's SHA-256 and `X-Linked-Size` its size, for
files that are large; small ones have neither, and an `ETag` that is no checksum of ours.

While it is incomplete a file is called `FILE.part`; `FILE.part.etag` says which file it is a part
of, so that bytes of two versions are never joined. What has its real name is whole.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import aiohttp
from msgspec import Struct
from yarl import URL

from turnwire.errors import TurnwireError

__all__ = ["HubError", "Progress", "fetch", "parts_of"]

Progress = Callable[[str, int, int | None], None]
"""Called with the file's name, the bytes that are there, and how many there will be if known."""

CHUNK_BYTES: Final = 1 << 20
MAX_REDIRECTS: Final = 5
MAX_TRIES: Final = 5
CONNECT_SEC: Final = 20.0
SILENCE_SEC: Final = 60.0
FIRST_PAUSE_SEC: Final = 0.5
LOCK_PAUSE_SEC: Final = 0.5  # between two looks whether another process has fetched the file
SHA256: Final = re.compile(r"[0-9a-f]{64}")
PART: Final = re.compile(r"(.+)-\d{5}-of-(\d{5})\.gguf", re.ASCII)
RANGE: Final = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class HubError(TurnwireError):
    """A file could not be fetched; the message says why, and what to do."""


class _Target(Struct, frozen=True):
    """Where the bytes of a file are.

    Attributes:
        url: To ask; the hub's own, or another host's, which is not told our key.
        at_hub: Whether it is the hub's own.
        etag: Names the version.
        sha256: Of the whole, if the hub says so.
        num_bytes: The same.
    """

    url: URL
    at_hub: bool
    etag: str
    sha256: str | None
    num_bytes: int | None


def parts_of(name: str) -> list[str]:
    """Every file of a model that is split over several, in order, given any of them.

    Large GGUF files are split, into `NAME-00001-of-00003.gguf` and so on; the first is the one to
    load. Any other file is the only one.
    """
    part = PART.fullmatch(name)
    if part is None:
        return [name]
    stem, count = part[1], part[2]
    return [f"{stem}-{number:05}-of-{count}.gguf" for number in range(1, int(count) + 1)]


async def fetch(
    name: str,
    folder: Path,
    *,
    hub_url: str,
    key: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Return the path of a file of the hub, fetched if it is not there.

    Args:
        name: `OWNER/NAME/FILE`, the file perhaps in folders of the repository.
        folder: Where files are kept; it and what is needed in it are created.
        hub_url: `https://huggingface.co`.
        key: For files that are not public.
        progress: Hears how far it is.

    Raises:
        HubError: it cannot be fetched, or is not what the hub says it is.
        OSError: it cannot be written.
    """
    path = folder.joinpath(*name.split("/"))
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    async with _alone(path):
        if not path.exists():  # another process was faster
            await _Download(name, path, hub_url, key, progress).run()
    return path


@asynccontextmanager
async def _alone(path: Path) -> AsyncIterator[None]:
    """Keep other processes from fetching the same file at the same time."""
    with path.with_name(path.name + ".lock").open("w") as lock:
        while True:
            # Not in a thread: one that waits for a lock cannot be told to stop.
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            await asyncio.sleep(LOCK_PAUSE_SEC)
        yield


class _Interrupted(Exception):
    """The bytes ended early; there is no harm in asking for the rest."""


class _Download:
    def __init__(
        self, name: str, path: Path, hub_url: str, key: str | None, progress: Progress | None
    ) -> None:
        owner, repository, file = name.split("/", 2)
        self._name = name
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._version = path.with_name(path.name + ".part.etag")
        self._url = URL(hub_url) / owner / repository / "resolve" / "main"
        for step in file.split("/"):
            self._url /= step
        self._key = key
        self._progress = progress

    async def run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SEC, sock_read=SILENCE_SEC)
        pause_sec = FIRST_PAUSE_SEC
        async with aiohttp.ClientSession(
            timeout=timeout, trust_env=True, auto_decompress=False
        ) as session:
            for tries_left in range(MAX_TRIES - 1, -1, -1):
                size = self._size()
                try:
                    target = await self._locate(session)
                    await self._pull(session, target)
                    await self._finish(target)
                    return
                except (aiohttp.ClientError, TimeoutError, _Interrupted) as error:
                    if not tries_left:
                        raise HubError(
                            f"{self._name} could not be fetched: {_reason(error)}. What is there "
                            "is kept; start again to go on."
                        ) from error
                if self._size() == size:
                    await asyncio.sleep(pause_sec)
                    pause_sec *= 2

    async def _locate(self, session: aiohttp.ClientSession) -> _Target:
        """Follow the hub to where the bytes are."""
        url, sha256, etag = self._url, None, ""
        num_bytes: int | None = None
        for _ in range(MAX_REDIRECTS + 1):
            async with session.head(
                url, headers=self._headers(at_hub=True), allow_redirects=False
            ) as answer:
                headers = answer.headers
                linked = _bare(headers.get("X-Linked-Etag", ""))
                if SHA256.fullmatch(linked):
                    sha256 = linked
                if headers.get("X-Linked-Size", "").isdigit():
                    num_bytes = int(headers["X-Linked-Size"])
                etag = etag or linked or _bare(headers.get("ETag", ""))
                if answer.status in (301, 302, 303, 307, 308) and "Location" in headers:
                    url = url.join(URL(headers["Location"], encoded=True))
                    if url.origin() == self._url.origin():
                        continue
                    # A signed address may be for GET alone, so it is not asked anything before.
                    return _Target(url, False, etag, sha256, num_bytes)
                self._check(answer.status)
                if num_bytes is None and headers.get("Content-Length", "").isdigit():
                    num_bytes = int(headers["Content-Length"])
                return _Target(url, True, etag, sha256, num_bytes)
        raise HubError(f"{self._name}: the hub redirects more than {MAX_REDIRECTS} times.")

    async def _pull(self, session: aiohttp.ClientSession, target: _Target) -> None:
        """Bring the part up to the whole.

        Raises:
            _Interrupted: it ended early.
        """
        have = self._size()
        if not target.etag or not self._is_of(target.etag):
            have = 0
        if have and have == target.num_bytes:
            return
        headers = self._headers(at_hub=target.at_hub)
        if have:
            headers["Range"] = f"bytes={have}-"
        async with session.get(target.url, headers=headers) as answer:
            span = RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            if answer.status == 206 and span and int(span[1]) == have:
                mode = "ab"
            elif answer.status == 416:
                self._part.unlink(missing_ok=True)
                raise _Interrupted("the hub has fewer bytes than there are here")
            else:
                self._check(answer.status)
                mode, have = "wb", 0
            total = target.num_bytes
            if total is None and answer.content_length is not None:
                total = have + answer.content_length
            self._version.write_text(target.etag)
            with self._part.open(mode) as file:
                async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                    await asyncio.to_thread(file.write, chunk)
                    have += len(chunk)
                    if self._progress is not None:
                        self._progress(self._name, have, total)
        if total is not None and have < total:
            raise _Interrupted("the connection was closed early")

    async def _finish(self, target: _Target) -> None:
        have = self._size()
        wrong = target.num_bytes is not None and have != target.num_bytes
        if not wrong and target.sha256 is not None:
            wrong = await asyncio.to_thread(_sha256, self._part) != target.sha256
        if wrong:
            self._part.unlink()
            raise HubError(
                f"{self._name} did not arrive as the hub has it, and was thrown away. "
                "Start again to fetch it anew."
            )
        self._part.replace(self._path)
        self._version.unlink(missing_ok=True)

    def _headers(self, *, at_hub: bool) -> dict[str, str]:
        # Compressed, a part of a file would be no part of it.
        headers = {"Accept-Encoding": "identity"}
        if at_hub and self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        return headers

    def _check(self, status: int) -> None:
        """
        Raises:
            HubError: asking again would not help.
            _Interrupted: it might.
        """
        if status == 200:
            return
        if status in (401, 403):
            raise HubError(
                f"The hub does not give {self._name} to everybody ({status}). Accept its terms "
                "there, and put a key into the variable that models.hub_key_env names (HF_TOKEN)."
            )
        if status == 404:
            raise HubError(f"The hub has no {self._name}; check owner, name and file.")
        if status in (408, 429) or status >= 500:
            raise _Interrupted(f"the hub answered {status}")
        raise HubError(f"The hub answered {status} when asked for {self._name}.")

    def _is_of(self, etag: str) -> bool:
        try:
            return self._version.read_text() == etag
        except (OSError, UnicodeDecodeError):
            return False

    def _size(self) -> int:
        try:
            return self._part.stat().st_size
        except FileNotFoundError:
            return 0


def _bare(etag: str) -> str:
    return etag.removeprefix("W/").strip('"')


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
