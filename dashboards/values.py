"""Values as Grafana shows them: units, colours, thresholds, mappings, overrides. What is not known here is an error: a
picture must not show what Grafana would show differently.
"""

import math
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

TEXT: Final = "#ccccdc"
_COLOURS: Final = {
    "green": "#73bf69",
    "red": "#f2495c",
    "yellow": "#fade2a",
    "orange": "#ff9830",
    "blue": "#5794f2",
    "purple": "#b877d9",
    "light-blue": "#8ab8ff",
    "light-purple": "#ca95e5",
    "light-green": "#96d98d",
    "light-orange": "#ffb357",
    "light-red": "#ff7383",
    "dark-red": "#c4162a",
    "text": TEXT,
    "transparent": "transparent",
}
PALETTE: Final = (
    *("#8ab8ff", "#f2cc0c", "#65c5db", "#73bf69", "#5794f2", "#c8f2c2"),
    *("#9d7bd8", "#2f9e8f", "#d8b26e", "#f9b5c4", "#a0b3c7", "#447ebc"),
)
"""For series that no override colours. Without red and orange: these are for what dashboards mean by them."""
_PER_SECOND: Final = {"reqps": "req/s", "rps": "rd/s", "wps": "wr/s", "cpm": "c/m"}
_SECONDS: Final = (
    (604_800.0, "weeks"),
    (86_400.0, "days"),
    (3_600.0, "hours"),
    (60.0, "mins"),
    (1.0, "s"),
    (1e-3, "ms"),
    (1e-6, "µs"),
)
_BYTES: Final = ((1024.0**4, "TiB"), (1024.0**3, "GiB"), (1024.0**2, "MiB"), (1024.0, "KiB"), (1.0, "B"))
_SHORT: Final = ((1e9, " Bil"), (1e6, " Mil"), (1e3, " K"), (1.0, ""))


class NotDrawn(Exception):
    """A dashboard asks for what the renderer cannot draw; the message says what, and where to add it."""


def colour(name: str) -> str:
    """The CSS colour of one of Grafana's names, or of `#rrggbb`."""
    if re.fullmatch(r"#[0-9a-fA-F]{6}", name):
        return name
    if name not in _COLOURS:
        raise NotDrawn(f"no colour {name!r}: add it to dashboards/values.py")
    return _COLOURS[name]


def digits(value: float) -> str:
    """Three digits that matter; whole numbers as they are."""
    if value == round(value):
        return f"{value:.0f}"
    after = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{after}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _scaled(value: float, steps: Sequence[tuple[float, str]], blank: str = " ") -> str:
    size, name = next(((size, name) for size, name in steps if abs(value) >= size), steps[-1])
    text = digits(value / size)
    if text == "1" and size >= 60 and name.endswith("s"):
        name = name[:-1]
    return f"{text}{blank}{name}"


def shown(value: float, unit: str) -> str:
    """A value in one of Grafana's units."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if unit == "none":
        return digits(value)
    if unit == "short":
        return _scaled(value, _SHORT, "") if value else "0"
    if unit == "s":
        return _scaled(value, _SECONDS) if value else "0 s"
    if unit == "bytes":
        return _scaled(value, _BYTES) if value else "0 B"
    if unit == "percentunit":
        return f"{digits(value * 100)}%"
    if unit in _PER_SECOND:
        return f"{_scaled(value, _SHORT, '') if value else '0'} {_PER_SECOND[unit]}"
    raise NotDrawn(f"no unit {unit!r}: add it to dashboards/values.py")


def steps_of(config: Mapping[str, Any]) -> list[tuple[float, str]]:
    """Thresholds: from a value on (-inf: from the start) a colour's name."""
    told = config.get("thresholds") or {}
    if told.get("mode", "absolute") != "absolute":
        raise NotDrawn(f"thresholds of mode {told['mode']!r}")
    return [
        (-math.inf if each["value"] is None else float(each["value"]), each["color"]) for each in told.get("steps", [])
    ]


def by_threshold(value: float, config: Mapping[str, Any]) -> str:
    """The CSS colour that thresholds give a value."""
    reached = [name for at, name in steps_of(config) if value >= at]
    return colour(reached[-1] if reached else "text")


def mapped(value: str, config: Mapping[str, Any]) -> tuple[str, str] | None:
    """What a value mapping makes of a value: its words and CSS colour; None where none is about it."""
    for mapping in config.get("mappings", []):
        if mapping["type"] != "value":
            raise NotDrawn(f"value mappings of type {mapping['type']!r}")
        if found := mapping["options"].get(value):
            return found.get("text", value), colour(found.get("color", "text"))
    return None


def worded(value: float, config: Mapping[str, Any]) -> tuple[str, str]:
    """A value as it is shown, and its CSS colour: by a value mapping where there is one, else by unit and threshold."""
    return mapped(digits(value), config) or (shown(value, config.get("unit", "none")), by_threshold(value, config))


def merged(field_config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A field's configuration: the panel's defaults under the overrides that match its name."""
    made = dict(field_config.get("defaults", {}))
    made["custom"] = dict(made.get("custom", {}))
    for override in field_config.get("overrides", []):
        if not _matches(override["matcher"], name):
            continue
        for each in override["properties"]:
            key = each["id"]
            if key.startswith("custom."):
                made["custom"][key.removeprefix("custom.")] = each.get("value")
            else:
                made[key] = each.get("value")
    return made


def _matches(matcher: Mapping[str, Any], name: str) -> bool:
    if matcher["id"] == "byName":
        return bool(matcher["options"] == name)
    if matcher["id"] == "byRegexp":
        return re.search(matcher["options"].strip("/"), name) is not None
    raise NotDrawn(f"overrides by {matcher['id']!r}")


def series_colours(names: Sequence[str], field_config: Mapping[str, Any]) -> list[str]:
    """One CSS colour per series: as overrides say, else from the palette by name, each once while it lasts."""
    fixed = [merged(field_config, name).get("color", {}) for name in names]
    made: list[str | None] = [colour(each["fixedColor"]) if each.get("mode") == "fixed" else None for each in fixed]
    for place, name in enumerate(names):
        if made[place] is None:
            at = zlib.crc32(name.encode()) % len(PALETTE)
            free = (PALETTE[(at + step) % len(PALETTE)] for step in range(len(PALETTE)))
            made[place] = next((each for each in free if each not in made), PALETTE[at])
    return [each or TEXT for each in made]
