"""Write `dashboards/<uid>.json`: `python -m dashboards.generate`. A test compares the files with what this writes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from dashboards import backfill, divergence, overview, traffic
from dashboards.sdk import JSONEncoder, models

DIRECTORY: Final = Path(__file__).parent
DASHBOARDS: Final[tuple[Callable[[], models.Dashboard], ...]] = (
    overview.overview,
    divergence.divergence,
    traffic.traffic,
    backfill.backfill,
)


def generated() -> dict[str, str]:
    """The text of every file by its name; the same on every machine and at every time."""
    made = {}
    for each in DASHBOARDS:
        board = each()
        plain = _shown(json.loads(json.dumps(board, cls=JSONEncoder)))
        made[f"{board.uid}.json"] = json.dumps(plain, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    return made


def _shown(made: Any) -> Any:
    """Links and annotations where people see them: the SDK's default moves them into a menu (Grafana 12)."""
    if isinstance(made, list):
        return [_shown(each) for each in made]
    if isinstance(made, dict):
        return {key: _shown(each) for key, each in made.items() if each != "inControlsMenu"}
    return made


def main() -> None:
    """Write them all."""
    for name, text in generated().items():
        (DIRECTORY / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
