"""The package's one exception type, and how an unknown name is reported."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MxsimError(ValueError):
    """Bad input. The message says what is wrong, what was given, what is allowed, and the remedy."""


class UnknownNameError(MxsimError, KeyError):
    """A name that a registry does not hold."""

    __str__ = ValueError.__str__  # KeyError would print the message's repr


def unknown_name(kind: str, name: object, known: Iterable[str]) -> UnknownNameError:
    """The error for a `name` that is none of the `known` ones, with the nearest of them as the remedy."""
    names = list(known)
    typed = str(name).lower()
    near = (
        [known_name for known_name in names if known_name.lower() == typed]
        or [known_name for known_name in names if typed and known_name.startswith(typed)]
        or difflib.get_close_matches(typed, names, n=1, cutoff=0.6)
    )
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UnknownNameError(f"unknown {kind} {name!r}: {hint}known are {', '.join(names)}")
