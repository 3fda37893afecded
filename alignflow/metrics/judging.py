"""One call that judges samples: reward, diversity, distances to a reference, judges, the tilt."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from alignflow import checks
from alignflow.flow_map import FlowMap
from alignflow.modes import frozen
from alignflow.reward_module import Reward, as_reward, copied
from alignflow.tilt import Tilt

from .against_tilt import check_tilt, mmd_to_tilt, particle_ess
from .distances import frechet_distance, sliced_wasserstein
from .estimate import Estimate, mean
from .evaluation import Evaluation
from .judges import check_judges, judged
from .pairwise import diversity, energy_distance, mmd
from .reweighting import TiltRows
from .sources import Chunks, Samples, as_samples, as_states, draw_base, drawn, in_chunks, thinned

__all__ = ["evaluate"]


@checks.refuse_seed
def evaluate(
    samples: Any,
    reward: Reward | Callable | Mapping[str, Reward | Callable] | None = None,
    reference: Any = None,
    judges: Mapping[str, Callable[[Any], Any]] | None = None,
    condition: Any = None,
    decode: Callable[[Tensor], Any] | None = None,
    features: Callable[[Any], Tensor] | None = None,
    batch_size: int = 1024,
    generator: torch.Generator | int | None = None,
    tilt: Tilt | None = None,
    base: Any = None,
    base_samples: int = 4096,
) -> Evaluation:
    """Judge samples, each number with its standard error.

    Modules run in evaluation mode, and are left in the mode they were in.

    Args:
        samples: States (N, *E), as a tensor, an array or the `state` of a TensorDict; or N texts,
            which need no decoding, and whose distances are those of their one-hot characters.
        reward: What was aligned to, or several by name: `reward`, `reward_<name>`; beside a tilt,
            which has its reward, only others by name.
        reference: States (M, *E) or M texts, or a model or another source with
            `sample(n, generator=...)`, of which as many as the samples are drawn: `sliced_w2`,
            `mmd` (squared) and `energy_distance` to it.
        judges: By name, from decoded samples to (N,) or (N, A) numbers whose means are reported as
            `<name>`, or `<name>_<a>` with a from the judge's `names` or `labels` where it has them.
        condition: Of the samples, one for all or N of them; rewards and the reference get it.
        decode: From states to what rewards and judges see; by default the reference model's.
        features: From decoded samples to (N, F): adds `frechet_distance` to the reference.
        batch_size: Samples decoded and scored at a time.
        generator: Source of the reference's and the base's samples and of the random directions, or
            its seed.
        tilt: What was aimed at. The samples are compared with it, by samples of the base that are
            reweighted: means under the tilt and of the base (`tilt_<name>`, `base_<name>`, of the
            rewards and judges), squared MMD to it (`tilt_mmd`), the base's effective sample size
            under it (`tilt_ess`, least over conditions), the fraction of the way from the base's
            mean reward to the tilt's (`tilt_progress`), and `verdict`, a sentence. Samples of a
            steerer also have their particles' effective sample size (`particle_ess`).
        base: What the tilt is a tilt of: a model or another source, which draws as many samples for
            each condition of the samples; or samples of it, which have these conditions in turn.
        base_samples: How many the base draws, or the next multiple of as many conditions.

    Raises:
        ValueError: If the samples are no batch of finite states or texts, a judge's name is another
            measure's, a judge does not answer with one finite number, or row, a sample, or one of
            `tilt` and `base` comes without the other.
        RewardError: If a reward fails; see `Reward`.
    """
    given, generator = as_samples("samples", samples), checks.as_generator(generator)
    _check_tilt(tilt, base)
    if decode is None:
        models = [source for source in (reference, base) if isinstance(source, FlowMap)]
        decode = models[0].decode if models else _identity
    checks.called("decode", decode, "(states) -> what rewards and judges see")
    if features is not None:
        checks.called("features", features, "(samples) -> features (N, F)")
    batch_size = checks.count("batch_size", batch_size)
    base_samples = checks.count("base_samples", base_samples, least=2)
    seen = decode if isinstance(given, Tensor) else _identity
    numbers_of = partial(_numbers, _rewards(reward, tilt), check_judges(judges), seen)
    chunks = in_chunks(given, condition, batch_size)
    modules = (reference, base, features, *(judges or {}).values())
    with torch.no_grad(), frozen(*filter(_is_module, modules)):
        numbers = numbers_of(chunks)
        found = {name: mean(values) for name, values in numbers.items()}
        if reference is None:
            (states,) = as_states("reference", given)
            found["diversity"] = diversity(thinned(states))
        else:
            others = drawn("reference", reference, [(len(x), its) for x, its in chunks], generator)
            others = _beside(given, others, decode)
            states, others_states = as_states("reference", given, others)
            found |= _distances(states, others_states, generator)
            if features is not None:
                featured = partial(_features, features, seen, batch_size)
                found["frechet_distance"] = frechet_distance(featured(given), featured(others))
        if tilt is None:
            return Evaluation(found, len(given))
        rows = draw_base(base, condition, len(given), base_samples, batch_size, generator)
        pilot = _beside(given, rows.samples, decode)
        x, y = as_states("base", given, pilot)
        of_pilot = numbers_of(in_chunks(pilot, rows.condition, batch_size))
        log_weight = tilt.log_weight(of_pilot["reward"].double())
        check = check_tilt(
            tilt.strength,
            numbers,
            of_pilot,
            TiltRows.reweighted(of_pilot, log_weight, rows.groups),
            mmd_to_tilt(x, y, log_weight, rows.sample_groups, rows.groups),
            particle_ess(samples),
        )
    return Evaluation(found, len(given), check)


def _check_tilt(tilt: Any, base: Any) -> None:
    """Refuse a tilt without a base, and a base without a tilt."""
    if tilt is None and base is None:
        return
    if tilt is None:
        raise ValueError(
            "base is what a tilt is a tilt of: say which, tilt=af.Tilt(reward, strength); to "
            "compare with samples as they are, reference=..."
        )
    checks.instance("tilt", tilt, Tilt, "a tilt, af.Tilt(reward, strength)")
    if base is None:
        raise ValueError(
            "a tilt is compared with by samples of its base: give base=, the model before "
            "alignment, or samples of it"
        )


def _rewards(reward: Any, tilt: Tilt | None) -> dict[str, Reward]:
    """By the names under which they are reported, the tilt's first."""
    own = {} if tilt is None else {"reward": tilt.reward}
    if isinstance(reward, Mapping):
        return own | {f"reward_{name}": as_reward(term) for name, term in reward.items()}
    if reward is None:
        return own
    given = as_reward(reward)
    if tilt is not None and given is not tilt.reward and given.function != tilt.reward.function:
        raise ValueError(
            f"reward {given.name!r} is not the tilt's, {tilt.reward.name!r}: leave it out, or "
            "report it by name beside that, reward={'other': ...}"
        )
    return {"reward": given if tilt is None else tilt.reward}


