"""Says what a process spends its time on: a sampler that looks at the main thread's stack, cheap enough to leave on.

    python -m benchmarks.profile OUT.txt serve [arguments of cutover]

runs the command line in this process and, when it ends (SIGTERM), writes the functions by their own share and by
their share with everything that they called. `perf_counter` samples count waiting in the event loop's poll as `idle`.
"""

import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType

_INTERVAL = 0.005
_LISTED = 45


class Sampler(threading.Thread):
    """Samples the thread that made it until `stop()`."""

    def __init__(self) -> None:
        super().__init__(daemon=True, name="sampler")
        self._target = threading.get_ident()
        self._stopped = threading.Event()
        self.own: Counter[str] = Counter()
        self.inclusive: Counter[str] = Counter()
        self.samples = 0

    def run(self) -> None:
        while not self._stopped.wait(_INTERVAL):
            frame = sys._current_frames().get(self._target)  # noqa: SLF001 -- the documented way for samplers
            if frame is not None:
                self._count(frame)

    def _count(self, frame: FrameType) -> None:
        self.samples += 1
        self.own[_name(frame)] += 1
        seen = set()
        at: FrameType | None = frame
        while at is not None:
            seen.add(_name(at))
            at = at.f_back
        self.inclusive.update(seen)

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def report(self) -> str:
        """Two lists, in percent of all samples."""
        lines = [f"{self.samples} samples, one every {_INTERVAL * 1000:g} ms"]
        for title, counts in (("own time", self.own), ("with what it called", self.inclusive)):
            lines.append(f"\n{title}")
            lines += [f"{100 * n / max(1, self.samples):6.1f} %  {name}" for name, n in counts.most_common(_LISTED)]
        return "\n".join(lines) + "\n"


def _name(frame: FrameType) -> str:
    code = frame.f_code
    parts = Path(code.co_filename).parts
    return f"{'/'.join(parts[-3:])}:{code.co_firstlineno} {code.co_qualname}"


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
