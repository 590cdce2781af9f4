"""The command line (observability §5). Each verb is one thin file, read only when it is used, so `--help` is quick.

Data goes to stdout, words to stderr. Exit codes: 0 ok, 1 error, 2 usage or setting, 3 gate closed or divergent,
4 unreachable, 130 interrupted.
"""

try:
    from cutover.cli.root import main
except KeyboardInterrupt:  # Ctrl-C before anything has begun
    raise SystemExit(130) from None

__all__ = ["main"]
