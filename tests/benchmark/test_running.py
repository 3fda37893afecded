"""The benchmark: exact draws sit at the floor, biased methods above it, and runs go on."""

import io
import json
import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module
from rich.console import Console

from alignflow import report
from alignflow.benchmark import FLOOR, Case, Results, Truth, build_suite, measure, run_suite
from alignflow.benchmark.convergence import curves, slope
from alignflow.benchmark.results import Key
from alignflow.benchmark.tables import markdown, rich_tables, summary
from alignflow.benchmark.tuning import measure_tuned
from alignflow.cli import main
from alignflow.policies import MLP, FlowMapPolicy
from alignflow.reward_module import as_reward
from alignflow.targets import Empirical, ring, ring_reward
from alignflow.tilt import Tilt

SMALL = ["suite.samples=[32,64]", "suite.seeds=2"]
METHODS = [
    "~suite.methods",
    "+suite.methods.exact={method: exact, draws: 16, steps: 8}",
    "+suite.methods.fk={method: fk, particles: all, steps: 8}",
]


def composed(*overrides):
    with initialize_config_module("alignflow.configs", version_base="1.3"):
        return compose("benchmark", overrides=[*SMALL, *overrides])


@pytest.fixture
def truth() -> Truth:
    target = ring()
    return Truth(Case("ring", target, target, Tilt(ring_reward(), 1.0), 512))


def test_the_mean_reward_of_the_truth_is_the_closed_form(truth):
    """100,000 draws, five standard errors."""
    tilted = truth.case.target.tilted(truth.case.tilt.reward, 1.0)
    offset = tilted.means - torch.tensor([3.0, 2.0])
    variance = tilted.covariances.diagonal(dim1=1, dim2=2).sum(1)
    exact = (tilted.weights * -0.15 * (offset.square().sum(1) + variance)).sum().item()
    assert abs(truth.mean_reward - exact) < 5 * 0.5 / 100_000**0.5


def test_exact_draws_are_at_the_floor_and_the_base_is_not(truth):
    floor = measure(truth, None, seed=0)
    assert floor["sliced_w2"] < 0.6 and floor["mode_error"] < 0.1
    base = measure(truth, {"method": "best_of_n", "particles": 1, "steps": 1}, seed=0)
    assert base["sliced_w2"] > 4 * floor["sliced_w2"]
    assert base["reward_error"] > 1 and base["mode_error"] > 0.3
    assert base["nfe"] == base["reward_calls"] == 1 and base["megabytes"] > 0


@pytest.mark.parametrize("step_size", [1e4, 1e30])  # its gradient is no number, or its state
def test_a_method_that_diverges_is_measured_as_such(step_size, tmp_path):
    truth = Truth(Case("ring", ring(), ring(), Tilt(ring_reward(), 1.0), 8))
    far = {"method": "lookahead", "steps": 4, "step_size": step_size}
    found = measure(truth, far, seed=0)
    assert math.isnan(found["sliced_w2"]) and "nfe" not in found
    near = measure(truth, {"method": "fk", "particles": "all", "steps": 4}, seed=1)
    results = Results(tmp_path / "results.jsonl")
    results.add(Key("a", 8, FLOOR, 0), measure(truth, None, seed=0))
    for seed, measured in enumerate((near, found)):
        results.add(Key("a", 8, "m", seed), measured)
    assert "| m | diverged |" in markdown(Results(tmp_path / "results.jsonl").rows())


def test_a_diverged_row_beside_rows_without_modes_is_shown(tmp_path):
    """A case whose truth is a data set has no modes, so its rows have no error of them."""
    results = filled(tmp_path, {FLOOR: {8: [0.1, 0.3]}, "m": {8: [0.3, 0.5]}})
    diverged = dict.fromkeys(("sliced_w2", "mode_error", "reward"), math.nan)
    results.add(Key("a", 8, "far", 0), diverged)
    assert "| far | diverged |" in markdown(results.rows())


