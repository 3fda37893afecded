"""The distribution of a stored data set against dense float64 sums over all of its rows."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from alignflow.data import Images, digits
from alignflow.interpolants import score_from_velocity
from alignflow.reward_module import Reward, reward
from alignflow.targets import Empirical, GaussianMixture
from alignflow.targets.row_posterior import row_posterior

N = 101
TIMES = pytest.mark.parametrize("t", [0.0, 0.3, 0.9, 0.99])


@pytest.fixture
def rows(generator):
    return torch.randn(N, 2, 3, generator=generator, dtype=torch.float64)


@pytest.fixture
def log_weight(generator):
    return torch.randn(N, generator=generator, dtype=torch.float64)


@pytest.fixture
def target(rows, log_weight):
    return Empirical(rows, log_weight, chunk=7)


@reward(differentiable=True)
def first_row(x):
    return x[:, 0].sum(1)


def states_at(target, t, n, generator):
    return (1 - t) * target.noise(n, generator) + t * target.sample(n, generator=generator)


def dense_logits(target, x, t):
    """w_i - |x - t x_i|^2 / 2 (1-t)^2, (B, N), by differences in float64."""
    states = target.rows.states(slice(None)).double().flatten(1)
    distance = (x.double().flatten(1)[:, None] - t * states).square().sum(-1)
    return target.log_weight - distance / (2 * (1 - t) ** 2)


def dense_mean(target, x, t):
    states = target.rows.states(slice(None)).double().flatten(1)
    return (dense_logits(target, x, t).softmax(1) @ states).reshape(x.shape)


@TIMES
def test_denoiser_is_the_softmax_mean_of_the_rows(target, t, generator):
    x = states_at(target, t, 5, generator)
    assert torch.allclose(target.denoiser(x, t), dense_mean(target, x, t), atol=1e-10)


@TIMES
def test_autocast_changes_neither_means_nor_draws(rows, t, generator):
    target = Empirical(rows.float(), chunk=7)
    x = states_at(target, t, 5, generator)
    mean, drawn = target.denoiser(x, t), target.posterior_sample(x, t, 3, 0)
    with torch.autocast("cpu", torch.bfloat16):
        assert target.denoiser(x, t).equal(mean)
        assert target.posterior_sample(x, t, 3, 0).equal(drawn)


@TIMES
def test_denoiser_is_the_state_moved_along_the_velocity(target, t, generator):
    x = states_at(target, t, 5, generator)
    moved = x + (1 - t) * target.velocity(x, t)
    assert torch.allclose(moved, target.denoiser(x, t), atol=1e-12)


@pytest.mark.parametrize("t", [0.0, 0.3, 0.9])
def test_density_is_that_of_one_gaussian_a_row(target, t, generator):
    x = states_at(target, t, 5, generator)
    gaussian = torch.distributions.Normal(torch.zeros(()).double(), 1 - t)
    each = gaussian.log_prob(x[:, None] - t * target.data).flatten(2).sum(2)
    expected = (each + target.log_weight.log_softmax(0)).logsumexp(1)
    assert torch.allclose(target.log_density(x, t), expected, atol=1e-9)


def test_score_from_the_velocity_is_the_gradient_of_the_density(target, generator):
    t = torch.tensor([0.1, 0.4, 0.8], dtype=torch.float64)
    x = target.noise(3, generator).requires_grad_()
    (gradient,) = torch.autograd.grad(target.log_density(x, t).sum(), x)
    assert torch.allclose(score_from_velocity(x, t, target.velocity(x, t)), gradient, atol=1e-9)


@TIMES
def test_mean_of_any_function_of_the_rows(target, t, generator):
    x = states_at(target, t, 5, generator)
    values = torch.randn(N, 2, 2, generator=generator, dtype=torch.float64)
    expected = torch.einsum("bn,nij->bij", dense_logits(target, x, t).softmax(1), values)
    assert torch.allclose(target.posterior_mean(x, t, values), expected, atol=1e-10)
    one = target.posterior_mean(x, t, values[:, 0, 0])
    assert torch.allclose(one, expected[:, 0, 0], atol=1e-10)


def test_at_time_zero_the_posterior_is_the_weights(target, generator):
    x = target.noise(3, generator)
    mean = torch.einsum("n,nij->ij", target.log_weight.softmax(0), target.data)
    assert torch.allclose(target.denoiser(x, 0.0), mean.expand(3, 2, 3), atol=1e-12)


def test_at_time_one_the_posterior_is_the_nearest_row(target, generator):
    x = target.data[:5] + 0.1 * torch.randn(5, 2, 3, generator=generator, dtype=torch.float64)
    nearest = torch.cdist(x.flatten(1), target.data.flatten(1)).argmin(1)
    assert torch.allclose(target.denoiser(x, 1.0), target.data[nearest], atol=1e-9)
    assert torch.allclose(target.velocity(x, 1.0), target.data[nearest], atol=1e-9)
    draws = target.posterior_sample(x, 1.0, 4, generator)
    assert torch.equal(draws, target.data[nearest][:, None].expand_as(draws))


def test_at_time_one_equal_rows_are_weighed(rows, log_weight):
    doubled = Empirical(torch.cat([rows, rows]), torch.cat([log_weight, log_weight + 1]), chunk=7)
    mark = torch.cat([torch.zeros(N), torch.ones(N)])
    fraction = doubled.posterior_mean(rows[:5], 1.0, mark)
    assert torch.allclose(fraction, torch.tensor(1.0).double().sigmoid().expand(5), atol=1e-4)


@pytest.mark.parametrize("t", [0.5, 0.9, 0.99, 0.999])
def test_single_precision_rows_that_are_almost_equally_near_are_told_apart(t, generator):
    """States between two rows, far from the origin: where the expanded square loses digits."""
    images = digits()
    target = Empirical(images)
    states = images.states().double().flatten(1)
    distance = torch.cdist(states[:31], states)
    nearest = distance.topk(2, largest=False).indices[:, 1]
    middle = (states[:31] + states[nearest]) / 2
    # a push towards one row by a fraction of what makes its odds 1 to e
    gap = states[nearest] - states[:31]
    push = 0.3 * (1 - t) ** 2 / t * gap / gap.square().sum(1, keepdim=True)
    x = (t * middle + push).float().reshape(31, 1, 28, 28)
    denoiser = target.denoiser(x, t)
    assert denoiser.dtype == torch.float32
    assert torch.allclose(denoiser.double(), dense_mean(target, x, t), atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_data_of_any_precision_are_summed_in_single_precision_or_more(dtype, rows, generator):
    target = Empirical(rows.to(dtype), chunk=7)
    assert target.data.dtype == dtype
    x = torch.randn(5, 2, 3, generator=generator)
    for t in (0.3, 0.9, 0.999):
        denoiser = target.denoiser(x, t)
        assert denoiser.dtype == torch.float32
        assert torch.allclose(denoiser.double(), dense_mean(target, x, t), atol=1e-3)
    assert target.denoiser(x.to(dtype), 0.3).dtype == dtype
    assert target.sample(3).dtype == torch.float32


def test_images_and_their_pixels_are_states_between_minus_one_and_one(generator):
    images = digits()
    target, pixels = Empirical(images, chunk=63), Empirical(images.pixels)
    assert target.data.dtype == torch.uint8
    assert target.event_shape == images.event_shape
    x = states_at(target, 0.3, 5, generator)
    assert torch.allclose(target.denoiser(x, 0.3), dense_mean(target, x, 0.3).float(), atol=1e-4)
    assert torch.allclose(target.denoiser(x, 0.3), pixels.denoiser(x, 0.3), atol=1e-4)
    assert target.decode(x).min() >= 0 and target.decode(x).max() <= 1


def test_some_rows_of_labelled_images_are_their_conditional_distribution(generator):
    images = digits()
    chosen = images.labels["digit"] == 3
    some = Empirical(images.select(chosen))
    left_out = torch.zeros(len(images)).masked_fill(~chosen, -torch.inf)
    weighted = Empirical(images, left_out)
    x = states_at(weighted, 0.2, 5, generator)
    assert torch.allclose(some.denoiser(x, 0.2), weighted.denoiser(x, 0.2), atol=1e-4)


@pytest.mark.parametrize("chunk", [1, 7, 100, 101, 5000])
def test_the_chunk_does_not_matter(chunk, target, generator):
    other = Empirical(target.data, target.log_weight, chunk)
    t = torch.tensor([0.0, 0.3, 0.6, 0.9, 1.0], dtype=torch.float64)
    x = states_at(target, 0.5, 5, generator)
    assert torch.allclose(other.denoiser(x, t), target.denoiser(x, t), atol=1e-10)
    assert torch.allclose(
        other.value(x, t, first_row, 2.0), target.value(x, t, first_row, 2.0), atol=1e-10
    )
    draws = [
        m.posterior_sample(x, t, 63, torch.Generator().manual_seed(1)) for m in (other, target)
    ]
    assert torch.equal(*draws)


class LargestTensor(TorchDispatchMode):
    """Counts the elements of the largest tensor that any operation gives."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return out


