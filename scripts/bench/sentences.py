"""A model of sentences, and what became of it: likelihood, samples, sentiment.

    alignflow run experiment=sentences_sentiment hydra.run.dir=outputs/sentences
    python scripts/bench/sentences.py outputs/sentences

Needs alignflow[text].
"""

import argparse
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from ngrams import Ngrams
from omegaconf import OmegaConf
from page import shown, table, write_page
from torch import Tensor

import alignflow as af
from alignflow import pipeline
from alignflow.data import Strings, Vocabulary
from alignflow.flow_map import FlowMap
from alignflow.likelihood_bound import likelihood_bound
from alignflow.metrics import Estimate, Interval, distinct, mean
from alignflow.pipeline.folder import RunFolder
from alignflow.report.run_folder import Run, read_run
from alignflow.samplers import TokenDraws

ORDER = 5  # of the n-grams of characters
BOUNDS = 2  # times of a sentence's bound
ROWS = 100  # evaluated at a time
STEPS = (1, 4, 16)
DRAWN_STEPS = 64
DRAWN = f"tokens drawn and noised again, {DRAWN_STEPS} steps"
SHOWN = 8  # sentences
ABOUT = """\
Glosses and examples of WordNet, {train:,} to learn from and {test:,} held out: all that have at
most {length} tokens of a vocabulary of {size:,}. {network} of width {width} and {depth} blocks,
{parameters:,} parameters, after {steps:,} steps of batch {batch}, in which each sentence is seen
{epochs:.1f} times, by `{command}`. Its samples do not read as English, so it is not shipped."""
ABOUT_LIKELIHOOD = """\
Of held-out sentences, a character; the end of a sentence counts as one. n-grams are interpolated
(Witten and Bell), counted on the same training sentences, and exact. The flow's is a bound
(`likelihood_bound`) over {n:,} sentences, which also pays for the padding."""
ABOUT_SAMPLES = """\
{n} samples of each, before any alignment. The surprise is -log p of samples under the
{order}-grams, a character; samples that repeat what is frequent lie below held-out sentences. Known
words are those of the training sentences."""
ABOUT_SENTIMENT = """\
The reward is the compound score of VADER, from -1 to 1, at strength {strength:g}; glad sentences
score above 0.05. The exact tilt is estimated from the base's samples."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="a folder of experiment=sentences_sentiment")
    parser.add_argument("--held-out", type=int, default=1000, help="sentences of the bound")
    parser.add_argument("--samples", type=int, default=200)
    options = parser.parse_args()
    config = RunFolder(options.run).config()
    policy = af.load(options.run / "stages" / "pretrain" / "model")
    train, test = build(config.data), build(config.data, split="test")
    characters = Characters(train)
    write_page(
        "sentences",
        "Sentences: a flow map of pieces of text",
        about(options.run, policy, train, test),
        f"## Likelihood\n\n{ABOUT_LIKELIHOOD.format(n=options.held_out)}",
        likelihoods(policy, characters, train, test, options.held_out),
        f"## Samples\n\n{ABOUT_SAMPLES.format(n=options.samples, order=ORDER)}",
        *samples(policy, characters, test, options.samples),
        f"## Sentiment\n\n{ABOUT_SENTIMENT.format(strength=config.strength)}",
        *sentiments(read_run(options.run)),
    )


def build(data: Any, **options: Any) -> Strings:
    """The data set of a config."""
    return pipeline.build(OmegaConf.create({**data, **options}))


class Characters:
    """n-grams of the characters of training sentences, and their words."""

    def __init__(self, train: Strings):
        self.vocabulary = Vocabulary.of(train.strings)
        tokens = self.vocabulary.encode(train.strings)
        self.models = {n: Ngrams(tokens, self.vocabulary.size, n) for n in (1, ORDER)}
        self.words = {word for text in train.strings for word in words(text)}

    def nats(self, texts: Sequence[str], order: int = ORDER) -> Tensor:
        """-log p of texts, (N,)."""
        found = torch.zeros(len(texts), dtype=torch.float64)
        written = [i for i, text in enumerate(texts) if text]
        tokens = self.vocabulary.encode([texts[i] for i in written])
        found[written] = self.models[order].nats(tokens)
        return found

    def known(self, texts: Sequence[str]) -> Estimate:
        """The fraction of the words of texts that are words of the training sentences."""
        flags = [float(word in self.words) for text in texts for word in words(text)]
        return mean(torch.tensor(flags))


def words(text: str) -> list[str]:
    return re.findall("[a-z']+", text)


def about(run: Path, policy: Any, train: Strings, test: Strings) -> str:
    """What was trained on what."""
    config = RunFolder(run).config()
    training = config.training
    return ABOUT.format(
        train=len(train),
        test=len(test),
        length=train.length,
        size=train.vocabulary.size,
        network=type(policy.module).__name__,
        width=config.policy.width,
        depth=config.policy.depth,
        parameters=sum(p.numel() for p in policy.parameters()),
        steps=training.steps,
        batch=training.batch_size,
        epochs=training.steps * training.batch_size / len(train),
        command=(run / "command.txt").read_text().strip(),
    )


@torch.no_grad()
def likelihoods(
    policy: FlowMap, characters: Characters, train: Strings, test: Strings, n: int
) -> str:
    """A table of nats and bits of held-out sentences."""
    pieces = Ngrams(train.tokens, train.vocabulary.size, 1)
    generator = torch.Generator().manual_seed(0)
    some = test.select(slice(n))
    bounds = [
        likelihood_bound(policy, tokens.long(), draws=BOUNDS, generator=generator)
        for tokens in some.tokens.split(ROWS)
    ]
    found = {
        "independent characters": (characters.nats(test.strings, 1), test.strings),
        "independent pieces": (pieces.nats(test.tokens), test.strings),
        f"{ORDER}-grams of characters": (characters.nats(test.strings), test.strings),
        "flow map, at most": (torch.cat(bounds), some.strings),
    }
    rows = []
    for name, (nats, texts) in found.items():
        rate = per_character(nats, texts)
        bits = Estimate(rate.value / math.log(2), rate.standard_error / math.log(2))
        rows.append([name, shown(rate), shown(bits), shown(mean(nats))])
    return table(["", "nats a character", "bits a character", "nats a sentence"], rows)


def per_character(nats: Tensor, texts: Sequence[str]) -> Estimate:
    """Sum of nats over that of characters, ends among them, with the error of a ratio."""
    sizes = torch.tensor([len(text) + 1.0 for text in texts], dtype=torch.float64)
    rate = (nats.sum() / sizes.sum()).item()
    error = mean(nats - rate * sizes).standard_error / sizes.mean().item()
    return Estimate(rate, error)


@torch.no_grad()
def samples(policy: Any, characters: Characters, test: Strings, n: int) -> list[str]:
    """A table of samples, and some of them."""
    texts = {"held-out sentences": test.strings[:n]}
    for steps in STEPS:
        plural = "s" if steps > 1 else ""
        texts[f"flow map, {steps} step{plural}"] = drawn(policy, n, steps)
    texts[DRAWN] = drawn(policy, n, DRAWN_STEPS, sampler=TokenDraws())
    rows = []
    for name, each in texts.items():
        surprise = per_character(characters.nats(each), each)
        rows.append([name, f"{distinct(each)}", shown(surprise), shown(characters.known(each))])
    head = ["", "distinct", "surprise, nats a character", "known words"]
    shown_ones = [verbatim(name, each[:SHOWN]) for name, each in texts.items()]
    return [table(head, rows), *shown_ones]


def drawn(policy: Any, n: int, steps: int, **options: Any) -> list[str]:
    """n samples as texts."""
    parts = [
        policy.sample(min(ROWS, n - first), steps, generator=first, **options)
        for first in range(0, n, ROWS)
    ]
    return policy.decode(torch.cat(parts))


def sentiments(run: Run) -> list[str]:
    """A table of the score by model, and some texts."""
    assert run.texts is not None and run.tilt is not None
    rows = [
        [each.name, shown(each.mean_reward), percent(each.rates["glad"])]
        for each in (*run.models, run.tilt)
    ]
    texts = [verbatim(row.name, row.texts[:SHOWN]) for row in run.texts.shown]
    return [table(["", "sentiment", "glad, %"], rows), *texts]


def percent(rate: Interval) -> str:
    """A rate with its 95 % interval."""
    return f"{100 * rate.value:.0f} ({100 * rate.low:.0f} to {100 * rate.high:.0f})"


def verbatim(name: str, texts: Sequence[str]) -> str:
    """Texts as they are, a line each."""
    lines = "\n".join(text or "(empty)" for text in texts)
    return f"{name[0].upper()}{name[1:]}:\n\n```text\n{lines}\n```"


if __name__ == "__main__":
    main()
