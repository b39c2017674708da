"""``sigfs completion``: the script that makes a shell complete the command's words."""

from __future__ import annotations

import os
from typing import Any, ClassVar, Final

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class, get_completion_class
from click.shell_completion import split_arg_string as split

from sigfs.cli.app import sigfs

_END: Final = "\x01"  # marks where the cursor is
_SEPARATE: Final = " \t\n\"'"


@add_completion_class
class WholeWords(BashComplete):
    """As click's, but words are those of the command, where bash parts them at ``=``, ``:`` and ``@`` as well."""

    source_template: ClassVar[str] = """\
%(complete_func)s() {
    local type value
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done < <(env COMP_LINE="${COMP_LINE:0:COMP_POINT}" COMP_WORDBREAKS="$COMP_WORDBREAKS" \\
        %(complete_var)s=bash_complete "$1")
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""
    _given = ""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Give the words before the cursor, and what there is of the one at it."""
        line = os.environ["COMP_LINE"]
        _, *words = split(line + _END)
        incomplete = words.pop().removesuffix(_END) if words else ""
        breaks = set(os.environ.get("COMP_WORDBREAKS", "")).difference(_SEPARATE)
        end = max((at for at, letter in enumerate(incomplete, start=1) if letter in breaks), default=0)
        self._given = incomplete[:end] if line.endswith(incomplete) else ""
        return words, incomplete

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """Leave out what bash takes for words of their own."""
        return f"{item.type},{item.value.removeprefix(self._given)}"


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
