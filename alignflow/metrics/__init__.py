"""Measures of samples: distances, weights, diversity and judges, each with its standard error."""

from alignflow.resampling import effective_sample_size

from .distances import frechet_distance, histogram_kl, sampling_floor, sliced_wasserstein
from .estimate import Estimate, jackknife, mean
from .evaluation import Evaluation, evaluate
from .pairwise import diversity, energy_distance, mmd
from .shares import mode_weights_error, novelty, total_variation

__all__ = [
    "Estimate",
    "Evaluation",
    "diversity",
    "effective_sample_size",
    "energy_distance",
    "evaluate",
    "frechet_distance",
    "histogram_kl",
    "jackknife",
    "mean",
    "mmd",
    "mode_weights_error",
    "novelty",
    "sampling_floor",
    "sliced_wasserstein",
    "total_variation",
]
