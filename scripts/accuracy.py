#!/usr/bin/env python3
"""Writes docs/accuracy.md, and the table between the accuracy marks of README.md, from what `turboquant eval --json` measured: which
preset for what, with the engine's own caches beside it.

    scripts/accuracy.py            write both
    scripts/accuracy.py --check    compare with what is there; exit code 1 when it differs

Reads bench/results/eval-*.json. Nothing on the page is typed by hand but the sentences.
"""

import argparse
import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "accuracy.md"
README = ROOT / "README.md"
MARKS = ("<!-- accuracy -->\n", "<!-- /accuracy -->\n")
SHORT = {"floor": "f16, rounded otherwise", "q8_0": "q8_0", "k4v4": "**k4v4**", "k3v2": "**k3v2**", "k2v2": "**k2v2**", "q4_0": "q4_0"}
SHORT_CONTEXT = 4096
ENGINE = {"q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"}

HEAD = """# Which preset, and what it costs

Written by `scripts/accuracy.py` from `bench/results/eval-*.json`; a test fails when it is not what the program writes today. How
the figures are measured: [eval.md](eval.md). Everything in memory counts as bits: exact first and newest tokens, kept keys, scales,
references. All caches of a table went through the same text in the same run.

**k4v4**, the default, is nearly as close to the f16 cache as llama.cpp's 8-bit cache, and closer on Qwen2.5, at little more than half its
bytes. **k3v2** has less than a quarter of q4_0's divergence at about three quarters of its bytes (counted in layers that attend to
everything), **k2v2**, the smallest, about a third of it; measure it on your model first. On Qwen2.5, whose keys are biased, llama.cpp's
caches below 8 bits are lost, ours are not. One chunk of one kind of text stands behind each table, so that the last digits will be
others on yours.

![Mean KL divergence over bits per value](accuracy.svg)

Drawn from the same files by `scripts/plot_eval.py`.

When not to use any of them: with contexts below about 500 tokens, where most of the cache is still exact and f16 costs next to
nothing; and where every bit of the output has to be what f16 gives. `floor` is what other rounding alone does to the output.
"""


def number(value, digits):
    return "-" if value is None else f"{value:.{digits}f}"


def table(results):
    lines = ["| cache | bits | full layers | mean KL | ± | median | 99.9 % | max | same top | perplexity / f16's |", "|---|---|---|---|---|---|---|---|---|---|"]
    base = [r for r in results if r["cache"] not in ("f16",)]
    for r in sorted(base, key=lambda r: (r["kl_mean"] is None, r["kl_mean"])):
        name = f"*{r['cache']}*" if r["cache"] in ENGINE or r["cache"] == "floor" else r["cache"]
        top = "-" if r["top1"] is None else f"{100 * r['top1']:.1f} %"
        lines.append(
            f"| {name} | {number(r['bits'], 2)} | {number(r.get('bits_full_attention'), 2)} | {number(r['kl_mean'], 4)} | {number(r.get('kl_mean_error'), 4)} | "
            f"{number(r['kl_median'], 4)} | {number(r['kl_999'], 3)} | {number(r['kl_max'], 2)} | {top} | {number(r['ppl_ratio'], 4)} |"
        )
    return lines


def measured():
    """(path, name of the model, results) of each file."""
    for path in sorted((ROOT / "bench" / "results").glob("eval-*.json")):
        parsed = json.loads(path.read_text(encoding="utf-8"))
        yield path, pathlib.Path(parsed["environment"]["model"]).stem, parsed["results"]


def short_table():
    """For the README: mean KL, same top token and bits at one context length."""
    models = {}
    for _, model, results in measured():
        models.setdefault(model, {}).update({r["cache"]: r for r in results if r["context"] == SHORT_CONTEXT})
    lines = [f"| cache | {' | '.join(models)} |", f"|---|{'---|' * len(models)}"]
    for cache, name in SHORT.items():
        cells = []
        for results in models.values():
            r = results.get(cache)
            cells.append("not run" if r is None else f"{r['kl_mean']:.4f} / {100 * r['top1']:.1f} % / {r['bits']:.2f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def page():
    lines = [HEAD.rstrip()]
    for path, model, results in measured():
        for context in sorted({r["context"] for r in results}):
            here = [r for r in results if r["context"] == context]
            tokens = {r["tokens"] for r in here if r.get("tokens")}
            lines += ["", f"## {model}, {context:,} tokens", ""]
            lines.append(f"`bench/results/{path.name}`; {', '.join(f'{t:,}' for t in sorted(tokens))} scored tokens. llama.cpp's own caches in italics.")
            lines += ["", *table(here)]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="compare only")
    check = parser.parse_args().check
    before, after = README.read_text(encoding="utf-8").split(MARKS[0])
    after = after.split(MARKS[1])[1]
    texts = {PAGE: page(), README: before + MARKS[0] + short_table() + MARKS[1] + after}
    stale = [path for path, text in texts.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        name = path.relative_to(ROOT)
        if check:
            print(f"accuracy.py: {name} is not what bench/results makes; run scripts/accuracy.py")
        else:
            path.write_text(texts[path], encoding="utf-8")
            print(f"accuracy.py: {name} written")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