def _numbers(
    rewards: Mapping[str, Reward], judges: Mapping[str, Any], seen: Callable, chunks: Chunks
) -> dict[str, Tensor]:
    """Rewards and judges' columns of samples, (N,) each, by name."""
    found: dict[str, Tensor] = {}
    for name, reward in rewards.items():
        found[name] = torch.cat([reward.score(x, its, seen) for x, its in chunks])
    for name, judge in judges.items():
        found |= judged(name, judge, _decoded(chunks, seen), found)
    return found


def _beside(given: Samples, others: Samples, decode: Callable[[Tensor], Any]) -> Samples:
    """Other samples as those that are given: texts beside texts."""
    if isinstance(given, Tensor) or not isinstance(others, Tensor):
        return others
    return decode(others)


def _decoded(chunks: Chunks, decode: Callable[[Tensor], Any]) -> Iterator[tuple[Any, int]]:
    """What judges see, a copy that they may write into, and how many samples it is."""
    for part, _ in chunks:
        yield copied(decode(part)), len(part)


def _features(
    features: Callable[[Any], Tensor], decode: Callable[[Any], Any], size: int, samples: Samples
) -> Tensor:
    """Features (N, F) of samples, so many at a time."""
    parts = [samples[start : start + size] for start in range(0, len(samples), size)]
    return torch.cat([features(copied(decode(part))) for part in parts])


def _distances(states: Tensor, others: Tensor, generator: Any) -> dict[str, Estimate]:
    x, y = thinned(states), thinned(others)
    return {
        "diversity": diversity(x),
        "sliced_w2": sliced_wasserstein(states, others, generator=generator),
        "mmd": mmd(x, y),
        "energy_distance": energy_distance(x, y),
    }


def _is_module(part: Any) -> TypeGuard[nn.Module]:
    return isinstance(part, nn.Module)


def _identity(x: Tensor) -> Tensor:
    return x
