"""Says what a process spends its processor time on: a sampler in its own main thread, cheap enough to measure with.

    python -m benchmarks.profile OUT.txt serve [arguments of cutover]

runs the command line in this process and, when it ends (SIGTERM), writes the functions by their own share and by
their share with everything that they called. The timer counts processor time only (ITIMER_PROF), so waiting does not
show; a sample is taken at the next bytecode, so time inside C (sockets, parsers, asyncpg's protocol) is counted for
the Python function that called it.
"""

import signal
import sys
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType

_INTERVAL = 0.002
_LISTED = 45


class Sampler:
    """Samples this thread between `start()` and `stop()`."""

    def __init__(self) -> None:
        self._own: Counter[CodeType] = Counter()
        self._inclusive: Counter[CodeType] = Counter()
        self._samples = 0

    def start(self) -> None:
        """Begin; a second sampler in the same process would take this one's signal."""
        signal.signal(signal.SIGPROF, self._sample)
        signal.setitimer(signal.ITIMER_PROF, _INTERVAL, _INTERVAL)

    def stop(self) -> None:
        """End."""
        signal.setitimer(signal.ITIMER_PROF, 0)

    def _sample(self, _number: int, frame: FrameType | None) -> None:
        if frame is None:
            return
        self._samples += 1
        self._own[frame.f_code] += 1
        seen: set[CodeType] = set()
        at: FrameType | None = frame
        while at is not None:
            seen.add(at.f_code)
            at = at.f_back
        self._inclusive.update(seen)

    def report(self) -> str:
        """Two lists, in percent of all samples."""
        lines = [f"{self._samples} samples, one every {_INTERVAL * 1000:g} ms of processor time"]
        for title, counts in (("own time", self._own), ("with what it called", self._inclusive)):
            lines.append(f"\n{title}")
            lines += [
                f"{100 * count / max(1, self._samples):6.1f} %  {_name(code)}"
                for code, count in counts.most_common(_LISTED)
            ]
        return "\n".join(lines) + "\n"


def _name(code: CodeType) -> str:
    return f"{'/'.join(Path(code.co_filename).parts[-3:])}:{code.co_firstlineno} {code.co_qualname}"


def main() -> None:
    """Run `cutover` with the remaining arguments under the sampler."""
    out = Path(sys.argv[1])
    sys.argv = ["cutover", *sys.argv[2:]]
    from cutover.cli import main as run  # imported here: importing is not what is measured

    sampler = Sampler()
    sampler.start()
    try:
        run()
    finally:
        sampler.stop()
        out.write_text(sampler.report())


if __name__ == "__main__":
    main()
