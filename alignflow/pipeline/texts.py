"""Texts that the models of a run drew, saved to be looked at."""

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from alignflow.checkpoint.writing import write_atomically
from alignflow.data import Smiles
from alignflow.results import ShownTexts, TextsResult, encode

from .context import Context
from .judging import decoded, joined
from .reference import NAME

__all__ = ["save_texts"]


def save_texts(
    context: Context, shown: Mapping[str, Sequence[object]], rewards: Mapping[str, Tensor]
) -> None:
    """Save texts and their rewards (n,) by model, and as many of the run's reference.

    Nothing is saved where states decode to other things.
    """
    if not all(isinstance(sample, str) for samples in shown.values() for sample in samples):
        return
    rows = [_row(name, samples, rewards[name]) for name, samples in shown.items()]
    if context.reference is not None:
        states = context.reference.sample(len(rows[0].texts), context.sample_generator(0))
        reward = context.reward.score(states, None, context.policy.decode)
        rows.append(_row(NAME, joined(decoded(context, states)), reward))
    molecules = all(isinstance(sample, Smiles) for samples in shown.values() for sample in samples)
    found = TextsResult(kind="molecules" if molecules else "text", shown=rows)
    write_atomically(context.folder.stage("evaluate") / "texts.json", encode(found))


def _row(name: str, texts: Sequence[object], rewards: Tensor) -> ShownTexts:
    numbers = [reward if math.isfinite(reward) else None for reward in rewards.tolist()]
    return ShownTexts(name=name, texts=list(map(str, texts)), rewards=numbers)
