"""A saved state holds decoded numbers in f16. What of the codes comes back when it is restored, and what it costs: on real models,
tile by tile, from inside the process that runs the engine (state_restore.cpp)."""

import json
import pathlib
import subprocess

import pytest

PRESETS = "k4v4,k3v2,k2v2"
TOKENS = 600  # eight sealed tiles, the tail, and a tile that is not full


@pytest.fixture(scope="module")
def measured(engine, smollm2, gemma3, qwen, prose):
    """measured(model): what tq_state_restore prints, once for each model."""
    program = engine.plugin.parents[2] / "tests" / "tq_state_restore"
    assert program.exists(), f"{program} does not exist; run scripts/test, which builds it"
    models = {"smollm2": (smollm2, 448), "gemma3": (gemma3, 64), "qwen": (qwen, 64)}  # 64: nothing is scored
    known = {}

    def measure(model):
        if model not in known:
            path, following = models[model]
            command = [program, path, prose, PRESETS, TOKENS, following]
            done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=600, env=engine.environment())
            assert done.returncode == 0, done.stderr[-2000:]
            known[model] = json.loads(done.stdout)
            for result in known[model]:
                print(model, result["preset"], *(f"{name} {summary(result, name)}" for name in ("same", "fresh")))
        return known[model]

    return measure


def share(side):
    return side["equal"] / side["codes"]


def summary(result, name):
    one = result[name]
    keys = one["keys"]
    divergence = "" if one["kl"] is None else f"KL {result['kept']['kl']:.5f} -> {one['kl']:.5f}, "
    return (
        f"{divergence}equal codes {share(keys):.4f} / {share(one['values']):.4f}, "
        f"balance {keys['balance_equal']}/{keys['balance_channels']}, kept {keys['kept_before']} -> {keys['kept_after']};"
    )


@pytest.mark.parametrize("model", ["smollm2", "gemma3", "qwen"])
def test_a_context_gets_its_own_codes_back(measured, model):
    """A server's slots, for example: the layers know how their keys are balanced."""
    for result in measured(model):
        keys, values = result["same"]["keys"], result["same"]["values"]
        assert keys["tiles"] > 100 and keys["codes"] > 500_000 and not keys["widths_differ"]
        # No layer by itself has less either, but those that took 8-bit keys: codes so fine that a new reference moves some.
        assert share(keys) >= 0.99, result
        assert keys["least_layer"] >= (0.98 if keys["least_layer_bits"] == 8 else 0.99), result
        assert share(values) >= 0.99 and values["least_layer"] >= 0.99, result
        assert keys["balance_equal"] == keys["balance_channels"] > 0
        # In a tile where more than four rows do not lie on codewords, which ones are kept is decided anew.
        assert abs(keys["kept_after"] - keys["kept_before"]) <= 0.1 * keys["kept_before"] + 4, result


@pytest.mark.parametrize("model", ["smollm2", "gemma3", "qwen"])
def test_a_fresh_context_gets_its_values_back(measured, model):
    """Keys only in part: their balance is decided anew, from what the first queries after the restore show (decision 0008)."""
    for result in measured(model):
        keys, values = result["fresh"]["keys"], result["fresh"]["values"]
        assert share(values) >= 0.99 and values["least_layer"] >= 0.99, result
        assert keys["tiles"] > 100 and keys["balance_equal"] >= 0.8 * keys["balance_channels"], result
        assert 0.25 < share(keys) < 1, result


def test_a_restore_costs_little_quality(measured):
    """The tokens after it, against f16. With the same codes what is left is rounding on another way, some per cent of so few tokens."""
    results = measured("smollm2")
    kept, same, fresh = (sum(result[name]["kl"] for result in results) for name in ("kept", "same", "fresh"))
    assert same <= 1.10 * kept
    assert fresh <= 1.25 * kept
    for result in results:
        assert result["same"]["kl"] <= 1.2 * result["kept"]["kl"], result
