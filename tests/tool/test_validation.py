"""`turboquant validate` and `turboquant audit`, and that docs/audit.md is what the program writes.

TQ_TOOL names the binary.
"""

import json
import os
import pathlib
import subprocess

import pytest

TOOL = os.environ.get("TQ_TOOL", "")
ROOT = pathlib.Path(__file__).resolve().parents[2]
GROUPS = ["codebooks", "rotations", "mse", "shipped coder", "prod", "attention", "bytes", "search", "speed"]
VERDICTS = {"holds", "holds only if", "does not hold", "not tested here"}

if not TOOL:
    pytest.skip("TQ_TOOL is not set", allow_module_level=True)


def tool(*arguments):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("TQ_")}
    return subprocess.run([TOOL, *arguments], capture_output=True, text=True, env=clean, timeout=600)


@pytest.fixture(scope="module")
def quick():
    done = tool("validate", "--quick", "--json")
    return done.returncode, json.loads(done.stdout)


def test_every_row_passes(quick):
    code, answer = quick
    assert [row["name"] for row in answer["rows"] if row["pass"] is False] == []
    assert code == 0


def test_rows_have_their_fields(quick):
    _, answer = quick
    assert list(answer) == ["environment", "rows"]
    for row in answer["rows"]:
        assert list(row) == ["group", "name", "paper", "theory", "measured", "low", "high", "pass", "how"]
        assert isinstance(row["measured"], (int, float)) and row["how"]
        judged = row["low"] is not None or row["high"] is not None
        assert row["pass"] is (True if judged else None)
    names = [row["name"] for row in answer["rows"]]
    assert len(set(names)) == len(names)


def test_every_group_is_there_and_is_judged(quick):
    _, answer = quick
    seen = list(dict.fromkeys(row["group"] for row in answer["rows"]))
    assert seen == GROUPS
    informative = {row["group"] for row in answer["rows"] if row["pass"] is None}
    assert {row["group"] for row in answer["rows"] if row["pass"]} == set(GROUPS) - {"speed"} and "speed" in informative


def test_the_papers_widths_and_dimensions_are_there(quick):
    _, answer = quick
    names = {row["name"] for row in answer["rows"]}
    for dim in (64, 128, 256):
        for bits in (1, 2, 3, 4):
            for rule in ("plain", "norm-matched", "least squares", "unbiased"):
                assert f"exact codebook, {rule} scale, d={dim} b={bits}" in names
    for bits in (1, 2, 3, 4):
        assert f"Theorem 2, Gaussian S, d=128 b={bits}" in names
    measured = {row["name"]: row["measured"] for row in answer["rows"]}
    for bits, exact in ((1, 0.3609), (2, 0.1160), (3, 0.0340), (4, 0.00932)):
        assert measured[f"exact codebook, plain scale, d=128 b={bits}"] == pytest.approx(exact, rel=0.03)


def test_the_text_has_a_line_for_each_row(quick):
    done = tool("validate", "--quick")
    assert done.returncode == 0
    for row in quick[1]["rows"]:
        if row["group"] != "search":  # their names carry a figure
            assert row["name"] in done.stdout
    assert "checks passed" in done.stdout


@pytest.fixture(scope="module")
def audit():
    done = tool("audit", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_claims_have_verdicts_and_reasons(audit):
    assert list(audit) == ["environment", "results"]
    claims = audit["results"]
    assert len({claim["id"] for claim in claims}) == len(claims)
    assert {claim["source"] for claim in claims} == {"paper", "original"}
    for claim in claims:
        assert claim["verdict"] in VERDICTS and claim["claim"] and claim["because"]
        assert (claim["measured"] == "-") == (claim["verdict"] == "not tested here")
    assert {claim["verdict"] for claim in claims} == VERDICTS


def test_what_must_come_out(audit):
    verdict = {claim["id"]: claim["verdict"] for claim in audit["results"]}
    for holds in ("theorem-1", "theorem-2", "theorem-3", "centroids", "mse-bias", "value-cosine-4"):
        assert verdict[holds] == "holds", holds
    assert verdict["prod-for-attention"] == "does not hold"
    for conditional in ("compression", "needle", "two-and-a-half-bits", "key-cosine"):
        assert verdict[conditional] == "holds only if", conditional
    assert verdict["speed"] == verdict["longbench"] == "not tested here"


def test_the_page_is_what_the_program_writes():
    done = tool("audit", "--markdown", "-t", "1")
    assert done.returncode == 0
    assert done.stdout == (ROOT / "docs/audit.md").read_text(), "run: turboquant audit --markdown > docs/audit.md"


def test_json_and_markdown_exclude_each_other():
    done = tool("audit", "--json", "--markdown")
    assert done.returncode == 2 and "--markdown" in done.stderr and done.stderr.count("\n") == 1
