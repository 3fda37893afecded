"""The page: a run's content put into the template, in one file that needs nothing beside it."""

from math import hypot, pi, sqrt
from pathlib import Path

import torch
from markupsafe import Markup
from torch import Tensor

from alignflow.metrics import Estimate
from alignflow.metrics.estimate import Z
from alignflow.metrics.names import label, lower_is_better
from alignflow.results import ModelResult, ReportError, TiltResult

from . import figures, graph, pictures, texts, words
from .drawing import MODELS, Plot, plot
from .run_folder import REFERENCE, Run, read_run
from .template import template, write

__all__ = ["build_report"]

EPISODES = 4  # shown of images
COSTS = ("nfe", "vjps", "reward_calls", "reward_vjps", "seconds")


def build_report(run_folder: str | Path) -> Path:
    """Write `report.html` of a run into its folder.

    Args:
        run_folder: What `alignflow run` left behind; only this folder is read.

    Returns:
        Path of the page, which opens from disk and fetches nothing.

    Raises:
        ReportError: If the run's result is missing, or a file does not hold what it should; it
            names the file and the key.
        CheckpointError: If the samples are truncated or altered.
    """
    run = read_run(run_folder)
    return write(run.folder / "report.html", render(run))


def render(run: Run) -> str:
    """The page's HTML."""
    colors = {model.name: i % len(MODELS) for i, model in enumerate(run.models)}
    is_image = run.event == "image" and bool(run.samples)
    return template("page.html.jinja").render(
        run=run,
        colors=colors,
        line=words.line(run),
        headline=words.headline(run),
        subject=words.subject(run),
        outcomes=words.outcomes(run),
        verdicts=words.verdicts(run),
        cautions=words.cautions(run),
        portraits=pictures.same_noise_rows(run.samples) if is_image else [],
        pixelated=is_image and pictures.is_pixel_art(run.samples),
        texts=texts.text_blocks(run.texts, run.tilt) if run.texts else None,
        clouds=_clouds(run, colors) if run.event == "points" and run.samples else [],
        episode_rows=_episode_rows(run) if is_image else [],
        episode_points=_episode_points(run) if run.event == "points" else None,
        distribution=_distribution(run),
        reference=_reference(run),
        distances=_distances(run),
        strengths=_strengths(run),
        costs={name: label(name) for name in COSTS if any(name in m.cost for m in run.models)},
        gaps={model.name: _rate_gap(model, run.tilt) for model in run.models},
        labels=_names(model.rates for model in run.models),
        held_out=_names(model.held_out for model in run.models),
        tuned=words.use_of_tuned(run),
        curves=_curves(run),
        durations=_durations(run),
        graphs=_graphs(run),
    )


def _distribution(run: Run) -> list[Plot]:
    means = "A solid line is the mean"
    means += ", the dashed one the exact tilt's." if run.tilt else "."
    title = f"Reward: {words.plain(run.reward_name)}"
    drawing = figures.reward_histograms(run.models, run.tilt)
    count = _counts(run.models)
    plots = [plot(title, f"Rewards of {count} samples a model, in the same bins. {means}", drawing)]
    if any(model.rates for model in run.models):
        targets = words.targets(run)
        caption = "What the judge sees, with 95% intervals."
        if run.tilt:
            caption += f" {words.plain(run.tilt.name).capitalize()}: {_source(run.tilt)}."
        if targets:
            caption += f" The reward asks for {words.listed([words.plain(t) for t in targets])}."
        drawing = figures.attribute_rates(run.models, run.tilt, targets)
        plots.append(plot("Rates of the attributes", caption, drawing))
    return plots


def _source(tilt: TiltResult) -> str:
    if tilt.ess is None:
        return "of the whole list, without an error"
    return f"the base's samples reweighted (effective sample {tilt.ess:,.0f})"


def _reference(run: Run) -> list[Plot]:
    if run.reference is None:
        return []
    return [
        plot(
            f"{words.plain(run.reward_name if what == 'reward' else what)} against the reference",
            "The dashed outline is the reference. The outermost bins hold all beyond them.",
            figures.reference_histograms(histogram, REFERENCE, words.plain(what)),
        )
        for what, histogram in run.reference.histograms.items()
    ]


def _episode_rows(run: Run) -> list:
    if run.episodes is None:
        return []
    steps = _places(len(run.episodes.times), pictures.COLUMNS)
    return pictures.episode_rows(run.episodes.states, steps, EPISODES)


def _episode_points(run: Run) -> Plot | None:
    if run.episodes is None:
        return None
    steps = _places(len(run.episodes.times), 5)
    ends = torch.cat([path[:, -1] for path in run.episodes.states.values()])
    drawing = figures.episodes(run.episodes, steps, _limits(ends))
    count = len(next(iter(run.episodes.states.values())))
    caption = f"{count} episodes of each model, from the same noise."
    return plot("State by state", caption, drawing)


def _places(length: int, count: int) -> list[int]:
    """At most so many of the places of a path, evenly, the first and the last among them."""
    return torch.linspace(0, length - 1, min(length, count)).round().int().tolist()


