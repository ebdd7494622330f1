"""The paper's and the original project's presets on unmodified programs: the same doors as the default's, less precision behind them."""

import pytest

from engine import held, lines_of_ours

PRESETS = ["paper-k3v2", "paper-2.5", "paper-3.5"]


def counting(first, numbers):
    return "".join(f" {number}," for number in range(first, first + numbers))


def others(lines):
    """Without the warnings about layers that would need 8-bit keys, which these presets do not have (test_wide_keys.py)."""
    return [line for line in lines if "has no 8-bit keys to take instead; expect worse output" not in line]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_long_count_goes_on(engine, smollm2, preset, tmp_path):
    """About 500 tokens, of which all but the newest 65 to 128 are codes."""
    prompt = tmp_path / "prompt.txt"
    prompt.write_text(counting(100, 130))
    done = engine.complete(smollm2, prompt, 25, "-c", 1024, preset=preset).ok()
    assert done.text.startswith(" 230, 231, 232, 233,"), done.text
    assert others(done.ours) == []
    assert held(done.log)["packed"] == 60 and held(done.log)["plain"] == 0
    assert held(done.log)["bits"] < 8


@pytest.mark.parametrize("preset", PRESETS)
def test_a_server_saves_restores_and_shifts(engine, smollm2, preset, tmp_path):
    arguments = ["-c", 1024, "-np", 2, "-no-kvu", "-cram", 0, "--slot-save-path", tmp_path, "--context-shift"]
    with engine.server(tmp_path, smollm2, *arguments, preset=preset) as server:
        prompt = counting(400, 100)
        server.complete(prompt, 1, slot=0, cache_prompt=False)
        saved = server.post("/slots/0?action=save", filename="a.bin")
        restored = server.post("/slots/1?action=restore", filename="a.bin")
        assert restored["n_restored"] == saved["n_saved"] >= 300
        there = server.complete(prompt, 16, slot=1)
        assert there["timings"]["prompt_n"] <= 2
        shifted = server.complete(counting(100, 95), 200, n_keep=16, slot=0)
        if preset != "paper-k3v2":  # which loses count on some prompts, after a restore on most: decision 0010
            assert there["content"].startswith(counting(500, 3)), there["content"]
            assert shifted["content"].startswith(counting(195, 3)), shifted["content"]
        assert shifted["tokens_predicted"] == 200
    assert server.log.count("slot context shift") >= 1
    assert others(lines_of_ours(server.log)) == []
    assert held(server.log)["packed"] == 60 and held(server.log)["plain"] == 0
