"""The completion scripts do their work in the shells that they are for."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

import sigfs
from tests.support.commands import real_command

BASH = r"""
set -e
eval "$(sigfs completion bash)"
COMP_WORDBREAKS=$' \t\n"\'@><=;|&(:'
for COMP_LINE in "$@"; do
    COMP_POINT=${#COMP_LINE}
    _sigfs_completion sigfs "" ""
    echo "${COMPREPLY[*]}"
done
"""
"""In bash words end at = as well, so that only what comes after it is offered."""

ZSH = r"""
compdef() { }
compadd() { print -r -- "${completions[*]}" }
_describe() { print -r -- "${completions_with_descriptions[*]%%:*}" }
eval "$(sigfs completion zsh)"
for line in "$@"; do
    words=("${(@Q)${(z)line}}")
    [[ $line == *\  ]] && words+=("")
    CURRENT=${#words}
    _sigfs_completion
done
"""
"""What shows completions in zsh works in its line editor only; here it prints them."""

FISH = """
sigfs completion fish | source
for line in $argv
    complete -C $line | string split -f1 \\t | string join ' '
end
true
"""

LINES = {
    "sigfs migra": "migrate",
    "sigfs migrate foo 1 even=": "even=false even=true",
    "sigfs find 'even' ": "false true",
}


@pytest.mark.parametrize(
    ("shell", "words"),
    [
        ("bash", ["bash", "--norc", "-c", BASH, "bash"]),
        ("zsh", ["zsh", "-f", "-c", ZSH, "zsh"]),
        ("fish", ["fish", "--no-config", "-c", FISH]),
    ],
    ids=["bash", "zsh", "fish"],
)
def test_a_shell_completes_commands_keys_and_values(shell: str, words: list[str], tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    project = sigfs.init_project(tmp_path / "project")
    for foo in range(4):
        project.open({"foo": foo, "even": foo % 2 == 0})
    *command, path = real_command()
    (tmp_path / "sigfs").write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@" {shlex.quote(path)}\n')
    (tmp_path / "sigfs").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    found = subprocess.run(
        [*words, *LINES], capture_output=True, text=True, check=True, env=environment, cwd=project.root
    )
    expected = LINES.values()
    if shell == "bash":
        expected = [line.replace("even=", "") for line in expected]
    assert found.stdout.splitlines() == list(expected)
    assert found.stderr == ""