def test_the_table_of_the_terminal_fits_80_columns_and_cuts_no_number(tmp_path):
    results = Results(tmp_path / "results.jsonl")
    for seed, value in enumerate((123.456, 134.567)):
        costs = {"nfe": 16384, "vjps": 9999, "reward_calls": 98304, "seconds": 12.34}
        measured = dict.fromkeys(
            ("sliced_w2", "energy_distance", "mmd", "reward_error", "reward"), value
        )
        for method in (FLOOR, "weighted_diamond, gradient, 64 draws, anchored"):
            results.add(Key("mixture in 64 dimensions, strength 12", 1000, method, seed),
                        measured | (costs if method != FLOOR else {}))  # fmt: skip
    rows = results.rows()
    out = io.StringIO()
    for table in rich_tables(rows):
        Console(file=out, width=80).print(table)
    shown = out.getvalue()
    assert max(map(len, shown.splitlines())) <= 80 and "…" not in shown
    for number in ("1.00 ± ", "129.012 ± ", "16384", "98304", "12340.00"):
        assert number in shown, shown


def test_a_truth_without_modes_measures_no_error_of_them():
    target = Empirical(ring().sample(50, generator=torch.Generator().manual_seed(0)))
    truth = Truth(Case("rows", target, target, Tilt(ring_reward(), 1.0), 16))
    measured = truth.distances(truth.sample(16, 0), seed=0)
    assert truth.distances(torch.full((16, 2), math.inf), seed=0).keys() == measured.keys()
    assert "mode_error" not in measured


def test_a_rate_is_measured_against_that_of_the_exact_tilt(tmp_path):
    data = ring().sample(200, generator=torch.Generator().manual_seed(0))
    target, rate = Empirical(data), as_reward(lambda x, condition=None: (x[:, 0] > 0).double())
    truth = Truth(Case("rows", target, target, Tilt(ring_reward(), 1.0), 16, rate=rate))
    weight = Tilt(ring_reward(), 1.0).log_weight(ring_reward().score(data)).double().softmax(0)
    exact = (weight @ (data[:, 0] > 0).double()).item()
    right = truth.distances(torch.ones(16, 2), seed=0)
    assert right["rate"] == 1 and right["rate_bias"] == pytest.approx(1 - exact)
    results = Results(tmp_path / "results.jsonl")
    for method in (FLOOR, "m"):
        results.add(Key("rows", 16, method, 0), right)
    assert "| mean reward | rate | rate less the exact one |" in markdown(results.rows())


def test_a_suite_says_in_which_precision_models_are_steered():
    suite = composed(*METHODS, "+suite.precision=bf16").suite
    assert {case.precision for case in build_suite(suite).cases} == {"bf16"}
    with pytest.raises(ValueError, match="suite.precision must be one of fp32, bf16"):
        build_suite(composed(*METHODS, "+suite.precision=fp8").suite)


def test_a_tuner_that_diverges_is_measured_as_such():
    policy = FlowMapPolicy(MLP(2, width=8, depth=1), (2,))
    truth = Truth(Case("ring", policy, ring(), Tilt(ring_reward(), 1.0), 16))
    far = {"method": "weighted", "steps": 20, "batch_size": 8, "pool": 64, "learning_rate": 1e30}
    found = dict(measure_tuned(truth, far, seed=0))
    assert list(found) == [1, 2, 4, 0]
    assert all(math.isnan(measured["sliced_w2"]) for measured in found.values())


def test_samples_too_far_out_for_the_reward_have_diverged(truth):
    assert math.isnan(truth.distances(torch.full((16, 2), 1e30), seed=0)["sliced_w2"])


def test_one_system_of_all_particles_costs_what_one_of_them_does(truth):
    found = measure(truth, {"method": "fk", "particles": "all", "steps": 8}, seed=0)
    assert found["nfe"] == 8 and found["reward_calls"] == 9


