"""Texts that come from tasks, made fit to be kept: of bounded size, and encodable."""

from __future__ import annotations

__all__ = ["TEXT_LIMIT", "bounded", "encodable"]

TEXT_LIMIT = 64 * 1024
"""No text of a failure is longer than about this many characters."""


def bounded(text: str, limit: int = TEXT_LIMIT) -> str:
    """The text, or a quarter of `limit` from its beginning and the rest from its end."""
    if len(text) <= limit:
        return text
    head, tail = limit // 4, limit - limit // 4
    return f"{text[:head]}\n... {len(text) - limit:,} characters left out ...\n{text[-tail:]}"


def encodable(text: str) -> str:
    """The text with lone surrogates written as ``\\udc80``: they have no UTF-8."""
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
