"""`cutover phase certify|approve|certificates`: the proof that a promotion consumes, and who stands for it."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from cutover.cli.output import confirm, emit, output_option, say, tenant_option, yes_option
from cutover.domain.phase import Phase

C = TypeVar("C", bound=Callable[..., Any])


def token_option(command: C) -> C:
    """`--token-file PATH`, as the argument `token_file`."""
    return click.option(
        "--token-file",
        metavar="PATH",
        type=click.Path(exists=True, dir_okay=False),
        help="A file with the token of whoever runs this. Default: CUTOVER_ADMIN_TOKEN.",
    )(command)


@click.command()
@click.argument("target", required=False, type=click.Choice([p.value for p in Phase if p is not Phase.A0]))
@click.option("--override", metavar="REASON", help="Go on although the gate is closed. Recorded for ever.")
@token_option
@tenant_option
@yes_option
@output_option
def certify(
    target: str | None, override: str | None, token_file: str | None, tenant: str | None, yes: bool, form: str
) -> None:
    """Judge the gate and issue a certificate for the next phase. Exit 3, with what fails, when it is closed."""
    from cutover.cli.ops_client import Ops

    if override is not None:
        confirm(yes, "An override is kept for ever, and shown on every status until the phase is left.")
    body = {"target": target, "override": override}
    with Ops(tenant=tenant, timeout=60.0, token_file=token_file) as ops:
        made = ops.post("/api/v1/phase/certify", {key: value for key, value in body.items() if value is not None})
    emit(made if form in ("json", "yaml") else _facts(made), form)
    if missing := made["approvals_missing"]:
        say(f"{missing} people other than {made['requested_by']} must approve it: "
            f"cutover phase approve {made['hash'][:12]} --as NAME", "yellow")  # fmt: skip


@click.command()
@click.argument("certificate", metavar="HASH")
@click.option("--as", "name", metavar="NAME", required=True, help="Who approves: the name of the token that is sent.")
@token_option
@tenant_option
@yes_option
@output_option
def approve(certificate: str, name: str, token_file: str | None, tenant: str | None, yes: bool, form: str) -> None:
    """Stand for a certificate. HASH may be its first 8 digits or more; the token must be NAME's."""
    from cutover.cli.ops_client import Ops

    confirm(yes, f"{name} approves certificate {certificate}.")
    with Ops(tenant=tenant, timeout=60.0, token_file=token_file) as ops:
        made = ops.post("/api/v1/phase/approve", {"certificate": certificate, "name": name})
    emit(made if form in ("json", "yaml") else _facts(made), form)
    if missing := made["approvals_missing"]:
        say(f"{missing} more must approve it", "yellow")
    else:
        say(f"it can be used: cutover phase promote {made['target']}")


@click.command()
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="The newest so many.")
@tenant_option
@output_option
def certificates(limit: int, tenant: str | None, form: str) -> None:
    """List certificates: for what, by whom, who approved, until when, or why void."""
    from cutover.cli.ops_client import Ops

    with Ops(tenant=tenant, timeout=60.0) as ops:
        kept = ops.get(f"/api/v1/phase/certificates?limit={limit}")["certificates"]
    if form in ("json", "yaml"):
        emit(kept, form)
        return
    columns = ("hash", "target", "requested_by", "approvals", "override", "valid")
    emit([_line(each) for each in kept], form, columns)


def _line(made: dict[str, Any]) -> dict[str, Any]:
    return {
        "hash": made["hash"][:12],
        "target": made["target"],
        "requested_by": made["requested_by"],
        "approvals": _approvals(made),
        "override": made["override"],
        "valid": f"void: {made['void']}" if made["void"] else f"until {made['expires_at'][:19]}Z",
    }


def _facts(made: dict[str, Any]) -> dict[str, Any]:
    """What a person wants to see of one."""
    return {
        "hash": made["hash"],
        "target": made["target"],
        "epoch": made["epoch"],
        "requested_by": made["requested_by"],
        "override": made["override"],
        "failed": made["failed"],
        "loosened": "; ".join(made["loosened"]) or None,
        "approvals": _approvals(made),
        "valid_until": made["expires_at"],
    }


def _approvals(made: dict[str, Any]) -> str:
    if not made["approvals_needed"]:
        return "none needed"
    names = ", ".join(each["approver"] for each in made["approvals"])
    return f"{len(made['approvals'])} of {made['approvals_needed']}{f': {names}' if names else ''}"
