"""The alert rules with their times shortened, for tests that cannot wait for hours.

One rule, for every duration alike: `for`, `keep_firing_for`, ranges (`[5m]`), offsets and thresholds in seconds, which
the rules write as products (`15 * 60`, `24 * 3600`), are divided by the same number. Nothing else is changed.
"""

import re
from pathlib import Path

ALERTS = Path(__file__).parents[1] / "alerts"
_UNIT_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = r"(\d+)([smhd])"


def shortened(text: str, by: float) -> str:
    """A rule file with every duration divided by `by`."""

    def duration(found: re.Match[str]) -> str:
        return f"{found[1]}{round(int(found[2]) * _UNIT_MS[found[3]] / by)}ms{found[4]}"

    text = re.sub(rf"^( *(?:keep_firing_)?for: ){_DURATION}()$", duration, text, flags=re.MULTILINE)
    text = re.sub(rf"(\[){_DURATION}(\])", duration, text)
    text = re.sub(rf"(\boffset ){_DURATION}()\b", duration, text)
    return re.sub(r"\b(\d+) \* (60|3600)\b", lambda found: f"{int(found[1]) * int(found[2]) / by:g}", text)


def shortened_files(directory: Path, by: float) -> list[Path]:
    """Copies of both rule files in `directory`, shortened."""
    made = []
    for name in ("recording.yml", "cutover.yml"):
        path = directory / name
        path.write_text(shortened((ALERTS / name).read_text(encoding="utf-8"), by), encoding="utf-8")
        made.append(path)
    return made
