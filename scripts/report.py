"""The report of scripts/demo: python report.py BENCH.json RUN.txt DIR prints a table and writes DIR/index.html.

BENCH.json is what `turboquant bench --json` printed, RUN.txt what `turboquant run --compare` did.
"""

import base64
import html
import io
import json
import re
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the backend is chosen first)

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>turboquant.cpp: what the demo measured</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; color: #222; }}
  table {{ border-collapse: collapse; }}
  th, td {{ padding: .2rem 1rem .2rem 0; text-align: right; border-bottom: 1px solid #ddd; }}
  th:first-child, td:first-child {{ text-align: left; }}
  pre {{ white-space: pre-wrap; background: #f6f6f6; padding: 1rem; }}
  img {{ max-width: 100%; }}
</style>
<h1>One model, several key/value caches</h1>
<p>{model}; {tokens} tokens in the cache; {machine}.</p>
<img alt="Cache size and decoding speed of each cache" src="data:image/png;base64,{plot}">
{table}
<p>Bytes and bits count everything that the cache keeps: codes, scales, references, exact tokens.
Speed is the mean of {repetitions} repetitions, with its standard deviation: a short look, not a benchmark.</p>
<h2>The same prompt</h2>
<pre>{run}</pre>
<h2>Environment</h2>
<pre>{environment}</pre>
</html>
"""


def rows_of(results):
    """One row a cache, at the greatest depth: size, and speed where it was measured."""
    depth = max(one["depth"] for one in results)
    rows = {}
    for one in results:
        if one["depth"] == depth:
            row = rows.setdefault(one["cache"], {"cache": one["cache"]})
            row[one["test"]] = (one["tokens_per_second"], one["stddev"])
            if one["test"] == "decode" or "bytes" not in row:
                row.update(bytes=one["cache_bytes"], bits=one["bits_per_value"], count=len(one.get("samples", [])))
    return depth, list(rows.values())


def cells(rows):
    base = rows[0]
    yield ["cache", "size", f"of {base['cache']}", "bits per value", "decode, tokens/s", "prefill, tokens/s"]
    for row in rows:
        speed = ["%.1f ± %.1f" % row[test] if test in row else "-" for test in ("decode", "prefill")]
        yield [row["cache"], f"{row['bytes'] / 2**20:.1f} MiB", f"{100 * row['bytes'] / base['bytes']:.0f} %", f"{row['bits']:.2f}", *speed]


def plot(rows, depth):
    names = [row["cache"] for row in rows]
    colours = ["#9aa5b1"] * (len(rows) - 1) + ["#1769aa"]
    figure, (size, speed) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
    for axes, values, title, form in (
        (size, [row["bytes"] / 2**20 for row in rows], f"cache at {depth:,} tokens, MiB", "%.1f"),
        (speed, [row.get("decode", (0, 0))[0] for row in rows], f"decoding at {depth:,} tokens, tokens/s", "%.1f"),
    ):
        axes.bar_label(axes.bar(names, values, color=colours), fmt=form, padding=2)
        axes.set_title(title, fontsize=11)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(y=0.15)
    speed.errorbar(names, [row.get("decode", (0, 0))[0] for row in rows], [row.get("decode", (0, 0))[1] for row in rows], fmt="none", ecolor="#333", capsize=4)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=144)
    return image.getvalue()


def main(bench_file, run_file, directory):
    bench = json.loads(Path(bench_file).read_text(encoding="utf-8"))
    run = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", Path(run_file).read_text(encoding="utf-8"))
    environment = bench["environment"]
    depth, rows = rows_of(bench["results"])
    table = list(cells(rows))

    widths = [max(map(len, column)) for column in zip(*table)]
    print(f"With {depth:,} tokens in the cache:")
    for line in table:
        print("  " + "  ".join([line[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(line[1:], widths[1:])]))

    image = plot(rows, depth)
    tag = "th"
    lines = []
    for line in table:
        lines.append("<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in line) + "</tr>")
        tag = "td"
    page = PAGE.format(
        model=html.escape(Path(str(environment.get("model", "?"))).stem),
        machine=html.escape(f"{environment.get('cpu', 'unknown processor')}, {environment.get('threads', '?')} threads"),
        tokens=f"{depth:,}",
        plot=base64.b64encode(image).decode(),
        table="<table>" + "".join(lines) + "</table>",
        repetitions=rows[0]["count"],
        run=html.escape(run.strip()),
        environment=html.escape(json.dumps(environment, indent=2)),
    )
    directory = Path(directory)
    (directory / "plot.png").write_bytes(image)
    (directory / "index.html").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
