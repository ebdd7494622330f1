"""Quality: short runs of what bench/quality.py measures in full.

Mean KL divergence of the next token's distribution, against the f16 cache. The engine rounds activations to 8 bits, so
that any other order of summation moves the result: its own f16 cache without flash attention has .0036 (SmolLM2), .0058
(Gemma 3) and .0015 (Qwen2.5) at 2,048 tokens, which every figure here contains.
"""

import math

import pytest

import quality
from tiny_model import Shape


@pytest.fixture(scope="module")
def compare(engine, smollm2, gemma3, qwen, prose, tmp_path_factory):
    """compare(model, context, cache): figures. The f16 logits (hundreds of megabytes) of one model at a time are kept."""
    models = {"smollm2": smollm2, "gemma3": gemma3, "qwen": qwen}
    folder = tmp_path_factory.mktemp("quality")
    kept = {}

    def measure(model, context, cache):
        engine_dir = engine.binaries.parents[1]
        perplexity = quality.Perplexity(engine_dir, engine.plugin, models[model], prose, quality.Setting(context=context, chunks=1))
        if (model, context) not in kept:
            for logits in kept.values():
                logits.unlink()
            kept.clear()
            kept[model, context] = perplexity.save_f16_logits(folder / f"{model}-{context}")
        figures = perplexity.compare(cache, kept[model, context])
        print(model, context, cache, figures)
        assert all(math.isfinite(figure) for figure in figures.values())
        return figures

    yield measure
    for logits in kept.values():
        logits.unlink()


@pytest.mark.parametrize(
    "model, cache, limit",
    [
        ("smollm2", "k4v4", 0.0075),
        ("smollm2", "k3v2", 0.0470),  # q4_0's, in full
        ("gemma3", "k4v4", 0.0180),
        ("gemma3", "k3v2", 0.0821),
        ("qwen", "k4v4", 0.03),
        ("qwen", "k3v2", 0.15),
    ],
)
def test_mean_divergence(compare, model, cache, limit):
    figures = compare(model, 1024, cache)
    assert figures["mean_kl"] <= limit
    assert figures["perplexity"] == pytest.approx(figures["perplexity_f16"], rel=0.1)


# At 320 tokens most cells are exact, and what is left is mostly the noise of other rounding (.003 to .006 here). Broken codes give
# more than 1. Keys without reference and balance are lost on Qwen (q4_0: 1.4), which is the point of having both.
LIMITS = dict.fromkeys(["k8v8", "k8v4", "k6v4", "k5v4", "k4v4", "k4v3"], 0.02)
LIMITS |= dict.fromkeys(["k3v3", "k4v2", "k3v2"], 0.04) | {"k2v2": 0.2, "k4v4-plain": 0.2, "k3v2-plain": 1.0, "paper-3.5": 1.0, "paper-k3v2": 1.0, "paper-2.5": 1.0}


@pytest.mark.parametrize("cache", quality.PRESETS)
@pytest.mark.parametrize("model", ["smollm2", "gemma3", "qwen"])
def test_every_preset_gives_sensible_numbers(compare, model, cache):
    figures = compare(model, 320, cache)
    limit = LIMITS[cache] if not (model == "qwen" and (cache.endswith("-plain") or cache.startswith("paper-"))) else math.inf
    assert -1e-4 < figures["mean_kl"] < limit
"""
"""
