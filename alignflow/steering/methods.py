"""The steering methods by name."""

from dataclasses import MISSING
from typing import Any, Literal, cast

from alignflow import checks
from alignflow.settings import Option
from alignflow.settings import options as options_of

from . import recipes
from .recipes import Recipe

__all__ = ["AUTO", "METHODS", "Method", "keywords", "methods", "options"]

# what METHODS holds, for type checkers and editors
Method = Literal[
    "lookahead",
    "lookahead_weighted",
    "lookahead_normalized",
    "fmrg_j",
    "fmrg_e",
    "dps",
    "lgd",
    "mfm_g",
    "mfm_gf",
    "glass",
    "weighted_diamond",
    "exact",
    "value_guidance",
    "fmtt",
    "fk",
    "twisted_smc",
    "diamond_smc",
    "search",
    "reno",
    "best_of_n",
    "importance",
    "waltz",
    "source_mcmc",
    "custom",
]

METHODS: dict[str, type[Recipe]] = {
    recipe.name: recipe
    for recipe in (
        recipes.Lookahead,
        recipes.LookaheadWeighted,
        recipes.LookaheadNormalized,
        recipes.FMRGJ,
        recipes.FMRGE,
        recipes.DPS,
        recipes.LGD,
        recipes.MFMG,
        recipes.MFMGF,
        recipes.GLASS,
        recipes.WeightedDiamond,
        recipes.Exact,
        recipes.ValueGuidance,
        recipes.FMTT,
        recipes.FK,
        recipes.TwistedSMC,
        recipes.DiamondSMC,
        recipes.Search,
        recipes.ReNO,
        recipes.BestOfN,
        recipes.Importance,
        recipes.Waltz,
        recipes.SourceMCMC,
        recipes.Custom,
    )
}

# arguments of `steer` under every method; MISSING for those that a config need not state
_CALL = {
    "strength": Option(float, 1.0, "lambda of the tilt, per unit of reward"),
    "steps": Option(int, 8, "from noise to data, or of a chain"),
    "particles": Option(int, MISSING, "M, of each system"),
    "draws": Option(int, MISSING, "K, endpoints of each state"),
    "grid": Option(Any, MISSING, "uniform, or increasing times from 0 to 1"),
    "guidance": Option(float, MISSING, "of classifier-free guidance"),
    "micro_batch_size": Option(int, MISSING, "rows that go through the model at a time"),
}

AUTO = "auto"
"""In place of a method: the one that `advise` names."""

# arguments of `advise`, which are the options of AUTO; a config has a condition of its own
_AUTO = {
    "budget": Option(int, MISSING, "the most forwards a sample; a gradient counts as two"),
    "jumps": Option(int, 4, "of the flow map from noise to a sample of the base"),
    "tolerance": Option(float, 0.05, "distance to the tilt that counts as reached"),
    "samples": Option(int, 1024, "of the base, in the pilot"),
    "value": Option(Any, None, "a learned value, by which methods may guide"),
}


def methods() -> dict[Method, str]:
    """Every method by name, with one line about it."""
    return cast(dict[Method, str], {name: line(recipe) for name, recipe in METHODS.items()})


def options(method: str | type[Recipe]) -> dict[str, Option]:
    """Options of a method, by name: `(type, default, meaning)`.

    Those of every method (strength, steps, grid, guidance, micro_batch_size) are arguments of
    `steer`.

    Raises:
        ValueError: If there is no such method.
    """
    if isinstance(method, type) and issubclass(method, Recipe):
        return options_of(method)
    if method == AUTO:
        return dict(_AUTO)
    return options_of(METHODS[checks.choice("method", method, METHODS)])


def keywords(method: str) -> dict[str, Option]:
    """What `steer` takes under a method: its arguments, and the options of the method.

    Raises:
        ValueError: If there is no such method.
    """
    if method == AUTO:
        decided = {"steps", "particles", "draws", "grid"}
        return {name: each for name, each in _CALL.items() if name not in decided} | _AUTO
    recipe = METHODS[checks.choice("method", method, [*METHODS, AUTO])]
    steps = _CALL["steps"]._replace(default=recipe.default_steps)
    if recipe.default_steps is None:
        steps = steps._replace(meaning="from noise to data; 4 of a learned map, else 8, if None")
    return _CALL | {"steps": steps} | options(method)


def line(recipe: type[Recipe]) -> str:
    """What a method does, in one line."""
    return (recipe.__doc__ or "").partition("\n")[0]
