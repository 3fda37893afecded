"""The embedding of a soft token: the definition's value and gradients."""

import pytest
import torch

from alignflow.kernels import soft_embedding
from alignflow.kernels.soft_embedding import _operator, soft_embedding_reference

TOLERANCE = {torch.float32: 5e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}
LEARNED = [(0,), (1,), (0, 1)]


def rows(shape, width, generator, dtype=torch.float32, device="cpu"):
    """Logits and a table."""
    logits = (2 * torch.randn(shape, generator=generator)).to(dtype).to(device)
    return logits, torch.randn(shape[-1], width, generator=generator).to(dtype).to(device)


def skip_interpreted(place):
    if place == ("triton", "cpu"):
        pytest.skip("the interpreter multiplies the bits of bfloat16 as whole numbers")


@pytest.mark.parametrize("learned", LEARNED, ids=str)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(
    ("shape", "width"), [((2, 2), 1), ((7, 7), 5), ((3, 5, 63), 150), ((70, 500), 16)], ids=str
)
def test_means_and_gradients_are_the_definitions(
    shape, width, dtype, learned, place, generator, check
):
    if dtype == torch.bfloat16:
        skip_interpreted(place)
    arguments = rows(shape, width, generator, dtype, place.device)
    upstream = torch.randn(*shape[:-1], width, generator=generator).to(dtype)
    check(soft_embedding, soft_embedding_reference, arguments, learned, upstream, TOLERANCE[dtype])


def test_float32_logits_of_a_16_bit_table(place, generator, check):
    logits, table = rows((7, 500), 16, generator, device=place.device)
    arguments = (logits, table.half())
    check(soft_embedding, soft_embedding_reference, arguments, (0, 1), None, 2e-3)


def test_infinite_and_equal_logits(place, generator, check):
    logits, table = rows((7, 500), 16, generator, torch.float16, place.device)
    logits[:, 3:200] = -torch.inf
    logits[1, 200:] = 5.0
    upstream = torch.randn(7, 16, generator=generator).half()
    _, gradient, _ = check(
        soft_embedding, soft_embedding_reference, (logits, table), (0, 1), upstream, 2e-3
    )
    assert (gradient[:, 3:200] == 0).all()


def test_any_strides(place, generator, check):
    logits, table = rows((7, 63), 16, generator, torch.float16, place.device)
    arguments = (logits[:1].expand(7, 63), table.T.contiguous().T)
    check(soft_embedding, soft_embedding_reference, arguments, (0, 1), None, 2e-3)


def test_no_rows(place):
    table = torch.ones(7, 5, dtype=torch.float16, device=place.device, requires_grad=True)
    result = soft_embedding(torch.zeros(0, 7, dtype=torch.float16, device=place.device), table)
    (gradient,) = torch.autograd.grad(result.sum(), table)
    assert result.shape == (0, 5) and (gradient == 0).all()


@pytest.mark.parametrize("learned", LEARNED, ids=str)
def test_higher_derivatives_are_the_definitions(
    learned, place, generator, check_higher_derivatives
):
    arguments = rows((3, 5, 63), 16, generator, device=place.device)
    check_higher_derivatives(soft_embedding, soft_embedding_reference, arguments, learned, 1e-5)


def test_the_operator_is_a_good_one(place, generator):
    logits, table = rows((7, 63), 16, generator, torch.float16, place.device)
    arguments = (logits.requires_grad_(), table.requires_grad_(), place.mode == "triton")
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(_operator, arguments, test_utils=tests)


def test_it_is_compiled_and_exported_whole(place, generator, check):
    arguments = rows((7, 300), 16, generator, torch.float16, place.device)

    class Embedding(torch.nn.Module):
        def forward(self, logits, table):
            return soft_embedding(logits, table)

    compiled = torch.compile(Embedding(), backend="aot_eager", fullgraph=True)
    check(compiled, soft_embedding_reference, arguments, (0, 1), None, 2e-3)
    exported = torch.export.export(Embedding(), arguments).module()
    torch.testing.assert_close(exported(*arguments), soft_embedding(*arguments))


def test_it_refuses_what_does_not_fit(generator):
    logits, table = rows((7, 63), 16, generator)
    with pytest.raises(ValueError, match=r"logits must be \(..., V\) and table \(V, d\)"):
        soft_embedding(logits, table[1:])
