"""Work of decoding against numbers by hand, and roofs against datasheets."""

from dataclasses import replace

import pytest

from alignflow.roofline import (
    DEVICES,
    Autoregressive,
    Device,
    Estimate,
    FlowMap,
    Speculative,
    Transformer,
    Work,
    attainable,
    least_seconds,
)

SMALL = Transformer(layers=2, width=4, heads=2, kv_heads=1, vocabulary=10, expansion=3.0)
# queries and output 2 x 16, keys and values 2 x 4 x 2, MLP 2 x 3 x 16
BLOCK = 32 + 16 + 96


@pytest.mark.parametrize(("queries", "keys"), [(1, 4096), (128, 128), (1024, 4096)])
def test_attention_alone_has_s_t_over_s_plus_t_flops_a_byte(queries, keys):
    found = Transformer().attention(queries, keys).intensity
    assert found == pytest.approx(keys * queries / (keys + queries))
    if queries == 1:
        assert found == pytest.approx(1, abs=1e-3)


def test_fewer_heads_of_keys_move_fewer_bytes():
    whole, grouped = Transformer(), Transformer(kv_heads=8)
    long = 10**6
    ratio = whole.attention(1, long).bytes / grouped.attention(1, long).bytes
    assert ratio == pytest.approx(4, rel=1e-3)
    assert whole.attention(1, long).flops == grouped.attention(1, long).flops


def test_weights_of_a_block_are_those_of_its_matrices():
    assert SMALL.block_weights == BLOCK
    assert Transformer(layers=1, width=8, heads=2).block_weights == 12 * 64


def test_a_token_is_counted_by_hand():
    parts = Autoregressive().parts(SMALL, context=6, length=1, batch=3)
    # 3 rows; the weights once; the MLP reads and writes 2 x 4 numbers a row
    assert parts["blocks"] == Work(2 * 2 * BLOCK * 3, 2 * 2 * (BLOCK + 3 * 2 * 4))
    # 7 keys of 2 numbers and as many values, query and output of 4, key and value stored
    assert parts["attention"] == Work(3 * 2 * 4 * 7 * 4, 3 * 2 * 2 * (2 * 7 * 2 + 2 * 4 + 2 * 2))
    assert parts["head"] == Work(2 * 40 * 3, 2 * (40 + 2 * 3 * 10))


def test_several_tokens_are_the_sum_of_single_ones():
    several = Autoregressive().parts(SMALL, context=5, length=4, batch=2)
    single = [Autoregressive().parts(SMALL, 5 + k, 1, 2) for k in range(4)]
    for name, work in several.items():
        total = sum((each[name] for each in single), Work())
        assert (work.flops, work.bytes) == pytest.approx((total.flops, total.bytes))


def test_a_flow_map_is_counted_by_hand():
    once = FlowMap(steps=1).parts(SMALL, context=0, length=5, batch=3)
    rows = 3 * 5
    assert once["embedding"] == Work(2 * 40 * rows, 2 * 40)
    assert once["head"].flops == once["embedding"].flops
    assert once["modulation"] == Work(2 * 2 * 6 * 16 * 3, 2 * 2 * 6 * 16)
    assert once["attention"].flops == 3 * 2 * 4 * 5 * 5 * 4
    # the noise written, and read by the embedding
    assert once["state"] == Work(0, 2 * 4 * rows * 10)
    four = FlowMap(steps=4).parts(SMALL, context=0, length=5, batch=3)
    # written once, read by 4 embeddings, read and written by 3 updates
    assert four["state"].bytes == 11 * 4 * rows * 10
    assert four["blocks"] == 4 * once["blocks"]


def test_speculation_that_drafts_for_nothing_and_is_never_right_is_a_block_a_token():
    never = Speculative(block=3, acceptance=0.0, draft=0.0)
    always = Speculative(block=3, acceptance=1.0, draft=0.0)
    assert never.passes(12) == 12 and always.passes(12) == 3
    assert Speculative(block=4, acceptance=0.5).tokens == pytest.approx(1.9375)
    found = never.parts(SMALL, context=5, length=1, batch=2)
    assert found.pop("draft") == Work()
    assert found == SMALL.forward(2, 4, 6 + 1.5)


def test_drafts_cost_their_part_of_a_pass():
    dear = Speculative(block=3, acceptance=0.5, draft=0.25).parts(SMALL, 5, 1, 2)["draft"]
    one = sum(SMALL.forward(2, 1, 6).values(), Work())
    assert dear.flops == pytest.approx(one.flops * 3 * 0.25 / 1.875)


def test_ridges_are_those_of_the_datasheets():
    for name, ridge in {"h100": 295, "a100": 153, "h200": 206, "l4": 403}.items():
        assert DEVICES[name].ridge("bfloat16") == pytest.approx(ridge, abs=1)
    assert all(device.source for device in DEVICES.values())


def test_the_roof_is_the_bandwidth_below_the_ridge_and_the_peak_above():
    device = Device("a device", {"bfloat16": 100.0}, 10.0, "a test")
    below, above = Work(50, 10), Work(200, 10)
    assert attainable(below, device, "bfloat16") == 50
    assert least_seconds(below, device, "bfloat16") == 1
    assert attainable(above, device, "bfloat16") == 100
    assert least_seconds(above, device, "bfloat16") == 2


def test_decoding_a_token_at_a_time_reads_the_weights_for_each():
    """Batch 1 of seven billion weights on an H100: bytes over bandwidth."""
    one = Estimate(Autoregressive(), Transformer(), DEVICES["h100"], length=1)
    weights = 32 * 12 * 4096**2 + 4096 * 32_000
    assert one.seconds == pytest.approx(2 * weights / 3.35e12, rel=1e-3)
    assert one.limit == "memory" and one.work.intensity == pytest.approx(1, abs=0.01)
    many = replace(one, batch=64)
    assert many.work.intensity == pytest.approx(64, rel=0.02)
    assert many.tokens_a_second == pytest.approx(64 * one.tokens_a_second, rel=0.02)


def test_a_flow_map_reads_them_once_for_all_tokens():
    chain = Estimate(Autoregressive(), Transformer(), DEVICES["h100"], length=128)
    plain = Estimate(FlowMap(modulation=0), Transformer(), DEVICES["h100"], length=128)
    assert plain.work.intensity == pytest.approx(128, rel=0.1)
    assert chain.seconds / plain.seconds == pytest.approx(128, rel=0.1)
    modulated = replace(plain, decoder=FlowMap())
    assert modulated.work.bytes / plain.work.bytes == pytest.approx(1.5, rel=0.03)
    many = replace(plain, batch=64)
    assert many.limit == "compute"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Transformer(layers=0), "layers must be a whole number of at least 1, got 0"),
        (lambda: Transformer(heads=3), "heads must divide width"),
        (lambda: Transformer(kv_heads=5), "kv_heads heads, got .*kv_heads=5"),
        (lambda: Transformer(dtype="int4"), "dtype must be one of float32"),
        (lambda: FlowMap(steps=0), "steps must be a whole number"),
        (lambda: Speculative(acceptance=1.5), r"acceptance must be a fraction in \[0, 1\]"),
        (lambda: Estimate(FlowMap(), SMALL, DEVICES["h100"], context=-1), "context must be"),
        (
            lambda: Estimate(FlowMap(), Transformer(dtype="float8"), DEVICES["a100"]),
            "A100 80GB SXM has rates in float32, bfloat16, float16, got float8",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()
