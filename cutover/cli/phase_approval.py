"""`cutover phase certify|approve|certificate|certificates`: what a promotion consumes, and who stands for it."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cutover.cli.complete import certificates as known
from cutover.cli.failure import DIVERGENT, CommandFailed
from cutover.cli.loosened import loosened
from cutover.cli.output import confirm, emit, output_option, say, tenant_option, yes_option
from cutover.cli.verb import Verb
from cutover.domain.phase import Phase

if TYPE_CHECKING:
    from cutover.cli.ops_client import Ops

C = TypeVar("C", bound=Callable[..., Any])


def token_option(command: C) -> C:
    """`--token-file PATH`, as the argument `token_file`."""
    return click.option(
        "--token-file",
        metavar="PATH",
        type=click.Path(exists=True, dir_okay=False),
        help="A file with the token of whoever runs this. Default: CUTOVER_ADMIN_TOKEN.",
    )(command)


@click.command(
    cls=Verb,
    examples=(
        "cutover phase certify A3",
        "cutover phase certify A3 --override 'quarantine is known' --yes",
    ),
    asks=lambda given: given["override"] is not None,
)
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


@click.command(
    cls=Verb,
    examples=("cutover phase approve 3f9c02ab --as ada --token-file ~/.cutover-token",),
)
@click.argument("certificate", metavar="HASH", shell_complete=known)
@click.option("--as", "name", metavar="NAME", required=True, help="Who approves: the name of the token that is sent.")
@token_option
@tenant_option
@yes_option
@output_option
def approve(certificate: str, name: str, token_file: str | None, tenant: str | None, yes: bool, form: str) -> None:
    """Stand for a certificate, having seen what it says. HASH may be its first 8 digits or more; the token must be
    NAME's."""
    from cutover.cli.ops_client import Ops

    with Ops(tenant=tenant, timeout=60.0, token_file=token_file) as ops:
        shown = one_certificate(ops, certificate)
        tell(shown)
        confirm(yes, f"{name} approves certificate {shown['hash'][:12]} for the step to {shown['target']}.")
        made = ops.post("/api/v1/phase/approve", {"certificate": shown["hash"], "name": name})
    emit(made if form in ("json", "yaml") else _facts(made), form)
    if missing := made["approvals_missing"]:
        say(f"{missing} more must approve it", "yellow")
    else:
        say(f"it can be used: cutover phase promote {made['target']} --certificate {made['hash'][:12]}")


@click.command(
    cls=Verb,
    examples=("cutover phase certificate 3f9c02ab",),
)
@click.argument("certificate", metavar="HASH", shell_complete=known)
@tenant_option
@output_option
def certificate(certificate: str, tenant: str | None, form: str) -> None:
    """Show one certificate. HASH may be its first 8 digits or more. Exit 3 when it is void."""
    from cutover.cli.ops_client import Ops

    with Ops(tenant=tenant, timeout=60.0) as ops:
        made = one_certificate(ops, certificate)
    emit(made if form in ("json", "yaml") else {**_facts(made), "void": made["void"]}, form)
    if made["void"]:
        say(f"it is void: {made['void']}", "yellow")
        raise click.exceptions.Exit(DIVERGENT)


@click.command(
    cls=Verb,
    examples=(
        "cutover phase certificates",
        "cutover phase certificates --limit 5 -o json",
    ),
)
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
    columns = ("hash", "target", "requested_by", "approvals", "override", "failed", "loosened", "valid")
    emit([_line(each) for each in kept], form, columns)


def _line(made: dict[str, Any]) -> dict[str, Any]:
    return {
        "hash": made["hash"][:12],
        "target": made["target"],
        "requested_by": made["requested_by"],
        "approvals": _approvals(made),
        "override": made["override"],
        "failed": ", ".join(made["failed"]) or None,
        "loosened": len(made["loosened"]) or None,
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
        "failed": "; ".join(_failing(each) for each in made["failing"]) or None,
        "loosened": loosened(made["loosened"]),
        "approvals": _approvals(made),
        "valid_until": made["expires_at"],
    }


def one_certificate(ops: "Ops", beginning: str) -> dict[str, Any]:
    """The certificate whose hash begins so; fails where that is no hash, or none's."""
    if re.fullmatch("[0-9A-Fa-f]{8,64}", beginning) is None:
        raise CommandFailed(
            f"{beginning!r} is not the hash of a certificate",
            "a hash, or its beginning, is 8 to 64 hexadecimal digits",
            "cutover phase certificates",
        )
    found: dict[str, Any] = ops.get(f"/api/v1/phase/certificates/{beginning}")
    return found


def tell(made: dict[str, Any]) -> None:
    """Everything that somebody should know who stands for it or uses it, in sentences on stderr."""
    say(f"certificate {made['hash'][:12]}: {made['phase']} to {made['target']} in epoch {made['epoch']}, asked for by "
        f"{made['requested_by']}, {_valid(made)}; approvals: {_approvals(made)}")  # fmt: skip
    if made["override"]:
        say(f"  the gate is closed, and it goes past it: {made['override']}", "yellow")
    for each in made["failing"]:
        say(f"  fails: {_failing(each)}", "yellow")
    if words := loosened(made["loosened"]):
        say(f"  loosened: {words}", "yellow")


def _failing(each: dict[str, Any]) -> str:
    return f"{each['id']} measured {each['measured']} {each['unit']}, asked for {each['threshold']}"


def _valid(made: dict[str, Any]) -> str:
    return f"void: {made['void']}" if made["void"] else f"valid until {made['expires_at'][:19]}Z"


def _approvals(made: dict[str, Any]) -> str:
    if not made["approvals_needed"]:
        return "none needed"
    names = ", ".join(each["approver"] for each in made["approvals"])
    return f"{len(made['approvals'])} of {made['approvals_needed']}{f': {names}' if names else ''}"
