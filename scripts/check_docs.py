#!/usr/bin/env python3
"""Checks that what the Markdown files name exists: paths, links, commands, options, variables, presets.

    check_docs.py [--tool TURBOQUANT] [ROOT]   exit code 1 if something named does not exist
    check_docs.py --self-test                  shows that each rule can fail

In text: links, and paths, presets and commands in backticks. In fenced blocks without a language or with a shell's:
commands. With --tool, options of `turboquant SUBCOMMAND` are looked up in its --help. <words in angle brackets> and * stand
for anything.
"""
import argparse
import functools
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

TOPS = {"adapters", "bench", "cmake", "docs", "examples", "include", "python", "scripts", "src", "tests", "tools", ".ci"}
INCLUDE_TOPS = {"core", "cpu", "cuda", "capi", "turboquant"}  # as #include writes them: below src/ or include/
FILE_NAME = re.compile(r"[\w.-]+\.(c|cpp|cu|cuh|h|hpp|inc|inl|py|md|cmake|sh)")
ENGINE_FILE = re.compile(r"(ggml|gguf|llama)[-\w]*\.(h|c|cpp)")
SHELLS = {"", "sh", "bash", "shell", "console"}
HEADS = ("turboquant ", "build/", "scripts/", "./scripts/", "ctest", "cmake --", "TQ_")
UNLISTED_OPTIONS = {"-ub"}  # llama.cpp's spelling, which CLI11 cannot declare


def markdown_files(root):
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if f == ".ci" or not f.startswith((".", "build", "__")))
        yield from (pathlib.Path(folder) / name for name in sorted(files) if name.endswith(".md"))


