"""Cross-entropy with two teachers and a label: value and derivatives, whatever computes them."""

import pytest
import torch

from alignflow import kernels
from alignflow.kernels import backend, soft_cross_entropy
from alignflow.kernels.soft_cross_entropy import _operator, soft_cross_entropy_reference
from alignflow.regressions import CrossEntropy

# relative RMS of a gradient in so many bits; sums are in float32
TOLERANCE = {torch.float32: 5e-6, torch.bfloat16: 6e-3, torch.float16: 8e-4}
COEFFICIENTS = torch.tensor(
    [[0, 0, 1], [1, 0, 0], [0, 1, 0], [0.3, 0.7, 0], [-1.5, 1, 1.5], [-0.4, 0.9, 0.5], [0, 0, 0]],
    dtype=torch.float32,
)


def rows(N, V, generator, dtype=torch.float32, device="cpu", scale=3.0):
    """Logits, two teachers, labels and coefficients."""
    logits, a, b = (scale * torch.randn(N, V, generator=generator) for _ in range(3))
    labels = torch.randint(V, (N,), generator=generator)
    weights = COEFFICIENTS[torch.arange(N) % len(COEFFICIENTS)]
    floats = (x.to(device=device, dtype=dtype) for x in (logits, a, b))
    return *floats, labels.to(device), weights.to(device)


def upstream_of(N, generator):
    return torch.randn(N, generator=generator)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("N", "V"), [(1, 1), (7, 7), (9, 63), (8, 500), (7, 5000)], ids=str)
def test_loss_and_gradient_are_the_definitions(N, V, dtype, place, generator, check):
    arguments = rows(N, V, generator, dtype, place.device)
    check(
        soft_cross_entropy,
        soft_cross_entropy_reference,
        arguments,
        (0,),
        upstream_of(N, generator).to(place.device),
        TOLERANCE[dtype],
    )


def test_a_large_odd_vocabulary(place, generator, check):
    arguments = rows(3, 50_257, generator, device=place.device)
    check(soft_cross_entropy, soft_cross_entropy_reference, arguments, (0,))


