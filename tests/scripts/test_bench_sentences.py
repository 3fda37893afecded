"""The page of sentences: written from a run of a small model that has learned nothing."""

import math
import sys

import page
import pytest
import sentences as bench

from alignflow import pipeline
from alignflow.data import Strings

SMALL = [
    *("data.vocabulary=64", "data.length=8", "policy.width=8", "policy.depth=1", "policy.heads=2"),
    *("training.steps=1", "training.batch_size=4", "finetuner.steps=1", "finetuner.batch_size=4"),
    *("finetuner.pool=8", "steerer.steps=2", "steerer.particles=2"),
    "evaluation={samples: 4, base_samples: 4, steps: 1, batch_size: 4}",
]


def row(page, start):
    (line,) = [line for line in page.splitlines() if line.startswith(f"| {start} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_page_has_likelihoods_samples_and_sentiments(tmp_path, monkeypatch):
    pytest.importorskip("tokenizers")
    pytest.importorskip("vaderSentiment")
    config = pipeline.compose("experiment=sentences_sentiment", *SMALL)
    run = pipeline.run(config, tmp_path / "run")
    monkeypatch.setattr(page, "DOCS", tmp_path / "docs" / "benchmarks")
    monkeypatch.setattr(bench, "DRAWN_STEPS", 2)
    (tmp_path / "docs").mkdir()
    script = tmp_path / "scripts" / "bench" / "sentences.py"
    options = [str(run), "--held-out", "20", "--samples", "5"]
    monkeypatch.setattr(sys, "argv", [str(script), *options])
    bench.main()
    written = (tmp_path / "docs" / "benchmarks" / "sentences.md").read_text()
    rates = {
        name: float(row(written, name)[1].split()[0])
        for name in (
            "independent characters",
            "independent pieces",
            "5-grams of characters",
            "flow map, at most",
        )
    }
    assert 0.5 < rates["5-grams of characters"] < rates["independent characters"] < math.log(33)
    # it knows how frequent each piece is at each place, and no more
    assert 2 < rates["flow map, at most"] < rates["independent pieces"]
    bits = float(row(written, "5-grams of characters")[2].split()[0])
    assert bits == pytest.approx(rates["5-grams of characters"] / math.log(2), abs=2e-3)
    held_out, drawn = row(written, "held-out sentences")[3], row(written, bench.DRAWN)[3]
    assert float(held_out.split()[0]) > 0.5 > float(drawn.split()[0])
    assert {"base", "steered: importance", "tuned: weighted", "exact tilt"} <= {
        line.split("|")[1].strip() for line in written.splitlines() if line.startswith("| ")
    }
    assert "Held-out sentences:\n\n```text\n" in written


def test_a_rate_is_that_of_all_characters_and_ends():
    strings = Strings.of(["ab", "abc", "b"])
    characters = bench.Characters(strings)
    nats = characters.nats(["ab", "", "b"])
    assert nats[1] == 0
    rate = bench.per_character(nats, ["ab", "", "b"])
    assert rate.value == pytest.approx(nats.sum().item() / 6)
    assert characters.known(["ab x", "b"]).value == pytest.approx(2 / 3)