class Tree:
    """What exists below a root."""

    def __init__(self, root, tool=None):
        self.root, self.tool = root, tool
        self.names, self.variables = set(), set()
        for top in sorted(TOPS) + ["."]:
            pattern = "*" if top == "." else "**/*"
            for path in (root / top).glob(pattern):
                self.names.add(path.name)
                if path.is_file() and path.suffix != ".md" and path.stat().st_size < 2**20:
                    self.variables |= set(re.findall(r"\bTQ_[A-Z][A-Z0-9_]*\b", path.read_text(errors="ignore")))
        presets = root / "CMakePresets.json"
        self.build_presets = {p["name"] for p in json.loads(presets.read_text())["configurePresets"]} if presets.exists() else set()
        table = root / "src/core/presets.cpp"
        self.cache_presets = set(re.findall(r'\{"([\w.-]+)", "[^"]*", \w+_spec\(', table.read_text())) if table.exists() else set()

    def has(self, name, folder):
        name = re.sub(r"<[^>]*>", "*", name).rstrip("/")
        alternatives = [name]
        while any("{" in a for a in alternatives):
            a = next(a for a in alternatives if "{" in a)
            alternatives.remove(a)
            before, inside, after = re.fullmatch(r"(.*?)\{([^{}]*)\}(.*)", a).groups()
            alternatives += [before + choice + after for choice in inside.split(",")]
        bases = [self.root, folder]
        if name.split("/")[0] in INCLUDE_TOPS:
            bases += [self.root / "src", self.root / "include", self.root / "tools"]
        return all(any(True for base in bases for _ in base.glob(a)) for a in alternatives)

    @functools.lru_cache
    def options(self, subcommand):
        """Options of a subcommand, or None when this build of the tool does not have it."""
        done = subprocess.run([self.tool, subcommand, "--help"], capture_output=True, text=True)
        if done.returncode != 0 or "not in this build" in done.stdout:
            return None
        return set(re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", done.stdout)) | UNLISTED_OPTIONS

    @functools.lru_cache
    def subcommands(self):
        return set(re.findall(r"^  ([a-z]+) ", subprocess.run([self.tool, "--help"], capture_output=True, text=True).stdout, re.MULTILINE))


def looks_like_path(text):
    if not re.fullmatch(r"[\w.*<>{},+/ -]+", text) or " " in re.sub(r"<[^>]*>", "", text):
        return False
    first, slash, _ = text.partition("/")
    return first in TOPS | INCLUDE_TOPS if slash else bool(FILE_NAME.fullmatch(text)) and not ENGINE_FILE.fullmatch(text)


def check_path(tree, name, folder):
    if "/" not in name.rstrip("/"):
        if name.rstrip("/") not in tree.names:
            yield f"no file is called {name}"
    elif not tree.has(name, folder):
        yield f"{name} does not exist"


def check_command(tree, line, folder):
    try:
        tokens = shlex.split(line, comments=True)
    except ValueError:
        tokens = line.split()
    command = []
    for token in [*tokens, ";"]:
        if token in ("|", "||", "&&", ";", "&"):
            yield from check_simple_command(tree, command, folder)
            command = []
        else:
            command.append(token)


def check_simple_command(tree, tokens, folder):
    while tokens and (re.match(r"\w+=", tokens[0]) or tokens[0] in ("sudo", "time", "env")):
        tokens = tokens[1:]
    if not tokens:
        return
    for token in tokens:
        path = token.removeprefix("./").rstrip(",;:")
        if path.split("/")[0] in TOPS and "/" in path and not re.search(r"[$<>*]", path) and not tree.has(path, folder):
            yield f"{path} does not exist"
    program = tokens[0].split("/")[-1]
    if program == "turboquant":
        yield from check_tool(tree, tokens[1:])
    if program in ("cmake", "ctest") and "--preset" in tokens[:-1]:
        preset = tokens[tokens.index("--preset") + 1]
        if preset not in tree.build_presets:
            yield f"no CMake preset is called {preset}"
    if program == "ctest" and "-L" in tokens[:-1]:
        label = tokens[tokens.index("-L") + 1]
        if not (tree.root / "tests" / label).is_dir():
            yield f"no test is labelled {label}"


def check_tool(tree, arguments):
    if not tree.tool or not arguments or not re.fullmatch(r"[a-z]+", arguments[0]):
        return
    subcommand = arguments[0]
    if subcommand not in tree.subcommands():
        yield f"turboquant has no subcommand {subcommand}"
        return
    known = tree.options(subcommand)
    if known is None:
        return
    for argument in arguments[1:]:
        if argument == "--":  # the rest is another program's
            return
        option = argument.split("=")[0]
        if re.match(r"--?[A-Za-z]", option) and option not in known:
            yield f"turboquant {subcommand} has no option {option}"


def slug(heading):
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def headings(path):
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    return {slug(h) for h in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


def check_link(path, target):
    target, _, anchor = target.strip("<>").partition("#")
    if re.match(r"[a-z]+:", target):
        return
    file = path.parent / target if target else path
    if not file.exists():
        yield f"the link {target} leads nowhere"
    elif anchor and file.suffix == ".md" and anchor not in headings(file):
        yield f"{target or 'this page'} has no heading #{anchor}"


def check_span(tree, span, folder):
    if looks_like_path(span):
        yield from check_path(tree, span, folder)
    elif span.startswith(HEADS):
        yield from check_command(tree, span, folder)
    elif re.fullmatch(r"k\dv\d[\w-]*", span) and span not in tree.cache_presets:
        yield f"no preset is called {span}"


def check_file(tree, path):
    fence, language, pending = False, "", ""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        found = []
        for variable in re.findall(r"\bTQ_[A-Z][A-Z0-9_]*\b", line):
            if variable not in tree.variables:
                found.append(f"nothing reads or sets {variable}")
        if line.lstrip().startswith("```"):
            fence, language, pending = not fence, line.strip("` \t"), ""
        elif fence and language in SHELLS:
            pending += line.strip().removeprefix("$ ")
            if pending.endswith("\\"):
                pending = pending[:-1]
                continue
            found += check_command(tree, pending, path.parent)
            pending = ""
        elif not fence:
            for span in re.findall(r"`([^`]+)`", line):
                found += check_span(tree, span, path.parent)
            for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "``", line)):
                found += check_link(path, target)
        for message in dict.fromkeys(found):
            yield f"{path.relative_to(tree.root)}:{number}: {message}"