def test_no_tensor_is_larger_than_a_chunk_of_rows_or_of_weights(generator):
    n, width, batch, draws = 2003, 6, 5, 4
    target = Empirical(torch.randn(n, width, generator=generator), chunk=7)
    x = torch.randn(batch, width, generator=generator, requires_grad=True)
    distributions = row_posterior(target.rows, x, torch.full((batch,), 0.5).double())
    with LargestTensor() as seen:
        distributions.mean().sum().backward()
        distributions.draw(draws, generator)
    assert 0 < seen.elements <= max(7 * width, batch * 7, batch * width, batch * draws)


def test_samples_are_rows_with_their_weights(target, generator):
    n = 20_000
    samples = target.sample(n, generator=generator)
    number = torch.cdist(samples.flatten(1), target.data.flatten(1)).argmin(1)
    assert torch.equal(samples, target.data[number])
    fraction = number.bincount(minlength=N) / n
    weight = target.log_weight.softmax(0)
    assert ((fraction - weight).abs() <= 5 * (weight * (1 - weight) / n).sqrt()).all()


def test_a_data_set_of_draws_has_another_target_s_samples_and_rewards():
    of = GaussianMixture(torch.ones(1), torch.zeros(1, 2), torch.eye(2).unsqueeze(0))
    target = Empirical.of_draws(of, 100, seed=3)
    assert torch.equal(target.data, of.sample(100, generator=torch.Generator().manual_seed(3)))
    assert target.decode(target.data) is target.data

    class Decoding(GaussianMixture):
        def decode(self, x):
            return 10 * x

    decoding = Decoding(of.weights, of.means, of.covariances)
    rewards = Empirical.of_draws(decoding, 100, seed=3).rewards(lambda x: x[:, 0])
    assert torch.equal(rewards, 10 * target.data[:, 0])


