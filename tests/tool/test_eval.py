"""turboquant eval: figures of known caches on a tiny text, going on after a stop, and what goes wrong."""

import json
import math
import pathlib
import subprocess
import sys

import pytest

from support import MODEL, PROSE, answer, needs_engine, needs_model, needs_plugin, one_clear_line, texts_and_tips, tool

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIGURES = ["cache", "context", "bits", "kl_mean", "kl_median", "kl_99", "kl_999", "kl_max", "top1", "ppl_ratio", "seconds"]
needs_text = pytest.mark.skipif(not PROSE, reason="needs TQ_TEXT_PROSE")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("eval") / "text.txt"
    path.write_bytes(pathlib.Path(PROSE).read_bytes()[:20000])
    return path


def run_eval(text, *more, **keywords):
    return answer("eval", "-m", MODEL, "-f", text, "-t", 1, "--json", *more, **keywords)


@pytest.fixture(scope="module")
def small(text, tmp_path_factory):
    """The engine's caches at two tiny contexts, with a state file and Markdown."""
    folder = tmp_path_factory.mktemp("eval")
    arguments = ["--cache", "f16,q8_0,q4_0,floor", "--context", "48,96", "--chunks", 2, "--state", folder / "state", "--markdown", folder / "table.md", "--plot", folder / "picture.svg"]
    return folder, arguments, run_eval(text, *arguments)


