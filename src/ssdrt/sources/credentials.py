"""Addresses and pipelines as they may be shown and stored: without what opens a door."""

from __future__ import annotations

import re


def hide_credentials(address: str) -> str:
    """An address or pipeline as it may be shown: without `user:password@`, and without values that look secret.

    Where a password may have been written with any characters, more is hidden rather than less.
    """
    shown = " ! ".join(USER.sub(_without_user, part) for part in address.split(" ! "))
    return SECRET.sub(r"\1***", shown)


USER = re.compile(r"(https?:)?//(.*)@", re.DOTALL | re.IGNORECASE)
"""All up to the last @, as wild passwords hold slashes, @, #, question marks and spaces."""

SECRET = re.compile(
    r"""((?:^|[?&;_/\s])(?:user|usr|username|login|password|passwd|pass|pwd|psw|token|auth|secret|(?:api_?)?key|"""
    r"""user-id|user-pw)=)(?:"[^"]*"?|'[^']*'?|(?:(?![_/][a-z][\w-]*=(?![=&;\s]|$))[^?&;\s])*)""",
    re.IGNORECASE,
)


def _without_user(match: re.Match[str]) -> str:
    """A path may have an @ in it, too, but hardly a colon before that, except for a web server's port."""
    scheme, text = match[1] or "", match[2]
    host = re.sub(r":\d{1,5}$", "", text.partition("/")[0]) if scheme else text
    in_path = "/" in text and ":" not in host
    return match[0] if in_path and "@" not in host else f"{scheme}//"
