"""``sigfs completion``: the script that makes a shell complete the command's words."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from sigfs.cli.app import sigfs


@click.command(
    "completion",
    epilog="""\b
Examples:
  sigfs completion bash > ~/.local/share/bash-completion/completions/sigfs
  sigfs completion zsh  > ~/.zfunc/_sigfs
  sigfs completion fish > ~/.config/fish/completions/sigfs.fish""",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> None:
    """Print the completion script for a shell."""
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(sigfs, {}, "sigfs", "_SIGFS_COMPLETE").source())
