"""Quality: short runs of what bench/quality.py measures in full.

Mean KL divergence of the next token's distribution, against the f16 cache. The engine rounds activations to 8 bits, so
that any other order of summation moves the result: its own f16 cache without flash attention has .0036 (SmolLM2), .0058
(Gemma 3) and .0015 (Qwen2.5) at 2,048 tokens, which every figure here contains.
"""

import math

import pytest

import quality


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


MODELS = ["smollm2", "gemma3", "qwen"]

# What was measured (AVX2), by model. A limit is half as much again: another instruction set rounds otherwise.
ROOM = 1.5
AT_1024 = {"k4v4": (0.0045, 0.0074, 0.0026), "k3v2": (0.01, 0.013, 0.0091)}

# At 320 tokens most cells are exact, and what is left is mostly the noise of other rounding (.0015 to .006 here). Keys without
# reference and balance are lost on Qwen (.4 to 4; q4_0: 1.4), which is the point of having both; how lost, says nothing.
AT_320 = {
    "k8v8": (0.0031, 0.0054, 0.0015),
    "k8v4": (0.0034, 0.0058, 0.0015),
    "k6v4": (0.0034, 0.0065, 0.0016),
    "k5v4": (0.0032, 0.0063, 0.0015),
    "k4v4": (0.0034, 0.0060, 0.0016),
    "k4v3": (0.0038, 0.0060, 0.0018),
    "k3v3": (0.0045, 0.0063, 0.0020),
    "k4v2": (0.0052, 0.0064, 0.0022),
    "k3v2": (0.0054, 0.0080, 0.0025),
    "k2v2": (0.0068, 0.0079, 0.0040),
    "k4v4-plain": (0.041, 0.11, math.inf),
    "k3v2-plain": (0.37, 0.52, math.inf),
    "paper-3.5": (0.0090, 0.019, math.inf),
    "paper-k3v2": (0.12, 0.6, math.inf),
    "paper-2.5": (0.027, 0.041, math.inf),
}


@pytest.mark.parametrize("cache", AT_1024)
@pytest.mark.parametrize("model", MODELS)
def test_mean_divergence(compare, model, cache):
    figures = compare(model, 1024, cache)
    assert figures["mean_kl"] <= ROOM * AT_1024[cache][MODELS.index(model)]
    assert figures["perplexity"] == pytest.approx(figures["perplexity_f16"], rel=0.03)


@pytest.mark.parametrize("cache", quality.PRESETS)
@pytest.mark.parametrize("model", MODELS)
def test_every_preset_gives_sensible_numbers(compare, model, cache):
    figures = compare(model, 320, cache)
    assert -1e-4 < figures["mean_kl"] <= ROOM * AT_320[cache][MODELS.index(model)]
