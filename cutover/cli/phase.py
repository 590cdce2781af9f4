"""`cutover phase promote|rollback`: one step. `show` and `check` are in `phase_show.py`, certificates and approvals in
`phase_approval.py`.
"""

import contextlib
import getpass
import threading
from typing import TYPE_CHECKING, Any

import click

from cutover.cli.complete import certificates as certificates_known
from cutover.cli.failure import DIVERGENT, CommandFailed
from cutover.cli.loosened import loosened
from cutover.cli.output import confirm, emit, output_option, say, tenant_option, yes_option
from cutover.cli.phase_approval import approve, certificate, certificates, certify, one_certificate, tell, token_option
from cutover.cli.phase_rehearse import rehearse_rollback
from cutover.cli.phase_scream import refreeze, scream_test
from cutover.cli.phase_show import check, phase_of, show
from cutover.cli.phase_thaw import thaw
from cutover.cli.progress import interruptible
from cutover.cli.verb import Group
from cutover.domain.phase import Phase, step

if TYPE_CHECKING:
    from cutover.cli.ops_client import Ops


_STEP_SECONDS = 900.0
"""A long journal goes back, or millions of rows are taken over: the client waits for that long."""
_TELL_SECONDS = 3.0


@click.group(cls=Group)
def phase() -> None:
    """Show or change a tenant's phase."""


phase.add_command(show)
phase.add_command(check)
phase.add_command(certify)
phase.add_command(approve)
phase.add_command(certificate)
phase.add_command(certificates)
phase.add_command(scream_test)
phase.add_command(refreeze)
phase.add_command(rehearse_rollback)
phase.add_command(thaw)


@phase.command(
    examples=(
        "cutover phase promote --dry-run       # the steps, and what each checks",
        "cutover phase promote A1 --reason 'window of Tuesday'",
        "cutover phase promote A3 --certificate 3f9c02ab --yes",
    ),
)
@click.argument("target", required=False, type=click.Choice([p.value for p in Phase]))
@click.option(
    "--certificate",
    metavar="HASH",
    shell_complete=certificates_known,
    help="What to consume. Default: the newest without an override that is approved; A1, A2: a new one.",
)
@click.option("--reason", default="", help="Why, for the record.")
@click.option("--actor", default=None, help="Who, for the record. Default: the user who runs this.")
@click.option("--dry-run", is_flag=True, help="Print the ordered steps with what each checks, and change nothing.")
@token_option
@tenant_option
@yes_option
@output_option
def promote(certificate: str | None, **options: Any) -> None:
    """Go one phase forward. A3 and A4 need a certificate that two people have approved; A1 and A2 an open gate."""
    _change(+1, {} if certificate is None else {"certificate": certificate}, **options)


@phase.command(
    examples=(
        "cutover phase rollback --dry-run",
        "cutover phase rollback --reason 'latency of the plugin'",
    ),
)
@click.argument("target", required=False, type=click.Choice([p.value for p in Phase]))
@click.option("--reason", default="", help="Why, for the record.")
@click.option("--actor", default=None, help="Who, for the record. Default: the user who runs this.")
@click.option("--dry-run", is_flag=True, help="Print the ordered steps and change nothing.")
@token_option
@tenant_option
@yes_option
@output_option
def rollback(**options: Any) -> None:
    """Go one phase back. A3 goes back to A2 without loss: the journal is replayed into legacy."""
    _change(-1, {}, **options)