def test_a_suite_is_measured_written_and_gone_on_with(tmp_path):
    config = composed(*METHODS)
    page = run_suite(config, tmp_path / "run", "alignflow benchmark")
    assert {path.name for path in page.parent.iterdir()} >= {
        *("results.jsonl", "results.csv", "results.md", "report.html")
    }
    lines = (page.parent / "results.jsonl").read_text().splitlines()
    assert len(lines) == 2 * 2 * 3
    html = page.read_text()
    assert html.count('<svg role="img"') == 2 + 1  # and that of convergence
    style = Path(str(report.__file__)).with_name("style.css").read_text()
    assert style.strip() in html and '<nav class="contents"' in html  # as the report of a run
    assert 'data-label="mean reward"' in html and "mathdefault" not in html

    (page.parent / "results.jsonl").write_text("\n".join(lines[:7]) + "\n")
    run_suite(config, page.parent, "alignflow benchmark")
    again = (page.parent / "results.jsonl").read_text().splitlines()
    assert again[:7] == lines[:7] and len(again) == len(lines)
    timing = ("seconds", "megabytes")
    for one, other in zip(map(json.loads, again), map(json.loads, lines), strict=True):
        assert {k: v for k, v in one.items() if k not in timing} == {
            k: v for k, v in other.items() if k not in timing
        }
    with pytest.raises(ValueError, match="measurements of another config"):
        run_suite(composed(*METHODS, "suite.samples=16"), page.parent)


def test_a_suite_is_measured_in_parts(tmp_path):
    run_suite(composed(*METHODS, "only=[ring, fk]"), tmp_path)
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert {json.loads(line)["method"] for line in lines} == {FLOOR, "fk"}
    run_suite(composed(*METHODS), tmp_path)
    again = (tmp_path / "results.jsonl").read_text().splitlines()
    assert again[: len(lines)] == lines and len(again) == 2 * 2 * 3
    table = (tmp_path / "results.md").read_text()
    assert table.index(f"| {FLOOR} |") < table.index("| exact |") < table.index("| fk |")
    with pytest.raises(ValueError, match=r"only names dps, which the suite smoke has not: it has "):
        run_suite(composed(*METHODS, "only=[dps]"), tmp_path)


def filled(path, curves):
    """Results of cases "a" by method, then samples, then seed: sliced W2 and what goes with it."""
    results = Results(path / "results.jsonl")
    rest = {"mmd": 0.1, "energy_distance": 0.1, "reward": 1.0, "reward_error": 0.1}
    cost = dict.fromkeys(("nfe", "vjps", "reward_calls", "reward_vjps"), 2.0)
    cost |= {"seconds": 1.0, "megabytes": 1.0}
    for method, curve in curves.items():
        for samples, values in curve.items():
            for seed, value in enumerate(values):
                measured = {"sliced_w2": value, **rest} | (cost if method != FLOOR else {})
                results.add(Key("a", samples, method, seed), measured)
    return Results(path / "results.jsonl")


def test_of_a_row_measured_twice_the_last_counts_and_a_cut_one_not_at_all(tmp_path):
    results = filled(tmp_path, {FLOOR: {8: [1.0, 3.0]}, "cut": {8: [7.0, 7.0]}})
    results.add(Key("a", 8, FLOOR, 0), {"sliced_w2": 5.0})
    text = results.path.read_text()
    results.path.write_text(text + text.splitlines()[0][:20])
    again = Results(results.path)
    assert again.path.read_text() == text and len(again.found) == 4
    (row,) = (row for row in again.rows() if row.method == FLOOR)
    assert row.values["sliced_w2"].value == 4.0


def test_means_over_seeds_come_with_their_error_and_stand_over_the_floor(tmp_path):
    floor, row = filled(tmp_path, {FLOOR: {8: [0.1, 0.3]}, "m": {8: [0.3, 0.5]}}).rows()
    ratio = row.ratio("sliced_w2")
    assert ratio.value == pytest.approx(0.4 / 0.2)
    assert ratio.standard_error == pytest.approx(0.1 / 0.2)
    assert row.cost == 2 + 2 * 2
    assert floor.ratio("sliced_w2").value == pytest.approx(1)
    text = markdown([floor, row])
    assert "| m | 2.00 ± 0.50 |" in text and "sliced W2 0.2, " in text


