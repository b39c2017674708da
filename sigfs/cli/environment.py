"""What a command that is run in a job's directory finds in its environment.

Owned here: that each value is there under a name of its own or not at all, and that no key or value of a state point,
whoever has written it, can set anything but a variable that begins with ``SIGFS_``.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Final

from sigfs.model.types import Json, StatePoint
from sigfs.query.values import flatten

PREFIX: Final = "SIGFS_SP_"
STATEPOINT: Final = "SIGFS_STATEPOINT"
_OTHERS: Final = ("SIGFS_JOB_ID", "SIGFS_JOB_PATH", "SIGFS_PROJECT", STATEPOINT)

_NOT_IN_NAMES: Final = re.compile(r"[^A-Z0-9_]")
_MAX_BYTES: Final = 32 * 4096
"""What the kernel allows a variable, with its name, ``=`` and a NUL (MAX_ARG_STRLEN, on pages of 4 KiB)."""


def variable_of(key: str) -> str:
    """Name the variable of a key; different keys may have the same.

    >>> variable_of("run.steps"), variable_of("T=0 é")
    ('SIGFS_SP_RUN_STEPS', 'SIGFS_SP_T_0__')
    """
    return PREFIX + _NOT_IN_NAMES.sub("_", key.upper())


def variables_of(statepoint: StatePoint | None) -> tuple[dict[str, str], list[str]]:
    """The variables of a state point: text as it is, everything else as JSON.

    Returns:
        The variables, and why something is in none of them.

    >>> variables_of({"a": {"b": 1}, "a_b": 2, "s": "x"})[0]
    {'SIGFS_SP_S': 'x', 'SIGFS_STATEPOINT': '{"a": {"b": 1}, "a_b": 2, "s": "x"}'}
    """
    keys: dict[str, list[str]] = {}
    values: dict[str, Json] = {}
    for key, value in flatten(statepoint):
        keys.setdefault(variable_of(key), []).append(key)
        values[variable_of(key)] = value
    variables, missing = {}, []
    for name, value in [*values.items(), (STATEPOINT, dict(statepoint) if statepoint is not None else None)]:
        text = value if isinstance(value, str) else json.dumps(value)
        if len(same := keys.get(name, ())) > 1:
            missing.append(f"{name} is not set, as it could be {' or '.join(map(repr, same))}; {STATEPOINT} has both")
        elif why := _unfit(name, text):
            missing.append(f"{name} is not set: {why}")
        else:
            variables[name] = text
    return variables, missing


def environment_of(own: Mapping[str, str], others: Mapping[str, str]) -> dict[str, str]:
    """Those *others* with the variables *own* in place of what a command around this one has set."""
    kept = {name: value for name, value in others.items() if not name.startswith(PREFIX) and name not in _OTHERS}
    return {**kept, **own}


def _unfit(name: str, text: str) -> str:
    if "\0" in text:
        return "no variable contains a NUL"
    try:
        size = len(os.fsencode(text))
    except UnicodeEncodeError:
        return "it is no text that can be encoded"
    return "the value is too long for a variable" if len(name) + size + 2 > _MAX_BYTES else ""
