"""Measures of samples: distances, weights, diversity and judges, each with its standard error."""

from alignflow.resampling import effective_sample_size

from .against_tilt import check_tilt, mmd_to_tilt, particle_ess
from .clusters import cluster_wasserstein
from .distances import (
    frechet_distance,
    histogram_kl,
    sampling_floor,
    sliced_wasserstein,
    wasserstein,
)
from .estimate import Estimate, Interval, jackknife, mean
from .evaluation import Evaluation
from .fractions import mode_weights_error, novelty, total_variation, wilson_interval
from .judging import evaluate
from .molecules import canonical, odd_rings
from .pairwise import default_bandwidths, diversity, energy_distance, gaussian_kernel, mmd
from .property_judge import PropertyJudge
from .reweighting import TiltRows, reweighted_mean
from .strings import distinct, entropy, listed, rates
from .tilt_check import Comparison, TiltCheck

__all__ = [
    "Comparison",
    "Estimate",
    "Evaluation",
    "Interval",
    "PropertyJudge",
    "TiltCheck",
    "TiltRows",
    "canonical",
    "check_tilt",
    "cluster_wasserstein",
    "default_bandwidths",
    "distinct",
    "diversity",
    "effective_sample_size",
    "energy_distance",
    "entropy",
    "evaluate",
    "frechet_distance",
    "gaussian_kernel",
    "histogram_kl",
    "jackknife",
    "listed",
    "mean",
    "mmd",
    "mmd_to_tilt",
    "mode_weights_error",
    "novelty",
    "odd_rings",
    "particle_ess",
    "rates",
    "reweighted_mean",
    "sampling_floor",
    "sliced_wasserstein",
    "total_variation",
    "wasserstein",
    "wilson_interval",
]