def test_posterior_draws_are_rows_with_their_posterior_weights(target, generator):
    n = 20_000
    t = torch.tensor([0.0, 0.4, 0.8], dtype=torch.float64)
    x = t[:, None, None] * target.data[:3] + 0.3 * target.noise(3, generator)
    drawn = target.posterior_sample(x, t, n, generator)
    assert drawn.shape == (3, n, 2, 3)
    for i in range(3):
        number = torch.cdist(drawn[i].flatten(1), target.data.flatten(1)).argmin(1)
        assert torch.equal(drawn[i], target.data[number])
        fraction = number.bincount(minlength=N) / n
        weight = dense_logits(target, x[i : i + 1], t[i]).softmax(1)[0]
        # rare rows come by Poisson's distribution: five standard deviations and a few draws
        assert ((fraction - weight).abs() <= 5 * (weight * (1 - weight) / n).sqrt() + 5 / n).all()


@pytest.mark.parametrize("chunk", [1, 7])  # with 1, half of the chunks have no weight at all
def test_a_row_without_weight_is_never_drawn(chunk, rows, generator):
    log_weight = torch.zeros(N)
    log_weight[::2] = -torch.inf
    target = Empirical(rows, log_weight, chunk)
    samples = target.sample(5000, generator=generator)
    number = torch.cdist(samples.flatten(1), rows.flatten(1)).argmin(1)
    assert (number % 2 == 1).all()
    assert torch.equal(target.denoiser(rows, 1.0)[1::2], rows[1::2])


@pytest.mark.parametrize("offset", [900.1, 900.4, 900.7, 901.0])
def test_a_uniform_above_the_last_edge_by_rounding_draws_the_last_row_with_weight(
    offset, generator
):
    """Large log-weights round the float32 normalizer by 3e-5: some of 200,000 draws lie above."""
    log_weight = torch.tensor([offset, offset, offset, -torch.inf, -torch.inf])
    rows = torch.tensor([[0.0], [1.0], [2.0], [torch.pi], [4.0]])
    target = Empirical(rows, log_weight, chunk=2)
    assert target.sample(200_000, generator=generator).max() == 2


