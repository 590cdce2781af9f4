"""`cutover migrate up|down|status`: schema cutover in each tenant's database."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click

from cutover.cli.output import confirm, emit, output_option, say, tenant_option, yes_option
from cutover.cli.progress import interruptible
from cutover.cli.verb import Group

if TYPE_CHECKING:
    from cutover.stores.database import Database

COLUMNS = ("tenant", "version", "name", "state", "applied_at")
Work = Callable[[str, "Database"], Awaitable[list[Any]]]
"""What is done in a tenant's database, by the tenant's name."""


@click.group(cls=Group)
def migrate() -> None:
    """Apply, undo or list the migrations of schema cutover."""


@migrate.command(
    examples=("cutover migrate up --yes",),
)
@tenant_option
@yes_option
@output_option
def up(tenant: str | None, yes: bool, form: str) -> None:
    """Apply what is missing. Safe while daemons start: one of them does it, the others wait."""
    from cutover.domain.errors import BootRefused, OperatorError
    from cutover.stores import migrate as runner
    from cutover.stores.retire import refuse_retired

    confirm(yes, f"This brings schema cutover up to date in {tenant or 'every tenant'}.")

    async def work(name: str, database: "Database") -> list[Any]:
        try:
            await refuse_retired(name, database)
        except BootRefused as gone:
            raise OperatorError(gone.message, next_step=gone.next_step) from None
        return await runner.up(database)

    done = _on_each(tenant, work)
    rows = [{"tenant": name, "version": m.version, "name": m.name, "state": "applied"} for name, m in done]
    emit(rows, form, COLUMNS[:4])
    say(f"{len(rows)} applied" if rows else "nothing to apply", "green")


@migrate.command(
    examples=("cutover migrate down --to 0     # removes schema cutover",),
)
@click.option("--to", type=click.IntRange(min=0), help="Undo down to this version; 0 removes the schema.  [required]")
@tenant_option
@yes_option
@output_option
def down(to: int | None, tenant: str | None, yes: bool, form: str) -> None:
    """Undo migrations, newest first. Refused by the database while the tenant is past A0."""
    from cutover.stores import migrate as runner

    if to is None:
        raise click.UsageError("Give the version to go down to, e.g. `--to 0`, which removes the schema.")
    confirm(yes, f"This takes schema cutover down to version {to} in {tenant or 'every tenant'}.")
    done = _on_each(tenant, lambda _, database: runner.down(database, to))
    rows = [{"tenant": name, "version": m.version, "name": m.name, "state": "undone"} for name, m in done]
    emit(rows, form, COLUMNS[:4])
    say(f"{len(rows)} undone" if rows else "nothing to undo", "green")


@migrate.command(
    examples=("cutover migrate status",),
)
@tenant_option
@output_option
def status(tenant: str | None, form: str) -> None:
    """List the migrations with what is applied. Exit code 3 when a tenant lacks one."""
    from cutover.stores import migrate as runner

    rows = [
        {
            "tenant": name,
            "version": m.version,
            "name": m.name,
            "state": "changed" if m.changed else "applied" if m.applied_at else "missing",
            "applied_at": m.applied_at,
        }
        for name, m in _on_each(tenant, lambda _, database: runner.status(database))
    ]
    emit(rows, form, COLUMNS)
    if any(row["state"] != "applied" for row in rows):
        say("apply what is missing with: cutover migrate up", "yellow")
        raise click.exceptions.Exit(3)


def _on_each(tenant: str | None, work: Work) -> list[tuple[str, Any]]:
    """`work` on the database of `tenant`, or of every tenant, one after the other."""
    from cutover.cli.tenants import chosen
    from cutover.stores.database import Database

    async def run() -> list[tuple[str, Any]]:
        results: list[tuple[str, Any]] = []
        for one in chosen(tenant):
            database = await Database.connect(one.database_url, application_name="cutover-cli", max_size=1)
            try:
                results += [(one.name, result) for result in await work(one.name, database)]
            finally:
                await database.close()
        return results

    with interruptible("what was done is kept, what was not is rolled back; the same command goes on"):
        return asyncio.run(run())
