"""`cutover completion`: the script that makes the shell complete verbs and options."""

import click
from click.shell_completion import get_completion_class

from cutover.cli.verb import Verb


@click.command(
    cls=Verb,
    examples=(
        "cutover completion bash > ~/.local/share/bash-completion/completions/cutover",
        "cutover completion zsh > ~/.zfunc/_cutover",
        "cutover completion fish > ~/.config/fish/completions/cutover.fish",
    ),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell: verbs, options, and the daemon's tenants, certificates and runbooks."""
    from cutover.cli.root import main

    kind = get_completion_class(shell)
    if kind is None:  # click knows all three; a later click might not
        raise click.UsageError(f"this version of click cannot complete for {shell}")
    click.echo(kind(main, {}, "cutover", "_CUTOVER_COMPLETE").source())
