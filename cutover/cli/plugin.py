"""`cutover plugin serve`: the reference memory plugin, alone."""

import os
import sys

import click

from cutover.cli.verb import Group


@click.group(cls=Group)
def plugin() -> None:
    """Run the reference memory plugin."""


@plugin.command(
    examples=(
        "cutover plugin serve --database-url 'postgres://plugin@127.0.0.1/tenant?search_path=memory_plugin,public'",
    ),
)
@click.option(
    "--database-url",
    help="PostgreSQL with pgvector, as a URL, file:/path or env:NAME. Default: MEMORY_PLUGIN_DATABASE_URL.",
)
@click.option("--listen", default="127.0.0.1:9100", show_default=True, help="host:port or unix:/path.")
def serve(database_url: str | None, listen: str) -> None:
    """Serve the plugin contract on the built-in storage. Keep it on loopback: the contract has no authentication."""
    variable, example = "MEMORY_PLUGIN_DATABASE_URL", "file:/run/secrets/plugin-database-url"
    given = database_url or os.environ.get(variable, "")
    if not given:
        raise click.UsageError(
            "no database: give --database-url or MEMORY_PLUGIN_DATABASE_URL, for example "
            "postgres://plugin@127.0.0.1/tenant?search_path=memory_plugin,public"
        )
    from cutover.embedded.reference_plugin import main
    from cutover.tenant_settings import read_secret

    url = read_secret(given, os.environ, variable=variable, example=example)
    sys.exit(main(["--database-url", url, "--listen", listen]))
