"""What others wrote, as it may go to a terminal: nothing in it moves the cursor, sets a title, or turns text around.

Versions, reasons and names come from plugins, databases and whoever saves a memory. On a terminal a control
character in them is a command.
"""

import re
import unicodedata
from collections.abc import Callable


def _is_hidden(character: str) -> bool:
    """Control characters but tab and line feed, format characters, surrogates, and Unicode's own line separators."""
    return character not in "\t\n" and unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


_SUSPECT = re.compile(r"[^\t\n -~]")
"""Whatever is not plain ASCII is looked at."""


def visible(text: str) -> str:
    r"""With every such character as `\x1b` or `\u202e`."""
    return _replaced(text, _escape)


def visible_json(text: str) -> str:
    """The same for JSON, where it is an escape that means the same character: the data stays what it is."""
    return _replaced(text, _json_escape)


def is_visible(text: str) -> bool:
    """Whether there is nothing to replace."""
    return visible(text) == text


def _replaced(text: str, shown: Callable[[str], str]) -> str:
    return _SUSPECT.sub(lambda found: shown(found[0]) if _is_hidden(found[0]) else found[0], text)


def _escape(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else character.encode("ascii", "backslashreplace").decode()


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[n : n + 2].hex()}" for n in range(0, len(units), 2))