@pytest.mark.parametrize("absent", [(1,), (2,), (3,), (1, 2), (1, 3), (2, 3)], ids=str)
def test_what_is_none_has_coefficient_0(absent, place, generator, check):
    arguments = list(rows(7, 63, generator, device=place.device))
    zeroed = arguments[-1].clone()
    for index in absent:
        zeroed[:, index - 1] = 0
    expected = check(
        soft_cross_entropy,
        soft_cross_entropy_reference,
        (*arguments[:-1], zeroed),
        (0,),
    )
    for index in absent:
        arguments[index] = None
    found = check(
        soft_cross_entropy, soft_cross_entropy_reference, tuple(arguments), (0,), None, 2e-6
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_rows_without_a_coefficient_are_not_read(place, generator, check, wide):
    logits, a, b, labels, weights = rows(7, 63, generator, device=place.device)
    arguments = (
        logits,
        a.masked_fill(weights[:, :1] == 0, torch.nan),
        b.masked_fill(weights[:, 1:2] == 0, torch.nan),
        labels.masked_fill(weights[:, 2] == 0, -100),
        weights,
    )
    check(
        soft_cross_entropy,
        lambda z, *rest: soft_cross_entropy_reference(z, *wide((a, b, labels)), rest[-1]),
        arguments,
        (0,),
    )


def test_infinite_logits(place, generator, check):
    """A token ruled out by all costs nothing; one that a target wants costs everything."""
    logits, a, b, labels, weights = rows(7, 63, generator, device=place.device)
    labels[:] = 5
    for tensor in (logits, a, b):
        tensor[:, 10:20] = -torch.inf
    a[:, 0] = b[:, 1] = -torch.inf
    logits[3, 30] = -torch.inf
    result, gradient = check(
        soft_cross_entropy,
        soft_cross_entropy_reference,
        (logits, a, b, labels, weights),
        (0,),
    )
    assert result.isinf().tolist() == [False] * 3 + [True] + [False] * 3
    assert gradient.isfinite().all() and (gradient[:, 10:20] == 0).all()


def test_equal_logits_cost_the_entropy_of_nothing_known(place, generator, check):
    zeros = torch.full((7, 500), 4.0, device=place.device)
    _, _, _, labels, weights = rows(7, 500, generator, device=place.device)
    result, gradient = check(
        soft_cross_entropy,
        soft_cross_entropy_reference,
        (zeros, zeros, zeros, labels, weights),
        (0,),
    )
    wanted = weights.sum(1) * torch.tensor(500.0).log()
    torch.testing.assert_close(result, wanted.to(result), atol=1e-5, rtol=1e-5)
    assert gradient[1].abs().max() < 1e-7


def test_large_logits(place, generator, check):
    arguments = rows(7, 500, generator, device=place.device, scale=300.0)
    check(soft_cross_entropy, soft_cross_entropy_reference, arguments, (0,))


@pytest.mark.parametrize("layout", ["columns", "wide rows", "broadcast"])
def test_any_strides(layout, place, generator, check):
    logits, a, b, labels, weights = rows(7, 63, generator, device=place.device)
    if layout == "columns":
        logits, a, weights = (x.T.contiguous().T for x in (logits, a, weights))
    elif layout == "wide rows":
        logits, b = (torch.cat([x, x + 1], 1)[:, :63] for x in (logits, b))
    else:
        a, labels = a[:1].expand(7, 63), labels[:1].expand(7)
        weights = weights[4:5].expand(7, 3)
    arguments = (logits, a, b, labels, weights)
    check(soft_cross_entropy, soft_cross_entropy_reference, arguments, (0,))


def test_addresses_beyond_32_bits(place, generator):
    if place.device == "cuda":
        pytest.skip("gpu_check.py compares rows of a matrix as large")
    torch.use_deterministic_algorithms(False)  # memory that is not touched is not there
    memory = torch.empty(2**31 + 63, dtype=torch.float16)
    logits = memory.as_strided((2, 63), (2**31, 1))
    logits[:] = torch.randn(2, 63, generator=generator)
    weights = torch.rand(2, 3, generator=generator)
    labels = torch.tensor([0, 62])
    found = soft_cross_entropy(logits, logits, None, labels, weights)
    wanted = soft_cross_entropy(logits.contiguous(), logits.contiguous(), None, labels, weights)
    assert torch.equal(found, wanted)


def test_no_rows(place):
    empty = torch.zeros(0, 7, device=place.device, requires_grad=True)
    weights = torch.zeros(0, 3, device=place.device)
    loss = soft_cross_entropy(empty, empty.detach(), None, None, weights)
    (gradient,) = torch.autograd.grad(loss.sum(), empty)
    assert loss.shape == (0,) and gradient.shape == (0, 7)


def test_it_is_the_cross_entropy_of_the_regressions(place, generator):
    logits, a, b, labels, weights = rows(6, 63, generator, device=place.device)
    target = weights[:, :1] * a.softmax(1) + weights[:, 1:2] * b.softmax(1)
    target[torch.arange(6), labels] += weights[:, 2]
    losses = CrossEntropy()(logits, target, weights, weights)
    found = soft_cross_entropy(logits, a, b, labels, weights)
    torch.testing.assert_close(found, losses, atol=1e-5, rtol=1e-5)


def test_higher_derivatives_are_the_definitions(place, generator, check_higher_derivatives):
    arguments = rows(7, 63, generator, device=place.device)
    check_higher_derivatives(soft_cross_entropy, soft_cross_entropy_reference, arguments, (0,))


def test_gradients_in_teachers_and_coefficients_are_the_definitions(place, generator, check):
    arguments = rows(7, 63, generator, device=place.device)
    check(soft_cross_entropy, soft_cross_entropy_reference, arguments, (0, 1, 2, 4))


def test_float64_stays_float64(place, generator, wide):
    arguments = wide(rows(7, 63, generator))
    found = soft_cross_entropy(*arguments)
    wanted = soft_cross_entropy_reference(*arguments)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=1e-12)


