"""`cutover serve`: the daemon."""

import sys

import click

from cutover.cli.output import emit, output_option
from cutover.cli.verb import Verb


@click.command(
    cls=Verb,
    examples=(
        "cutover serve",
        "cutover serve --check      # the settings in force, without secrets",
        "cutover serve --config /etc/cutover/cutover.toml",
    ),
)
@click.option("--config", type=click.Path(dir_okay=False), help="TOML file of settings; the same as CUTOVER_CONFIG.")
@click.option("--check", is_flag=True, help="Check the settings, print them without secrets, and end.")
@output_option
def serve(config: str | None, check: bool, form: str) -> None:
    """Run the daemon until SIGTERM or SIGINT.

    Settings come from the environment, `.env`, or a TOML file; a wrong one is told in one line.
    """
    import os

    from cutover.settings import load

    settings = load({**os.environ, **({"CUTOVER_CONFIG": config} if config else {})})
    if check:
        shown = {**settings.redacted(), "config_hash": settings.config_hash()}
        if form in ("table", "tsv"):
            tenants = {one["name"]: one for one in shown.pop("tenants")}
            shown |= {f"{name}.{key}": value for name, one in tenants.items() for key, value in one.items()}
        emit(shown, form)
        return
    from cutover.daemon import main as run_daemon

    sys.exit(run_daemon(settings))
