"""Checks of the texts that rewards of strings take, and of those that they are given."""

from typing import Any

from alignflow import checks

__all__ = ["check_texts", "some_text"]


def check_texts(texts: Any) -> None:
    """Refuse what is no list of texts."""
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise ValueError(
            f"it takes a list of texts, got {checks.shown(texts)}: does the policy decode to texts?"
        )


def some_text(name: str, text: Any) -> str:
    """A text that is not empty."""
    if not checks.instance(name, text, str, "a text"):
        raise ValueError(f"{name} must not be empty")
    return text
