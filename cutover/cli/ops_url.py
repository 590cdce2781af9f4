"""Where the running daemon is: `CUTOVER_OPS_URL`, else what `CUTOVER_OPS_LISTEN` says, else the default.

Both may stand in `.env`: the daemon and its operator read the same file.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from cutover.domain.errors import BadSetting

DEFAULT_URL = "http://127.0.0.1:9202"
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - where such a listener is reached


def environment(directory: Path | None = None) -> dict[str, str]:
    """The process's environment over `.env`."""
    file = (directory or Path.cwd()) / ".env"
    if not file.is_file():
        return dict(os.environ)
    from dotenv import dotenv_values

    return {**{key: value for key, value in dotenv_values(file).items() if value}, **os.environ}


def _usable(url: str) -> bool:
    if url.startswith("unix:"):
        return url.startswith("unix:/")
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a bracket that is not closed
        return False


def ops_url(environ: Mapping[str, str]) -> str:
    """An http(s) URL, or `unix:/path`. Raises `BadSetting` for a `CUTOVER_OPS_URL` that is neither."""
    if url := environ.get("CUTOVER_OPS_URL", "").strip():
        if not _usable(url):
            raise BadSetting(
                "CUTOVER_OPS_URL is neither an http:// or https:// URL with a host nor unix:/path; "
                f"for example CUTOVER_OPS_URL={DEFAULT_URL}"
            )
        return url.rstrip("/")
    listen = environ.get("CUTOVER_OPS_LISTEN", "").partition(",")[0].strip()
    if not listen or listen == "off":
        return DEFAULT_URL
    if listen.startswith("unix:"):
        return listen
    host, _, port = listen.rpartition(":")
    return f"http://{_WILDCARDS.get(host, host)}:{port}"
