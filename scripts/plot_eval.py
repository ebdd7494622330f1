#!/usr/bin/env python3
"""Draws what `turboquant eval --json` and `turboquant needle --json` measured, as BASENAME.png and BASENAME.svg: PNGs, and several
runs in one picture. (One run as SVG: --plot of these subcommands, which needs no Python.)

    turboquant eval … --json > smollm2.json
    scripts/plot_eval.py smollm2.json gemma3.json --output picture      # a row of panels for each model

eval: mean KL divergence (logarithmic) over bits per value, one panel for each context length. needle: a heat map for each
cache, right answers by context and depth. All files of one call are of the same kind. Needs matplotlib.
"""

import argparse
import json
import pathlib
import sys

FLOOR = "floor"
ENGINE = {"f16", "f32", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"}  # all others are presets of ours


def read(path):
    try:
        parsed = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        results = parsed["results"]
        kind = "eval" if "kl_mean" in results[0] else "needle" if "depth" in results[0] and "exact" in results[0] else None
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        sys.exit(f"plot_eval.py: {path} is not what turboquant eval or needle prints with --json: {error!r}")
    if kind is None:
        sys.exit(f"plot_eval.py: {path} has the results of another command; turboquant eval or needle with --json makes what this draws")
    return kind, parsed["environment"], results


def model_name(environment):
    return pathlib.Path(str(environment.get("model", "?"))).stem


def draw_eval(plt, files):
    contexts = sorted({result["context"] for _, results in files for result in results})
    figure, grid = plt.subplots(len(files), len(contexts), figsize=(5.5 * len(contexts), 4.2 * len(files)), layout="constrained", squeeze=False)
    for row, (environment, results) in zip(grid, files):
        for axes, context in zip(row, contexts):
            here = [r for r in results if r["context"] == context]
            draw_panel(axes, here)
            axes.set_title(f"{model_name(environment)}, {context:,} tokens", fontsize=10)
    for axes in grid[-1]:
        axes.set_xlabel("bits per value, everything counted")
    for axes in grid[:, 0]:
        axes.set_ylabel("mean KL divergence from f16")
    return figure


def draw_panel(axes, results):
    drawn = [r for r in results if r["kl_mean"] is not None and r["kl_mean"] > 0 and r["bits"] is not None]
    floor = [r for r in drawn if r["cache"] == FLOOR]
    for one in floor:
        axes.axhline(one["kl_mean"], color="#888888", linestyle=":", linewidth=1)
        axes.annotate("floor: f16, rounded otherwise", (0.99, one["kl_mean"]), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=7, color="#666666")
    groups = (
        ("this project's presets", "o", "#1769aa", [r for r in drawn if r["cache"] not in ENGINE and r["cache"] != FLOOR]),
        ("llama.cpp's caches", "s", "#c0561a", [r for r in drawn if r["cache"] in ENGINE]),
    )
    for label, marker, colour, group in groups:
        if not group:
            continue
        group = sorted(group, key=lambda r: r["bits"])
        errors = [r.get("kl_mean_error") or 0 for r in group]
        axes.errorbar([r["bits"] for r in group], [r["kl_mean"] for r in group], errors, fmt=marker, color=colour, label=label, capsize=2, markersize=5)
        for r in group:
            axes.annotate(r["cache"], (r["bits"], r["kl_mean"]), xytext=(5, 4), textcoords="offset points", fontsize=8, color=colour)
    if drawn:
        axes.set_yscale("log")
        axes.margins(0.12)
        axes.grid(True, which="both", linewidth=0.3)
    missing = [r["cache"] for r in results if r["kl_mean"] is None]
    if missing:
        axes.annotate("not finite: " + ", ".join(missing), (0.02, 0.02), xycoords="axes fraction", fontsize=8, color="#a00000")
    if any(group for *_, group in groups):
        axes.legend(fontsize=8)


def draw_needle(plt, files):
    panels = max(len({r["cache"] for r in results}) for _, results in files)
    figure, grid = plt.subplots(len(files), panels, figsize=(1 + 3.2 * panels, 3.4 * len(files)), layout="constrained", squeeze=False)
    for row, (environment, results) in zip(grid, files):
        caches = list(dict.fromkeys(r["cache"] for r in results))
        for axes in row[len(caches) :]:
            axes.set_axis_off()
        contexts, depths = sorted({r["context"] for r in results}), sorted({r["depth"] for r in results})
        for axes, cache in zip(row, caches):
            cells = {(r["depth"], r["context"]): r for r in results if r["cache"] == cache}
            values = [[cells[d, c]["exact"] / cells[d, c]["trials"] if (d, c) in cells else float("nan") for c in contexts] for d in depths]
            axes.imshow(values, vmin=0, vmax=1, cmap="RdYlGn", aspect="auto")
            for y, depth in enumerate(depths):
                for x, context in enumerate(contexts):
                    if (depth, context) in cells:
                        cell = cells[depth, context]
                        nll = "not finite" if cell["nll"] is None else f"{cell['nll']:.2f}"
                        axes.text(x, y, f"{cell['exact']}/{cell['trials']}\n{nll}", ha="center", va="center", fontsize=7)
            axes.set_xticks(range(len(contexts)), [f"{c:,}" for c in contexts])
            axes.set_yticks(range(len(depths)), [f"{d} %" for d in depths])
            axes.set_title(f"{model_name(environment)}: {cache}", fontsize=9)
            axes.set_xlabel("tokens of context")
        row[0].set_ylabel("depth")
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("files", nargs="+", metavar="JSON")
    parser.add_argument("--output", required=True, metavar="BASENAME", help="where to write, without .png and .svg")
    arguments = parser.parse_args()
    parsed = [read(path) for path in arguments.files]
    kinds = {kind for kind, *_ in parsed}
    if len(kinds) > 1:
        sys.exit("plot_eval.py: results of eval and of needle cannot share a picture; draw them one by one")
    try:
        import matplotlib
    except ImportError:
        sys.exit("plot_eval.py: this Python has no matplotlib; scripts/requirements/demo.txt has a version that works")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    draw = {"eval": draw_eval, "needle": draw_needle}[kinds.pop()]
    figure = draw(plt, [(environment, results) for _, environment, results in parsed])
    for suffix in ("png", "svg"):
        path = f"{arguments.output}.{suffix}"
        figure.savefig(path, dpi=144)
        print(path)


if __name__ == "__main__":
    main()
