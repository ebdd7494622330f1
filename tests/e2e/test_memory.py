"""Bytes of the cache in memory, at 16,384 tokens, from the process and from the plug-in's own line.

The process: resident memory from an empty cache to a full one, less what the stock engine's grows by (buffers of the
graph; its f16 cache is in memory from the start). What the plug-in needs while it works counts as cache.
"""

import random

import pytest

from engine import held
from tiny_model import Shape

CONTEXT, SEQUENCES = 16384, 16
SHAPES = {64: Shape(64, layers=8, heads=8, kv_heads=8), 128: Shape(128, layers=8, heads=4, kv_heads=4)}


def numbers_in_cache(shape):
    return CONTEXT * shape.layers * 2 * shape.kv_heads * shape.head_dim


@pytest.fixture(scope="module")
def growth(engine, random_model, tmp_path_factory):
    """growth(head_dim, preset): bytes that a full cache adds to a process, and its log.

    The context is one stream of 16,384 cells, filled by sixteen sequences, each of which attends to itself only: a sixteenth
    of the work of a single one.
    """
    known = {}

    def measure(head_dim, preset):
        if (head_dim, preset) in known:
            return known[head_dim, preset]
        shape = SHAPES[head_dim]
        text = random.Random(1)
        arguments = ["-c", CONTEXT, "-np", SEQUENCES, "-kvu", "-t", 1, "-cram", 0]
        with engine.server(tmp_path_factory.mktemp("memory"), random_model(shape), *arguments, preset=preset) as server:
            before = server.resident_bytes()
            for slot in range(SEQUENCES):
                tokens = CONTEXT // SEQUENCES - 1
                answer = server.complete([text.randrange(256) for _ in range(tokens)], 2, slot=slot)
                assert answer["timings"]["prompt_n"] == tokens
            after = server.resident_bytes()
        known[head_dim, preset] = after - before, server.log
        return known[head_dim, preset]

    return measure


@pytest.mark.parametrize("head_dim, preset, limit", [(64, "k4v4", 4.6), (64, "k3v2", 3.1), (128, "k4v4", 4.45), (128, "k3v2", 2.95)])
def test_bits_per_value(growth, head_dim, preset, limit):
    with_ours, log = growth(head_dim, preset)
    with_f16, _ = growth(head_dim, None)
    numbers = numbers_in_cache(SHAPES[head_dim])
    from_process = 8 * (with_ours - with_f16) / numbers
    from_plugin = held(log)["bits"]
    print(f"head_dim {head_dim}, {preset}: {from_process:.3f} bits per value from the process, {from_plugin} from the plug-in")
    assert held(log)["f16"] == pytest.approx(2 * numbers / 2**20, rel=0.01)
    assert from_plugin <= limit
    assert from_process <= limit
    assert from_process == pytest.approx(from_plugin, abs=0.15)
