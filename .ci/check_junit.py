"""Fail when a test report holds no tests, or one that was skipped or expected to fail. Standard library only."""

import sys
import xml.etree.ElementTree as ET
from pathlib import Path


def problems(report: Path) -> list[str]:
    """What is wrong with the report, one line each."""
    if not report.is_file():
        return [f"there is no report at {report}: the tests did not run"]
    try:
        root = ET.parse(report).getroot()  # noqa: S314 - our own test run wrote it
    except ET.ParseError:
        return [f"the report at {report} is cut short: the tests did not end"]
    cases = list(root.iter("testcase"))
    if not cases:
        return ["no tests were collected"]
    found = []
    for case in cases:
        name = f"{case.get('classname')}::{case.get('name')}"
        for child in case:
            if child.tag == "skipped":  # pytest files expected failures under the same tag
                found.append(f"skipped or expected to fail: {name}: {child.get('message', '')[:120]}")
            elif child.tag in ("failure", "error"):
                found.append(f"failed: {name}")
    return found


if __name__ == "__main__":
    wrong = problems(Path(sys.argv[1]))
    for line in wrong:
        print(line, file=sys.stderr)  # noqa: T201 - this is a command
    sys.exit(1 if wrong else 0)