def test_denoiser_and_density_have_their_derivatives_in_state_and_time(generator):
    rows = torch.randn(11, 2, generator=generator, dtype=torch.float64)
    target = Empirical(rows, chunk=4)
    x = target.noise(3, generator).requires_grad_()
    t = torch.tensor([0.0, 0.4, 0.7], dtype=torch.float64, requires_grad=True)
    for function in (target.denoiser, target.velocity, lambda x, t: target.log_density(x, t)):
        # the first time stays off the wall of [0, 1]
        shifted = lambda x, t, function=function: function(x, t + 0.1)  # noqa: E731
        assert torch.autograd.gradcheck(shifted, (x, t))
        assert torch.autograd.gradgradcheck(shifted, (x, t))


@TIMES
def test_value_is_the_log_mean_of_the_exponential_of_the_reward(target, t, generator):
    x = states_at(target, t, 5, generator)
    logits = dense_logits(target, x, t)
    log_tilt = 1.3 * first_row(target.data)
    expected = (logits + log_tilt).logsumexp(1) - logits.logsumexp(1)
    assert torch.allclose(target.value(x, t, first_row, 1.3), expected, atol=1e-9)
    stored = target.rewards(first_row)
    assert torch.allclose(target.value(x, t, stored, 1.3), expected, atol=1e-9)


def test_value_moves_the_density_to_that_of_the_tilt(target, generator):
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    x = states_at(target, 0.5, 3, generator)
    tilted = target.tilted(first_row, 1.3)
    moved = tilted.log_density(x, t) - target.log_density(x, t)
    constant = target.value(x[:1], 0.0, first_row, 1.3)
    assert torch.allclose(target.value(x, t, first_row, 1.3), moved + constant, atol=1e-9)


@pytest.mark.parametrize("t", [0.0, 0.3, 0.9])
def test_value_gradient_is_the_gradient_of_the_value(target, t, generator):
    x = states_at(target, t, 5, generator)
    gradient = target.value_gradient(x, t, first_row, 1.3)
    step = 1e-4 * (1 - t)
    for i in range(2):
        for j in range(3):
            shift = torch.zeros(2, 3, dtype=torch.float64)
            shift[i, j] = step
            up, down = (target.value(x + sign * shift, t, first_row, 1.3) for sign in (1, -1))
            assert torch.allclose((up - down) / (2 * step), gradient[:, i, j], atol=1e-5)
    leaf = x.clone().requires_grad_()
    (auto,) = torch.autograd.grad(target.value(leaf, t, first_row, 1.3).sum(), leaf)
    assert torch.allclose(auto, gradient, atol=1e-9)


def test_velocity_of_the_tilt_is_the_velocity_plus_the_value_gradient(target, generator):
    t = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    x = states_at(target, 0.5, 3, generator)
    factor = ((1 - t) / t)[:, None, None]
    steered = target.velocity(x, t) + factor * target.value_gradient(x, t, first_row, 1.3)
    assert torch.allclose(target.tilted(first_row, 1.3).velocity(x, t), steered, atol=1e-9)


def test_the_tilt_weighs_every_row_by_its_reward(target):
    rewards = first_row(target.data)
    tilted = target.tilted(first_row, -0.7)
    expected = (target.log_weight - 0.7 * rewards).softmax(0)
    assert torch.allclose(tilted.log_weight.softmax(0), expected, atol=1e-12)
    twice = target.tilted(first_row, 0.5).tilted(first_row, 1.5).log_weight
    assert torch.allclose(twice, target.tilted(first_row, 2.0).log_weight, atol=1e-12)


def test_rewards_see_decoded_states_and_their_condition():
    images = Images(torch.arange(5, dtype=torch.uint8).reshape(5, 1, 1, 1) * 51)

    def brightness(x, condition):
        return x.flatten(1).mean(1) + condition

    steps = torch.linspace(0, 1, 6)[:5]
    assert torch.allclose(Empirical(images, chunk=2).rewards(brightness, 1), steps + 1)
    each = Empirical(images, chunk=2).rewards(brightness, torch.arange(5))
    assert torch.allclose(each, steps + torch.arange(5))
    doubled = Empirical(images, chunk=2, decode=lambda x: x + 1)
    assert torch.allclose(doubled.rewards(brightness, 0), 2 * steps, atol=1e-6)
    assert torch.allclose(
        doubled.tilted(lambda x: x.flatten(1)[:, 0], 1.0).log_weight.float(), 2 * steps, atol=1e-6
    )


