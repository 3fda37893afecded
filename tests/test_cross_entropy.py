"""Cross-entropies by rows: those of plain torch, with their derivatives, in two buffers."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from alignflow import cross_entropy
from alignflow.cross_entropy import mix_softmax_
from alignflow.kernels import backend, soft_cross_entropy

N, V = 7, 11


@pytest.fixture(autouse=True)
def by_rows(monkeypatch):
    """Three rows at a time, however small the problem."""
    monkeypatch.setattr(cross_entropy, "SMALL", 0)
    monkeypatch.setattr(cross_entropy, "CHUNK", 3 * V)
    monkeypatch.setattr(cross_entropy, "FRACTION", 0.0)
    monkeypatch.setitem(backend.ELEMENTS_AT_ONCE, "cpu", 3 * V)


@pytest.fixture
def parts(generator):
    """Logits, two teachers, labels, and weights of any sign that sum to 1."""
    logits, a, b = 3 * torch.randn(3, N, V, generator=generator, dtype=torch.float64)
    labels = torch.randint(V, (N,), generator=generator)
    weights = torch.randn(N, 3, generator=generator, dtype=torch.float64)
    weights[:, 2] += 1 - weights.sum(1)
    return logits.requires_grad_(), a, b, labels, weights


def plain(logits, a, b, labels, weights):
    target = torch.zeros_like(logits)
    for weight, teacher in zip(weights.T, (a, b), strict=False):
        if teacher is not None:
            target = target + weight[:, None] * teacher.softmax(-1)
    if labels is not None:
        target = target + weights[:, 2:] * torch.eye(V, dtype=logits.dtype)[labels]
    return -(target * logits.log_softmax(-1)).sum(-1)


def close(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("absent", [(), (0,), (1, 2), (0, 1), (0, 1, 2)], ids=str)
def test_value_gradient_and_second_derivative_are_those_of_plain_torch(parts, absent, generator):
    logits, *given, weights = parts
    given = [None if number in absent else part for number, part in enumerate(given)]
    upstream = torch.randn(N, generator=generator, dtype=torch.float64)
    direction = torch.randn(N, V, generator=generator, dtype=torch.float64)
    results = []
    for function in (soft_cross_entropy, plain):
        losses = function(logits, *given, weights)
        (by_hand,) = torch.autograd.grad(losses, logits, upstream, retain_graph=True)
        (gradient,) = torch.autograd.grad(losses, logits, upstream, create_graph=True)
        close(by_hand, gradient)
        (second,) = torch.autograd.grad(gradient, logits, direction)
        results.append((losses, gradient, second))
    for found, wanted in zip(*results, strict=True):
        close(found, wanted)


def test_the_gradient_is_softmax_less_target_for_any_signs(parts):
    logits, a, b, labels, weights = parts
    (gradient,) = torch.autograd.grad(soft_cross_entropy(*parts).sum(), logits)
    mixed = weights[:, :1] * a.softmax(-1) + weights[:, 1:2] * b.softmax(-1)
    mixed[torch.arange(N), labels] += weights[:, 2]
    assert mixed.min() < 0
    close(gradient, logits.softmax(-1) - mixed)


def test_forward_mode_is_that_of_plain_torch(parts, generator):
    logits, *given = parts
    tangent = torch.randn(N, V, generator=generator, dtype=torch.float64)
    found, wanted = (
        torch.func.jvp(lambda z, f=f: f(z, *given), (logits.detach(),), (tangent,))
        for f in (soft_cross_entropy, plain)
    )
    close(found, wanted)


def test_a_target_that_is_learned_has_its_gradient(parts):
    logits, a, *given = parts
    a.requires_grad_()
    found, wanted = (
        torch.autograd.grad(f(logits, a, *given).sum(), (logits, a))
        for f in (soft_cross_entropy, plain)
    )
    close(found, wanted)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_losses_are_in_single_precision_at_least_and_gradients_in_that_of_the_logits(parts, dtype):
    logits, a, b, labels, weights = (part.detach() for part in parts)
    logits, a, b = logits.to(dtype).requires_grad_(), a.to(dtype), b.to(dtype)
    losses = soft_cross_entropy(logits, a, b, labels, weights)
    losses.sum().backward()
    assert losses.dtype == torch.float32 and logits.grad.dtype == dtype
    wanted = plain(logits.double(), a.double(), b.double(), labels, weights)
    torch.testing.assert_close(losses.double(), wanted, rtol=1e-5, atol=1e-5)


def test_the_gradient_may_take_the_place_of_the_target_once(parts):
    logits, a, *_ = parts
    target = a.softmax(-1)
    losses = cross_entropy.cross_entropy(logits, target.clone())
    (wanted,) = torch.autograd.grad(losses.sum(), logits)
    losses = cross_entropy.cross_entropy(logits, target, gradient=target).sum()
    (found,) = torch.autograd.grad(losses, logits, retain_graph=True)
    close(found, wanted)
    assert found.data_ptr() == target.data_ptr()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(losses, logits)


def test_a_mixture_is_written_over_its_distribution(parts):
    logits, a, _, _, weights = parts
    weight = weights[:, :1].abs()
    distribution = a.softmax(-1)
    wanted = weight * distribution + (1 - weight) * logits.detach().softmax(-1)
    found = mix_softmax_(distribution, logits.detach(), weight)
    close(found, wanted)
    assert found is distribution


@pytest.mark.parametrize("kind", ["tokens", "target"])
def test_logits_and_one_other_buffer_are_held(kind, monkeypatch):
    rows, size = 64, 4096
    monkeypatch.setattr(cross_entropy, "CHUNK", size)
    monkeypatch.setitem(backend.ELEMENTS_AT_ONCE, "cpu", size)
    hidden, head = torch.randn(rows, 4), torch.randn(4, size, requires_grad=True)
    labels, weights = torch.zeros(rows).long(), torch.tensor([0.0, 0.0, 1.0]).expand(rows, 3)

    def step():
        if kind == "tokens":
            losses = soft_cross_entropy(hidden @ head, None, None, labels, weights)
        else:
            target = torch.full((rows, size), 1 / size)
            losses = cross_entropy.cross_entropy(hidden @ head, target, gradient=target)
        losses.sum().backward()

    step()
    # a row at a time is less than a tenth of a buffer
    assert 2 <= _peak(step) / (4 * rows * size) < 2.1


def _peak(call):
    """The most bytes that are allocated at a time during a call."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def test_shapes_that_do_not_fit_are_refused(parts):
    logits, a, b, labels, weights = parts
    with pytest.raises(ValueError, match=r"weights must be \(7, 3\), got \(7, 2\)"):
        soft_cross_entropy(logits, a, b, labels, weights[:, :2])
    with pytest.raises(ValueError, match=r"teacher_a must be \(7, 11\), got \(7, 10\)"):
        soft_cross_entropy(logits, a[:, 1:], b, labels, weights)
    with pytest.raises(ValueError, match=r"labels must be whole numbers \(7,\)"):
        soft_cross_entropy(logits, a, b, labels[:, None], weights)