def test_the_slope_of_errors_is_that_of_a_power_law_with_its_error(tmp_path):
    """Errors c n^-1/2 exactly; then with one standard error of 10 % at two sizes a factor 4 apart,
    which makes sqrt(2) 0.1 / log 4 of the slope."""
    exact = {n: [n**-0.5] * 2 for n in (4, 16, 64)}
    noisy = {n: [0.9 * n**-0.5, 1.1 * n**-0.5] for n in (4, 16)}
    rows = filled(tmp_path, {FLOOR: exact, "m": noisy, "once": {4: [1.0, 1.0]}}).rows()
    found = curves(rows)
    assert set(found) == {("a", FLOOR), ("a", "m")}
    assert slope(found["a", FLOOR]).value == pytest.approx(-0.5)
    assert slope(found["a", "m"]).value == pytest.approx(-0.5)
    assert slope(found["a", "m"]).standard_error == pytest.approx(2**0.5 * 0.1 / math.log(4))
    assert "| a | m | -0.50 ± 0.10 |" in markdown(rows)


def test_floors_may_be_measured_more_often_than_methods(tmp_path):
    run_suite(composed(*METHODS, "suite.samples=32", "+suite.floors=5"), tmp_path)
    entries = map(json.loads, (tmp_path / "results.jsonl").read_text().splitlines())
    assert Counter(entry["method"] for entry in entries) == {FLOOR: 5, "exact": 2, "fk": 2}


def test_of_many_cases_there_is_a_summary_of_the_median_and_the_worst(tmp_path):
    results = Results(tmp_path / "results.jsonl")
    for case in range(8):
        results.add(Key(f"c{case}", 8, FLOOR, 0), {"sliced_w2": 0.5, "reward": 0.0})
        results.add(Key(f"c{case}", 8, "m", 0), {"sliced_w2": 1.0 + case, "reward": 0.0})
    results.add(Key("c0", 8, "far", 0), {"sliced_w2": math.nan, "reward": math.nan})
    rows = results.rows()
    assert summary(rows) == [
        [FLOOR, "8", "1.00", "1.00", "0"],
        ["m", "8", "9.00", "16.00", "0"],
        ["far", "1", "diverged", "diverged", "1"],
    ]
    assert markdown(rows).startswith("## All cases") and "| m | 2.00 |" in markdown(rows)
    assert not summary([row for row in rows if row.case != "c7"])


def test_a_tuner_is_trained_once_and_judged_at_several_steps(tmp_path):
    tuner = "+suite.tuners.tilt={method: tilt, steps: 3, batch_size: 8, pool: 64}"
    config = composed("suite=etm", "~suite.tuners", tuner)
    page = run_suite(config, tmp_path / "run", "alignflow benchmark")
    lines = (page.parent / "results.jsonl").read_text().splitlines()
    found = [entry for entry in map(json.loads, lines) if entry["method"] != FLOOR]
    assert {entry["method"] for entry in found} == {
        *("tilt, 1 step", "tilt, 2 steps", "tilt, 4 steps", "tilt, ODE")
    }
    assert all(entry["tuning_reward_calls"] == 64 for entry in found)
    assert [entry.get("nfe") for entry in found[:4]] == [1, 2, 4, None]
    table = (page.parent / "results.md").read_text()
    assert "seconds to tune" in table and "vjps |" not in table.replace("reward vjps to tune", "")


SUITES = sorted(path.stem for path in (Path(__file__).parents[2] / "configs" / "suite").iterdir())


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_of_the_package_is_built(name, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config = composed(f"suite={name}")
    for title, case in config.suite.cases.items():
        if "data" in case.target:
            case.target.data.n = 8
        if "steps" in (case.get("policy") or {}):
            case.policy.steps = 1  # a policy that the suite trains
            case.policy.folder = str(tmp_path / title)
    suite = build_suite(config.suite)
    assert suite.cases and (suite.methods or suite.tuners)
    for case in suite.cases:
        states = case.target.sample(3, generator=torch.Generator().manual_seed(0))
        assert torch.isfinite(case.tilt.reward.score(states, decode=case.policy.decode)).all()


def test_the_command_says_how_it_is_used_and_refuses_unknown_keys(capsys):
    assert main(["benchmark", "--help"]) == 0
    assert "alignflow benchmark suite=exact_tilt" in capsys.readouterr().out
    assert main(["benchmark", "suite=smoke", "+smaples=3"]) == 1
    assert "smaples" in capsys.readouterr().err
