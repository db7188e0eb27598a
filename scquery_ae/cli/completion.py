"""``scquery-ae completion``: completion scripts of click."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from scquery_ae.cli.options import command, verbose

PROGRAM, VARIABLE = "scquery-ae", "_SCQUERY_AE_COMPLETE"


@command("completion")
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@verbose
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    r"""Print the script that completes commands and options in your shell.

    \b
    Write it to a file that your shell reads:
      scquery-ae completion bash > ~/.local/share/bash-completion/completions/scquery-ae
      scquery-ae completion fish > ~/.config/fish/completions/scquery-ae.fish
      echo 'eval "$(scquery-ae completion zsh)"' >> ~/.zshrc
    """
    kind = get_completion_class(shell)
    if kind is None:  # click has all three
        msg = f"click has no completion for {shell}."
        raise click.ClickException(msg)
    click.echo(kind(ctx.find_root().command, {}, PROGRAM, VARIABLE).source())