def _change(
    direction: int,
    more: dict[str, Any],
    *,
    target: str | None,
    reason: str,
    actor: str | None,
    dry_run: bool,
    token_file: str | None,
    tenant: str | None,
    yes: bool,
    form: str,
) -> None:
    from cutover.cli.ops_client import Ops

    with Ops(tenant=tenant, timeout=_STEP_SECONDS, token_file=token_file) as ops:
        status = ops.get("/api/v1/status")
        current = phase_of(status)
        wanted = Phase(target) if target else _neighbour(current, direction)
        if (wrong := step(current, wanted)) is not None:
            raise CommandFailed(f"{current} to {wanted} is not a step", wrong, "cutover phase show", DIVERGENT)
        if (wanted.order - current.order) * direction < 0:
            other = "rollback" if direction > 0 else "promote"
            raise click.UsageError(f"{wanted} lies the other way: use `cutover phase {other}`.")
        if dry_run:
            _show_plan(ops, wanted, form)
            return
        if direction > 0 and (used := _to_consume(ops, wanted, more.get("certificate"))) is not None:
            tell(used)
            more = {**more, "certificate": used["hash"]}
        confirm(
            yes,
            f"Tenant {status.get('tenant')} goes from {current} ({current.meaning}) to {wanted} ({wanted.meaning}).",
        )
        verb = "promote" if direction > 0 else "rollback"
        body = {
            "target": wanted.value,
            "reason": reason or f"cutover phase {verb}",
            "actor": actor or getpass.getuser(),
            "expected_epoch": status.get("epoch"),
            **more,
        }
        with interruptible(f"the step to {wanted} goes on in the daemon; `cutover phase show` shows what comes of it"):
            changed = _followed(ops, f"/api/v1/phase/{verb}", body)
    emit(_shown(changed, form), form)
    used = changed.get("certificate") or {}
    if used.get("override"):
        say(f"entered past a closed gate ({', '.join(used['failed'])}): {used['override']}", "yellow")
    if (words := loosened(used.get("loosened"))) and "certificate" not in more:  # else it was told before
        say(f"loosened: {words}", "yellow")


def _followed(ops: "Ops", path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The daemon's answer to a step, which may take minutes; what it is at is told now and then."""
    came: dict[str, Any] = {}

    def ask() -> None:
        try:
            came["answer"] = ops.post(path, body, shown_by="cutover phase show")
        except CommandFailed as error:
            came["error"] = error

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_TELL_SECONDS)
    while asking.is_alive():
        with contextlib.suppress(CommandFailed):
            if told := ops.get("/api/v1/phase").get("changing"):
                say(f"to {told['to']}: {told['doing']}")
        asking.join(_TELL_SECONDS)
    if "error" in came:
        raise came["error"]
    return dict(came["answer"])


def _to_consume(ops: "Ops", wanted: Phase, named: str | None) -> dict[str, Any] | None:
    """What the step will consume, so that it is seen before; None: one is issued on the way, or the daemon refuses."""
    if named is not None:
        return one_certificate(ops, named)
    good = [
        each
        for each in ops.get("/api/v1/phase/certificates?limit=200")["certificates"]
        if each["target"] == wanted.value and not each["void"] and not each["approvals_missing"]
    ]
    for each in good:
        if each["override"]:
            say(f"certificate {each['hash'][:12]} goes past a closed gate, so it is used only when it is named: "
                f"--certificate {each['hash'][:12]}")  # fmt: skip
    plain: list[dict[str, Any]] = [each for each in good if not each["override"]]
    return plain[0] if plain else None


def _show_plan(ops: "Ops", wanted: Phase, form: str) -> None:
    steps = ops.get(f"/api/v1/phase/plan?target={wanted}")["steps"]
    rows = [{"step": number, **each} for number, each in enumerate(steps, 1)]
    if form in ("json", "yaml"):
        emit(rows, form)
        return
    lines = []
    for row in rows:
        lines.append({"step": row["step"], "what": row["what"]})
        lines += [{"step": " " if form == "table" else "", "what": f"  checks {each}"} for each in row["checks"]]
    emit(lines, form, ("step", "what"))


def _neighbour(current: Phase, direction: int) -> Phase:
    """The phase after or before; at either end there is none."""
    if current is Phase.A0 and direction < 0:
        what, why = "there is no phase before A0", "A0 is the first phase: there is nothing to go back to"
        raise CommandFailed(what, why, "cutover phase show", DIVERGENT)
    return Phase(f"A{min(4, current.order + direction)}")


def _shown(changed: dict[str, Any], form: str) -> dict[str, Any]:
    """What the daemon told of a change: `to` says the phase already, and notes are sentences, with commas in them."""
    shown = {key: value for key, value in changed.items() if key != "phase" or "to" not in changed}
    if form in ("table", "tsv"):
        if isinstance(notes := shown.get("notes"), list):
            shown["notes"] = "; ".join(map(str, notes))
        if isinstance(used := shown.get("certificate"), dict):
            shown["certificate"] = used.get("hash")
    return shown