def _counts(models: list[ModelResult]) -> str:
    counts = sorted({len(model.rewards) for model in models})
    return " to ".join(f"{n:,}" for n in dict.fromkeys([counts[0], counts[-1]]))


def _distances(run: Run) -> list[Plot]:
    caption = "Up is better aligned, left is closer to the base. Bars are one standard error."
    if not run.base.distance_to_base:
        caption += " The gray line is the base's reward."
    if run.tilt:
        caption += " The dashed line is the exact tilt's: above it is too much."
    return [
        plot(
            f"Reward against {label(name)}",
            caption,
            figures.reward_vs_distance(run.models, run.tilt, name),
        )
        for name in _names(model.distance_to_base for model in run.models)
    ]


def _strengths(run: Run) -> list[Plot]:
    """Of a model tuned for a range: what it gives at strengths of it, and how far from the base."""
    if not run.strengths:
        return []
    at = [(Estimate(row.strength, 0.0), row.model, "") for row in run.strengths]
    exact = [
        (row.strength, row.model.tilt_check.numbers["reward"].tilt.value)
        for row in run.strengths
        if row.model.tilt_check is not None
    ]
    rewards = {"tuned": [(x, model.mean_reward, word) for x, model, word in at]}
    labels = "strength at sampling", "mean reward"
    drawing = figures.series(rewards, exact, run.base.mean_reward.value, labels)
    caption = "The dashed line is the exact tilt's at each strength, the gray one is the base's."
    plots = [plot("Reward against strength", caption, drawing)]
    for name in _names(model.distance_to_base for _, model, _ in at):
        far = {"tuned": [(x, model.distance_to_base[name], word) for x, model, word in at]}
        drawing = figures.series(
            far, [], None, (labels[0], f"distance to the base ({label(name)})")
        )
        caption = "At strength 0 it is that of two sets of the base's samples."
        plots.append(plot(f"{label(name)} against strength", caption, drawing))
    return plots


def _clouds(run: Run, colors: dict[str, int]) -> list[Plot]:
    for name, cloud in run.samples.items():
        if cloud.ndim != 2 or cloud.shape[1] != 2:
            raise ReportError(
                f"samples of {name!r} must be points (n, 2), got {tuple(cloud.shape)}"
            )
    limits = _limits(torch.cat(list(run.samples.values())))
    origins = run.samples.get(run.base.name)
    plots = []
    for name, cloud in run.samples.items():
        start = cloud if origins is None else origins
        caption = f"{len(cloud):,} samples."
        if origins is not None and name != run.base.name:
            caption += " Threads start where the base put the same noise."
        plots.append(plot(name, caption, figures.points(cloud, start, colors[name], limits)))
    return plots


def _limits(cloud: Tensor) -> tuple[float, ...]:
    """A square around all samples but the outermost, so that one stray does not shrink the rest."""
    low, high = cloud.double().quantile(torch.tensor([0.001, 0.999], dtype=torch.double), dim=0)
    center, half = (low + high) / 2, float((high - low).max()) * 0.56 or 1.0
    x, y = center.tolist()
    return x - half, x + half, y - half, y + half


def _curves(run: Run) -> dict[str, list[Plot]]:
    return {
        stage: [
            plot(label(name), _direction(name), figures.curve(points), f"{stage}: {name}")
            for name, points in series.items()
        ]
        for stage, series in run.curves.items()
    }


def _direction(name: str) -> str:
    return {True: "Lower is better.", False: "Higher is better.", None: ""}[lower_is_better(name)]


def _durations(run: Run) -> Plot | None:
    if not run.durations:
        return None
    return plot("seconds", "", figures.bars(run.durations, ""), "Seconds of each stage")


def _graphs(run: Run) -> list[tuple[str, Markup, str | None]]:
    return [
        (stage, Markup(_drawn(run, stage)), drawing.text) for stage, drawing in run.graphs.items()
    ]


def _drawn(run: Run, stage: str) -> str:
    found = run.graphs[stage].graph
    if found is None:
        return ""
    try:
        return graph.draw(found, f"The graph of {stage}")
    except ReportError as error:
        raise ReportError(f"{run.folder / 'stages' / stage / 'graph.json'}: {error}") from error


def _rate_gap(model: ModelResult, tilt: TiltResult | None) -> tuple[float, float] | None:
    """Mean absolute gap of the rates to the exact tilt's, and what noise alone would give."""
    if tilt is None:
        return None
    pairs = [(rate, tilt.rates[name]) for name, rate in model.rates.items() if name in tilt.rates]
    if not pairs:
        return None
    gap = sum(abs(a.value - b.value) for a, b in pairs) / len(pairs)
    # a normal error of std s has mean absolute value s sqrt(2 / pi)
    errors = [hypot(a.half_width, b.half_width) / Z for a, b in pairs]
    return gap, sqrt(2 / pi) * sum(errors) / len(pairs)


def _names(mappings) -> list[str]:
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))