def test_rows_that_a_reward_drops_are_left_out(target):
    def no_answer_for_half(x):
        return torch.where(x[:, 0, 0] > 0, x[:, 1, 1], torch.nan)

    tilted = target.tilted(Reward(no_answer_for_half, on_invalid="drop"), -1.0)
    assert torch.equal(tilted.log_weight.isneginf(), target.data[:, 0, 0] <= 0)


def test_flow_map_carries_noise_to_rows_with_their_weights(generator):
    rows = torch.tensor([[-1.0], [0.5], [2.0]], dtype=torch.float64)
    target = Empirical(rows, torch.tensor([0.2, 0.5, 0.3]).log(), chunk=2)
    noise = target.noise(201, generator)
    end = target.flow_map(noise, 0.0, 1.0)
    # the monotone map of a line keeps the fraction of mass below
    below = torch.distributions.Normal(0, 1).cdf(noise)
    expected = rows[torch.bucketize(below, torch.tensor([0.2, 0.7], dtype=torch.float64))[:, 0]]
    assert torch.allclose(end, expected, atol=1e-5)


def test_flow_map_is_a_semigroup_with_an_inverse_before_the_end(target, generator):
    x = target.noise(3, generator)
    s, u, t = 0.95 * torch.rand(3, 3, generator=generator, dtype=torch.float64).sort(0).values
    jump = target.flow_map(x, s, t)
    assert torch.allclose(target.flow_map(x, s, s), x)
    assert torch.allclose(target.flow_map(target.flow_map(x, s, u), u, t), jump, atol=1e-6)
    assert torch.allclose(target.flow_map(jump, t, s), x, atol=1e-5)
    assert torch.allclose(target.flow_map(x, 1.0, 1.0), x)
    late = target.flow_map(target.data[:3] + 1e-5, 0.9995, 1.0)
    assert torch.allclose(late, target.data[:3], atol=1e-9)


def test_a_module_cast_to_another_precision_is_the_distribution_of_the_cast_rows(target, generator):
    x = target.noise(3, generator).float()
    cast = Empirical(target.data, target.log_weight, chunk=7).float()
    assert cast.dtype == torch.float32
    fresh = Empirical(target.data.float(), target.log_weight.float(), chunk=7)
    assert torch.equal(cast.denoiser(x, 0.9), fresh.denoiser(x, 0.9))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: Empirical(torch.zeros(3)),
            r"rows of states \(N, \*E\), got Tensor of shape \(3,\)",
        ),
        (lambda: Empirical(torch.zeros(3, 2, dtype=torch.int64)), "floats or uint8"),
        (lambda: Empirical(torch.zeros(0, 2)), "at least one row"),
        (lambda: Empirical(torch.full((3, 2), torch.nan)), "must be finite"),
        (
            lambda: Empirical(torch.zeros(3, 2), chunk=0),
            "chunk must be a whole number of at least 1, got 0",
        ),
        (lambda: Empirical(torch.zeros(3, 2), torch.zeros(2)), r"log-weights \(3,\)"),
        (lambda: Empirical(torch.zeros(1, 2), torch.tensor([torch.nan])), "NaN"),
        (lambda: Empirical(torch.zeros(1, 2), torch.tensor([-torch.inf])), "none is left"),
    ],
)
def test_what_is_no_data_set_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_calls_without_an_answer_are_refused(target):
    x = target.data[:2]
    with pytest.raises(ValueError, match=r"shape \(N, 2, 3\)"):
        target.denoiser(torch.zeros(3, 6), 0.5)
    with pytest.raises(ValueError, match=r"images.select\(rows\)"):
        target.velocity(x, 0.5, condition=torch.zeros(2))
    with pytest.raises(ValueError, match="no density"):
        target.log_density(x, 1.0)
    with pytest.raises(ValueError, match="cannot be inverted"):
        target.flow_map(x, 1.0, 0.5)
    with pytest.raises(ValueError, match="n must be a whole number of at least 1"):
        target.sample(0)
    with pytest.raises(ValueError, match="k must be a whole number of at least 1"):
        target.posterior_sample(x, 0.5, 0)
    with pytest.raises(ValueError, match=r"rewards of 101 rows .* got \(2,\)"):
        target.tilted(torch.zeros(2), 1.0)
    with pytest.raises(ValueError, match="strength must be a finite number, got nan"):
        target.tilted(first_row, torch.nan)
    with pytest.raises(ValueError, match="101 rows need as many values"):
        target.posterior_mean(x, 0.5, torch.zeros(3))