def violations(root, tool=None):
    files = list(markdown_files(root))
    if root / "README.md" not in files:
        yield "README.md is missing: nothing was checked"
    tree = Tree(root, tool)
    for path in files:
        yield from check_file(tree, path)


GOOD = """# A page
[here](#a-page), [docs](docs/format.md#the-tiles), [out](https://example.org/x). `src/core/half.hpp`, `core/half.hpp`, `half.hpp`,
`src/<place>/*.hpp`, `src/core/{half.hpp,presets.cpp}`, `llama.h`, `ggml/src/ggml.c`, `k4v4`, `TQ_PRESET`, `scripts/test`, `a / b`
```sh
$ scripts/test --fast  # a comment
TQ_PRESET=k4v4 build/turboquant run --json \\
    -m model.gguf && turboquant exec --json -- llama-server --whatever
cmake --preset dev && ctest --preset dev -L unit
```
```cpp
#include "core/nothing.hpp"
```
"""
TREE = {"README.md": GOOD, "docs/format.md": "## The tiles\n", "src/core/half.hpp": "", "src/core/presets.cpp": '{"k4v4", "the default", preset_spec(4, 4)}', "scripts/test": "",
        "tests/unit/x.cpp": 'getenv("TQ_PRESET")', "CMakePresets.json": '{"configurePresets": [{"name": "dev"}]}'}
BAD = [("`src/core/nothing.hpp`", "does not exist"), ("`core/nothing.hpp`", "does not exist"), ("`nothing.hpp`", "no file is called"),
       ("`src/core/{half.hpp,nothing.hpp}`", "does not exist"), ("[x](docs/nothing.md)", "leads nowhere"), ("[x](docs/format.md#nothing)", "no heading"),
       ("[x](#nothing)", "no heading"), ("`k9v9`", "no preset"), ("`TQ_NOTHING`", "nothing reads"), ("`turboquant run --nothing`", "no option --nothing"),
       ("```\nscripts/nothing\n```", "does not exist"), ("```sh\n$ build/turboquant nothing\n```", "no subcommand"),
       ("```\nTQ_PRESET=k4v4 build/turboquant run \\\n --nothing\n```", "no option"), ("```\nctest -L nothing\n```", "no test is labelled"),
       ("```\ncmake --preset nothing\n```", "no CMake preset")]
TOOL = """#!/bin/sh
[ "$1" = --help ] && printf '  run  x\\n  exec  x\\n' && exit
echo '  -h,--help  -m,--model TEXT  --json'
"""


def self_test():
    failures = 0
    for text, expected in [("", None), *BAD]:
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for name, content in {**TREE, "README.md": GOOD + text + "\n", "bin/turboquant": TOOL}.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(content)
            (root / "bin/turboquant").chmod(0o755)
            found = list(violations(root, str(root / "bin/turboquant")))
        if len(found) != (expected is not None) or (expected and expected not in found[0]):
            print(f"self-test: {text!r} gives {found}, not {expected}")
            failures += 1
    print(f"check_docs: {len(BAD)} rules can fail" if not failures else f"{failures} rules are broken")
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", nargs="?", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent)
    parser.add_argument("--tool", default=os.environ.get("TQ_TOOL") or None, help="the built command line tool")
    parser.add_argument("--self-test", action="store_true")
    arguments = parser.parse_args()
    if arguments.self_test:
        return 1 if self_test() else 0
    if arguments.tool and not os.access(arguments.tool, os.X_OK):
        parser.error(f"there is no program {arguments.tool}; build it first")
    found = list(violations(arguments.root.resolve(), arguments.tool))
    print("\n".join(found) if found else "check_docs: everything named exists")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