def test_the_operator_is_a_good_one(place, generator):
    """Its fake, its schema and its autograd, as torch checks them."""
    logits, *rest = rows(7, 63, generator, device=place.device)
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    arguments = (logits.requires_grad_(), *rest, place.mode == "triton")
    torch.library.opcheck(_operator, arguments, test_utils=tests)


def test_it_is_compiled_and_exported_whole(place, generator, check):
    logits, *rest = rows(7, 300, generator, device=place.device)

    class Loss(torch.nn.Module):
        def forward(self, logits):
            return soft_cross_entropy(logits, *rest).sum()

    compiled = torch.compile(Loss(), backend="aot_eager", fullgraph=True)
    check(compiled, Loss(), (logits,), (0,), None, 1e-4)
    exported = torch.export.export(Loss(), (logits,)).module()
    torch.testing.assert_close(exported(logits), Loss()(logits))


@pytest.mark.parametrize("transform", ["jvp", "grad", "vmap"])
def test_transforms_are_the_definitions_also_compiled(transform, place, generator):
    logits, *rest = rows(7, 300, generator, device=place.device)

    def transformed(function):
        if transform == "jvp":
            return torch.func.jvp(lambda z: function(z, *rest), (logits,), (logits,))[1]
        if transform == "grad":
            return torch.func.grad(lambda z: function(z, *rest).sum())(logits)
        both = torch.stack([logits, 2 * logits])
        return torch.func.vmap(lambda z: function(z, *rest))(both)

    wanted = transformed(soft_cross_entropy_reference)
    torch.testing.assert_close(transformed(soft_cross_entropy), wanted)
    compiled = torch.compile(transformed, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(soft_cross_entropy), wanted)


def test_gradients_fit_gradcheck(place, generator, wide):
    logits, a, b, labels, weights = wide(rows(3, 5, generator))
    torch.autograd.gradcheck(
        lambda z: soft_cross_entropy(z, a, b, labels, weights),
        logits.requires_grad_(),
        check_forward_ad=True,
    )


def test_it_refuses_what_does_not_fit(generator):
    logits, a, b, labels, weights = rows(7, 63, generator)
    with pytest.raises(ValueError, match=r"logits must be \(N, V\)"):
        soft_cross_entropy(logits[0], a, b, labels, weights)
    with pytest.raises(ValueError, match=r"teacher_b must be \(7, 63\), got \(7, 62\)"):
        soft_cross_entropy(logits, a, b[:, 1:], labels, weights)
    with pytest.raises(ValueError, match=r"weights must be \(7, 3\)"):
        soft_cross_entropy(logits, a, b, labels, weights[:, :2])
    with pytest.raises(ValueError, match="labels must be whole numbers"):
        soft_cross_entropy(logits, a, b, labels.float(), weights)
    for wrong in (-1, 63):
        with pytest.raises(ValueError, match="labels must be from 0 to 62"):
            soft_cross_entropy(logits, a, b, torch.full_like(labels, wrong), weights)


def test_triton_is_refused_where_it_cannot_run(monkeypatch, generator):
    arguments = rows(7, 63, generator)
    with pytest.raises(ValueError, match="mode must be one of auto, triton, reference"):
        with kernels.use("tritn"):
            pass
    monkeypatch.setattr(backend, "triton", None)
    with kernels.use("triton"), pytest.raises(RuntimeError, match="needs the package triton"):
        soft_cross_entropy(*arguments)
    with kernels.use("auto"):
        assert not backend.runs_triton(arguments[0])