@needs_model
@needs_text
def test_json_has_every_figure(small):
    _, _, parsed = small
    environment, results = parsed["environment"], parsed["results"]
    assert environment["text"] == "text.txt" and environment["batch"] == 64 and environment["base"] == "f16"
    assert [(r["context"], r["cache"]) for r in results] == [(c, k) for c in (48, 96) for k in ("f16", "q8_0", "q4_0", "floor")]
    for result in results:
        assert set(FIGURES) <= set(result)
        assert all(isinstance(result[key], (int, float)) for key in FIGURES[1:])
        assert result["tokens"] == 2 * (result["context"] // 2 - 1)  # the second half; the last token has no successor
        assert result["kl_median"] <= result["kl_99"] <= result["kl_999"] <= result["kl_max"]
        assert 0 <= result["top1"] <= 1 and result["seconds"] > 0 and result["remark"] == ""
        assert result["bits"] == result["bits_full_attention"] == {"f16": 16, "floor": 16, "q8_0": 8.5, "q4_0": 4.5}[result["cache"]]


@needs_model
@needs_text
def test_the_base_differs_from_itself_in_nothing_and_coarser_caches_differ_more(small):
    _, _, parsed = small
    for context in (48, 96):
        rows = {r["cache"]: r for r in parsed["results"] if r["context"] == context}
        assert [rows["f16"][key] for key in ("kl_mean", "kl_max", "top1", "rms_change", "ppl_ratio")] == [0, 0, 1, 0, 1]
        assert 0 < rows["q8_0"]["kl_mean"] < 0.05 < 2 * rows["q4_0"]["kl_mean"]
        assert 0 < rows["floor"]["kl_mean"] < rows["q4_0"]["kl_mean"]
        for row in rows.values():
            assert row["ppl_ratio"] == pytest.approx(row["ppl"] / rows["f16"]["ppl"], rel=1e-4)
            assert math.isfinite(row["ppl"]) and 1 < row["ppl"] < 500


@needs_model
@needs_text
def test_goes_on_where_it_was_stopped(small, text):
    folder, arguments, whole = small
    state = folder / "state"
    lines = state.read_text().splitlines(keepends=True)
    assert len(lines) == 1 + 2 * 2 * 4  # fingerprint; contexts, chunks, caches
    again = folder / "again"
    again.write_text("".join(lines[:9]) + lines[9][:40])  # stopped while writing
    arguments = [again if argument == state else argument for argument in arguments]
    parsed = run_eval(text, *arguments)
    for result, expected in zip(parsed["results"], whole["results"], strict=True):
        assert {**result, "seconds": 0} == {**expected, "seconds": 0}
    kept = again.read_text().splitlines(keepends=True)
    assert kept[:9] == lines[:9] and len(kept) == len(lines)
    done = tool("eval", "-m", MODEL, "-f", text, "-t", 1, "--json", *arguments)
    assert json.loads(done.stdout)["results"] == parsed["results"]  # nothing is measured a third time
    assert "16 results are taken from" in done.stderr
    assert again.read_text() == "".join(kept)


@needs_model
@needs_text
def test_a_state_of_other_settings_is_refused(small, text):
    folder, _, _ = small
    says = one_clear_line(tool("eval", "-m", MODEL, "-f", text, "--cache", "q8_0", "-b", 32, "--state", folder / "state"), 2)
    assert "another batch size: 64 there, 32 now" in says and "--state" in says


@needs_model
@needs_text
def test_markdown_is_a_table(small):
    folder, _, _ = small
    lines = (folder / "table.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 2 + 8 and len({line.count("|") for line in rows}) == 1
    assert "text.txt" in lines[0] and "batches of 64" in lines[0]


@needs_model
@needs_text
def test_the_picture_has_every_cache_in_every_panel(small):
    folder, _, parsed = small
    texts, tips = texts_and_tips(folder / "picture.svg")
    for context in (48, 96):
        assert any(text.endswith(f", {context} tokens") for text in texts)
    for cache in ("q8_0", "q4_0"):
        assert texts.count(cache) == 2
        shown = [tip for tip in tips if tip.startswith(f"{cache}: ")]
        measured = [r for r in parsed["results"] if r["cache"] == cache]
        for tip, result in zip(shown, measured, strict=True):
            assert f"{result['bits']:.2f} bits" in tip and float(tip.split("mean KL ")[1].split()[0]) == pytest.approx(result["kl_mean"], rel=0.01)
    assert "f16" not in texts and texts.count("floor: f16, rounded otherwise") == 2
    assert "llama.cpp's caches" in texts and "this project's presets" not in texts


@needs_model
@needs_text
def test_the_script_draws_png_and_several_runs(small, tmp_path):
    pytest.importorskip("matplotlib", reason="scripts/requirements/test.txt has it")
    _, _, parsed = small
    broken = json.loads(json.dumps(parsed))
    broken["results"][2]["kl_mean"] = None  # a cache that gave NaN
    for name, content in (("one", parsed), ("two", broken)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    script = [sys.executable, ROOT / "scripts" / "plot_eval.py"]
    done = subprocess.run([*script, tmp_path / "one.json", tmp_path / "two.json", "--output", tmp_path / "picture"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    svg = (tmp_path / "picture.svg").read_text()
    assert svg.startswith("<?xml") and "</svg>" in svg and len(svg) > 10000
    (tmp_path / "bench.json").write_text('{"environment": {}, "results": [{"cache": "f16", "test": "decode"}]}')
    done = subprocess.run([*script, tmp_path / "bench.json", "--output", tmp_path / "no"], capture_output=True, text=True)
    assert done.returncode == 1 and "another command" in done.stderr and not (tmp_path / "no.png").exists()


@needs_plugin
@needs_text
def test_our_caches_and_generation(text):
    parsed = run_eval(text, "--cache", "k4v4,k3v2-plain", "--context", 192, "--chunks", 1, "--generate", 8, "--together", 1)
    rows = {r["cache"]: r for r in parsed["results"]}
    assert list(rows) == ["f16", "k4v4", "k3v2-plain"]
    assert 0 < rows["k4v4"]["kl_mean"] < rows["k3v2-plain"]["kl_mean"] / 3
    assert 2.9 < rows["k3v2-plain"]["bits"] < rows["k4v4"]["bits"]  # so early, most of k4v4 is exact
    assert rows["f16"]["generation"] == {"prompts": 1, "tokens": 8, "first_difference_median": 8, "first_difference_min": 8, "equal_fraction": 1}
    for row in rows.values():
        generation = row["generation"]
        assert 0 <= generation["first_difference_min"] <= 8
        assert generation["equal_fraction"] == pytest.approx(generation["first_difference_median"] / 8)  # one prompt


@needs_model
@needs_text
def test_table(text):
    done = tool("eval", "-m", MODEL, "-f", text, "-t", 1, "--cache", "f16", "--context", 32, "--chunks", 1)
    assert done.returncode == 0, done.stderr
    title, _, row, *_ = done.stdout.splitlines()
    assert title.split()[:4] == ["context", "cache", "bits", "mean"] and row.split()[:3] == ["32", "f16", "16.00"]
    assert "still exact" in done.stderr  # such a context says little


# --- what goes wrong ---


@needs_engine
@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--cache", "k4v7"], "k4v4"),
        (["--context", "8"], "at least 16"),
        (["--context", "64", "--generate", "40"], "at most half"),
        (["-f", "/no/such/text"], "/no/such/text"),
        (["--chunks", "0"], "--chunks"),
        (["--plot", "out.png"], "turboquant eval ... --json > out.json && scripts/plot_eval.py out.json --output out"),
        (["--plot", "out"], "write --plot out.svg"),
        (["--plot", "/no/such/folder/out.svg"], "/no/such/folder"),
    ],
)
def test_usage_errors(tmp_path, arguments, says):
    (tmp_path / "text").write_text("some text")
    given = arguments if "-f" in arguments else ["-f", tmp_path / "text", *arguments]
    assert says in one_clear_line(tool("eval", "-m", "/no/such.gguf", *given), 2)


@needs_engine
def test_missing_model_and_text(tmp_path):
    (tmp_path / "text").write_text("some text")
    assert "/no/such.gguf" in one_clear_line(tool("eval", "-m", "/no/such.gguf", "-f", tmp_path / "text"), 1)
    assert "--file" in one_clear_line(tool("eval", "-m", "/no/such.gguf"), 2)


@needs_model
def test_a_text_that_is_too_short(tmp_path):
    (tmp_path / "text").write_text("Not many words here.")
    says = one_clear_line(tool("eval", "-m", MODEL, "-f", tmp_path / "text", "--context", 64, "--chunks", 2), 2)
    assert "2 chunks of 64 take 128" in says and "--chunks" in says
