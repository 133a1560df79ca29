"""The one exception that means "the input is at fault", and the words its messages share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """An input cannot be used.

    The message is one line: what was given, what is allowed, and what to do. The command line
    prints it to stderr and exits with status 2, without a traceback.

    >>> import optistyle
    >>> try:
    ...     optistyle.Recipe(optimizer="lbgfs")
    ... except optistyle.InputError as error:
    ...     print(error)
    unknown optimizer 'lbgfs'; did you mean 'lbfgs'? (allowed: adam, lbfgs)
    """


def unknown(kind: str, given: str, allowed: Iterable[str]) -> InputError:
    """The error for a name outside a known set, with the nearest allowed name suggested."""
    allowed = sorted(allowed)
    near = difflib.get_close_matches(given, allowed, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return InputError(f"unknown {kind} {given!r}{hint} (allowed: {', '.join(allowed)})")
