"""turboquant needle: the retrieval test on short texts, and what goes wrong."""

import json
import pathlib
import subprocess
import sys

import pytest

from support import MODEL, answer, needs_engine, needs_model, needs_plugin, one_clear_line, texts_and_tips, tool

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    return tmp_path_factory.mktemp("needle") / "map.svg"


@pytest.fixture(scope="module")
def small(picture):
    asked = ["--cache", "f16,q8_0", "--context", "160,192", "--depth", "0,100", "--trials", 1]
    return answer("needle", "-m", MODEL, "-t", 1, *asked, "--json", "--plot", picture)


@needs_model
def test_json(small):
    assert small["environment"]["text"] == "generated" and small["environment"]["keys"] == 1
    results = small["results"]
    cells = [(c, x, d) for c in ("f16", "q8_0") for x in (160, 192) for d in (0, 100)]
    assert [(r["cache"], r["context"], r["depth"]) for r in results] == cells
    for result in results:
        assert result["trials"] == 1 and result["exact"] in (0, 1)
        assert 0 <= result["probability"] <= 1 and result["nll"] >= 0
        assert result["exact"] or result["probability"] <= 0.5  # greedy decoding finds whatever is more likely than not
        assert result["context"] - 40 < result["prompt_tokens"] < result["context"]
    for base, other in zip(results[:4], results[4:]):
        assert (base["lost"], base["gained"]) == (0, 0)
        assert other["gained"] - other["lost"] == other["exact"] - base["exact"]
        assert other["prompt_tokens"] == base["prompt_tokens"]  # the same question


@needs_model
def test_f16_finds_it_in_a_short_text(small):
    right = [r["exact"] for r in small["results"] if r["cache"] == "f16"]
    assert sum(right) >= 3


@needs_plugin
def test_our_cache_among_other_keys(tmp_path):
    filler = tmp_path / "filler.txt"
    filler.write_text("The river was low. Nobody had seen rain for weeks! A dog slept in the shade. ")
    done = tool("needle", "-m", MODEL, "-t", 1, "--cache", "k4v4", "--context", 192, "--depth", 50, "-n", 1, "--keys", 3, "-f", filler)
    assert done.returncode == 0, done.stderr
    assert "f16: " in done.stdout and "k4v4: " in done.stdout and "50 %" in done.stdout and "\033" not in done.stdout


@needs_model
def test_the_picture_has_a_map_for_each_cache(small, picture):
    texts, _ = texts_and_tips(picture)
    for cache in ("f16", "q8_0"):
        right = sum(r["exact"] for r in small["results"] if r["cache"] == cache)
        assert sum(text.startswith(f"{cache}: {right} of 4 right") for text in texts) == 1
    for title in ("160", "192", "0 %", "100 %", "depth", "tokens of context"):
        assert texts.count(title) == 2
    for result in small["results"]:
        assert f"{result['exact']}/1 {result['nll']:.2f}" in texts


@needs_model
def test_the_script_draws_png(small, tmp_path):
    pytest.importorskip("matplotlib", reason="scripts/requirements/test.txt has it")
    (tmp_path / "needle.json").write_text(json.dumps(small))
    command = [sys.executable, ROOT / "scripts" / "plot_eval.py", tmp_path / "needle.json", "--output", tmp_path / "map"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG") and "</svg>" in (tmp_path / "map.svg").read_text()


@needs_engine
@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--cache", "k4v7"], "k4v4"),
        (["--context", "64"], "at least 128"),
        (["--depth", "101"], "0 to 100"),
        (["--keys", "0"], "--keys 0"),
        (["--trials", "0"], "--trials"),
        (["--plot", "map.png"], "turboquant needle ... --json > map.json && scripts/plot_eval.py map.json --output map"),
    ],
)
def test_usage_errors(arguments, says):
    assert says in one_clear_line(tool("needle", "-m", "/no/such.gguf", *arguments), 2)


@needs_model
def test_no_room_for_the_needles_and_no_filler(tmp_path):
    says = one_clear_line(tool("needle", "-m", MODEL, "--context", 128, "--keys", 16, "--cache", "f16"), 2)
    assert "16 needles" in says and "--context" in says
    (tmp_path / "digits").write_text("1 2 3")
    assert "without digits" in one_clear_line(tool("needle", "-m", MODEL, "-f", tmp_path / "digits", "--cache", "f16"), 2)
