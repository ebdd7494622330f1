"""What all tests of the tool need: starting it, and what this build of it can do.

TQ_TOOL names the binary. Tests that run a model need TQ_MODEL_SMOLLM2 (the GGUF file) and a tool built with llama.cpp;
those of our caches need the real plug-in, which `turboquant info` reports.
"""

import json
import os
import subprocess
import xml.etree.ElementTree

import pytest

TOOL = os.environ.get("TQ_TOOL", "")
MODEL = os.environ.get("TQ_MODEL_SMOLLM2", "")
PROSE = os.environ.get("TQ_TEXT_PROSE", "")

SVG = "{http://www.w3.org/2000/svg}"

if not TOOL:
    pytest.skip("TQ_TOOL is not set", allow_module_level=True)


def clean_environment():
    return {k: v for k, v in os.environ.items() if not k.startswith("TQ_") and k != "GGML_BACKEND_PATH"}


def tool(*arguments, stdin="", environment=None, timeout=600):
    return subprocess.run([TOOL, *map(str, arguments)], input=stdin, capture_output=True, text=True, env=clean_environment() | (environment or {}), timeout=timeout)


def answer(*arguments, **keywords):
    done = tool(*arguments, **keywords)
    assert done.returncode == 0, done.stderr
    parsed = json.loads(done.stdout)
    assert list(parsed) == ["environment", "results"]
    return parsed


def one_clear_line(done, code):
    """The exit code, nothing on stdout, and exactly one line on stderr, from us."""
    assert done.returncode == code, (done.stdout, done.stderr)
    assert done.stdout == ""
    assert done.stderr.startswith("turboquant: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def texts_and_tips(path):
    """The words of a picture, and what its shapes say under the pointer. Fails where it is not well-formed."""
    root = xml.etree.ElementTree.parse(path).getroot()
    assert root.tag == f"{SVG}svg"
    return [e.text for e in root.iter(f"{SVG}text")], [e.text for shape in root for e in shape.iter(f"{SVG}title") if shape is not e]


INFO = json.loads(tool("info", "--json").stdout)
HAS_ENGINE = INFO["environment"]["engine"] is not None
needs_engine = pytest.mark.skipif(not HAS_ENGINE, reason="a tool without llama.cpp")
needs_model = pytest.mark.skipif(not (HAS_ENGINE and MODEL), reason="needs llama.cpp and TQ_MODEL_SMOLLM2")
needs_plugin = pytest.mark.skipif(not (HAS_ENGINE and MODEL and INFO["environment"]["plugin"]), reason="needs the plug-in and TQ_MODEL_SMOLLM2")
