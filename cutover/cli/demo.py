"""`cutover demo`: the whole move, on this machine."""

import sys
from pathlib import Path

import click

from cutover.cli.verb import Verb


@click.command(
    cls=Verb,
    examples=(
        "cutover demo",
        "cutover demo --seed 7 --logs logs",
    ),
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of the sample data and the traffic.")
@click.option("--logs", type=click.Path(file_okay=False, path_type=Path), help="Keep the children's logs here.")
def demo(seed: int, logs: Path | None) -> None:
    """Run the whole move on an embedded PostgreSQL, under live traffic, with the plugin and the daemon killed once.

    Needs the extra `embedded`. The last line says what came of it.
    """
    from cutover.embedded.demo import run

    sys.exit(run(seed=seed, logs=logs))
