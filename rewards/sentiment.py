"""Sentiment: how positive an English text is.

Source: Hutto and Gilbert 2014, "VADER: a parsimonious rule-based model for sentiment analysis of
social media text"; its compound score, by the package `vaderSentiment`.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

from alignflow.reward_module import Reward

from .texts import check_texts

__all__ = ["Sentiment", "sentiment"]


def sentiment(texts: Sequence[str]) -> list[float]:
    """From -1, most negative, to 1 for each of N texts; 0 where no word is known.

    Raises:
        ImportError: If the package is not installed.
    """
    check_texts(texts)
    return [_analyzer().polarity_scores(text)["compound"] for text in texts]


class Sentiment(Reward):
    """How positive an English text is, in [-1, 1]; a black box. Needs alignflow[text].

    Raises:
        ImportError: If the package vaderSentiment is not installed.
    """

    def __init__(self):
        _analyzer()
        super().__init__(sentiment)


@cache
def _analyzer() -> Any:
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    except ImportError as error:
        raise ImportError(
            "Sentiment needs the package vaderSentiment: pip install 'alignflow[text]'"
        ) from error
    return SentimentIntensityAnalyzer()
