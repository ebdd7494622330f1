#!/usr/bin/env python3
"""Checks who includes whom (ARCHITECTURE.md), what may be said where, and the length of files.

    check_layers.py [ROOT]       prints every violation; exit code 1 if there is one
    check_layers.py --self-test  shows that each rule can fail

An include in quotes is looked up from src/, include/ or the includer's own folder; which of them, the table says.
"""
import pathlib
import re
import sys
import tempfile

ENGINE = r"(ggml|gguf|llama)[-\w]*\.h"
STD = r"[a-z_0-9]+|(std\w+|math|string|assert|limits)\.h"          # C++ headers have no dot; C's few for C headers
POSIX = r"(unistd|dlfcn|fcntl|sched|pthread|signal|errno|spawn|cpuid)\.h|(sys|linux)/\w+\.h"
INTRINSICS = r"immintrin\.h|x86intrin\.h|[a-z]mmintrin\.h|arm_\w+\.h"
FRAMEWORKS = rf"{ENGINE}|(torch|ATen|c10|nanobind|pybind11|vllm)/.*|(torch|Python)\.h"
LOCAL = "LOCAL"                                                    # a file of the includer's own folder

# The first zone whose pattern matches a file's path judges it: what it may include in quotes, and in angle brackets.
ZONES = [
    # (files, "..." patterns, <...> patterns)
    (r"include/", [r"turboquant/\w+\.h(pp)?"], [STD]),
    (r"src/core/", [r"turboquant/.*", r"core/.*"], [STD]),
    (r"src/cpu/isa/", [r"cpu/isa/\w+\.hpp"], [STD, INTRINSICS]),
    (r"src/cpu/ops/", [], [STD]),
    (r"src/cpu/(scalar|avx\w*|neon\w*|sve\w*)\.cpp", [r"cpu/kernels\.hpp", r"cpu/isa/.*", r"cpu/ops/.*"], [STD, INTRINSICS]),
    (r"src/cpu/kernels\.hpp", [], [STD]),                          # compiled into every per-ISA object: std types only
    (r"src/cpu/", [r"turboquant/.*", r"core/.*", r"cpu/\w+\.hpp"], [STD, POSIX]),
    (r"src/cuda/", [r"turboquant/.*", r"core/.*", r"cuda/.*"], [STD, r"cuda.*", r"cooperative_groups.*", r"mma\.h", r"cub/.*", r"nv/.*"]),
    (r"src/capi/", [r"turboquant/.*", r"capi/.*"], [STD]),
    (r"adapters/ggml/", [LOCAL, r"turboquant/.*", ENGINE], [STD, POSIX]),
    (r"adapters/", [LOCAL, r"turboquant/.*"], [".*"]),
    # validate and audit judge the core, so they look inside it, as tests do.
    (r"tools/turboquant/validation/", [r"validation/.*", r"turboquant/.*", r"core/.*"], [STD, POSIX, r"fmt/.*"]),
    (r"tools/", [LOCAL, r"validation/.*", r"turboquant/.*", r"turboquant_ggml\.h", ENGINE], [STD, POSIX, r"CLI/.*", r"fmt/.*", r"nlohmann/.*"]),
    (r"python/", [LOCAL, r"turboquant/.*"], [".*"]),
]

SOURCES = {".h", ".hpp", ".c", ".cpp", ".inl", ".inc", ".cu", ".cuh"}
MAX_LINES = 500
LENGTH_CHECKED = SOURCES | {".py", ".sh", ".cmake"}
INTRINSIC_USE = re.compile(r"\b(_mm\d*_\w+|__m(128|256|512)\w*|v(ld|st)1q?_\w+|float32x4_t)\b")
METHOD_WORDS = re.compile(r"\b\w*(codebook|rotat|hadamard|paley|tile|head_dim|quant|gain)\w*\b", re.IGNORECASE)
INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)


def strip_comments(text):
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)


def allowed(name, patterns, folder):
    return any((folder / name).is_file() and "/" not in name if p is LOCAL else re.fullmatch(p, name) for p in patterns)


def check_includes(root, path, text):
    relative = path.relative_to(root).as_posix()
    zone = next((zone for zone in ZONES if re.match(zone[0], relative)), None)
    if zone is None:
        return
    _, quoted, angled = zone
    for found in INCLUDE.finditer(text):
        local, system = found.groups()
        name = local or system
        line = text.count("\n", 0, found.start(1 if local else 2)) + 1
        if relative.startswith(("src/", "include/")) and re.fullmatch(FRAMEWORKS, name):
            yield f"{relative}:{line}: {name} is a framework's header; those belong to adapters, python and tools"
        elif re.fullmatch(INTRINSICS, name) and not any(re.fullmatch(p, name) for p in angled):
            yield f"{relative}:{line}: {name} is for src/cpu/isa/ and the per-ISA files"
        elif not allowed(name, quoted if local else angled, path.parent):
            yield f"{relative}:{line}: {zone[0]} may not include {name}"


def check_words(root, path, text):
    relative = path.relative_to(root).as_posix()
    code = strip_comments(text)
    if re.match(r"src/cpu/isa/", relative):
        for found in METHOD_WORDS.finditer(code):
            yield f"{relative}: the vector vocabulary says '{found[0]}'; it must not know what it is used for"
    elif re.match(r"(src/(core|capi|cpu/ops)|include)/", relative) or re.fullmatch(r"src/cpu/\w+\.hpp", relative):
        for found in INTRINSIC_USE.finditer(code):
            yield f"{relative}: {found[0]} is an intrinsic; those belong to src/cpu/isa/"


def check_length(root, path, text):
    """Long files say why in their first comment, with the words 'over 500 lines'."""
    lines = text.count("\n")
    if lines > MAX_LINES and f"over {MAX_LINES} lines" not in "\n".join(text.splitlines()[:20]).lower():
        yield f"{path.relative_to(root)}: {lines} lines; more than {MAX_LINES} need a reason in the first comment (\"over {MAX_LINES} lines: ...\")"


def violations(root):
    for top in ("include", "src", "adapters", "tools", "python", "tests", "bench", "scripts", "cmake", "examples"):
        for path in sorted((root / top).rglob("*")):
            if not path.is_file() or "__pycache__" in path.parts:
                continue
            script = path.suffix == "" and top == "scripts"
            if path.suffix not in LENGTH_CHECKED and not script:
                continue
            text = path.read_text(encoding="utf-8")
            yield from check_length(root, path, text)
            if path.suffix in SOURCES:
                yield from check_includes(root, path, text)
                yield from check_words(root, path, text)


GOOD = {
    "include/turboquant/spec.hpp": "#include <cstdint>\n#include \"turboquant/status.hpp\"\n",
    "src/core/half.hpp": "#include <bit>\n",
    "src/cpu/isa/avx2.hpp": "#include <immintrin.h>\n// a comment may say codebook\n",
    "src/cpu/isa/avxvnni.hpp": "#include \"cpu/isa/avx2.hpp\"\n",
    "src/cpu/avx2.cpp": "#include \"cpu/kernels.hpp\"\n#include \"cpu/isa/avx2.hpp\"\n#include \"cpu/ops/encode.inl\"\n",
    "src/cpu/dispatch.cpp": "#include \"cpu/kernels.hpp\"\n#include \"core/half.hpp\"\n#include \"turboquant/spec.hpp\"\n",
    "adapters/ggml/device.cpp": "#include \"device.hpp\"\n#include \"turboquant/spec.hpp\"\n#include \"ggml-backend-impl.h\"\n",
    "adapters/ggml/device.hpp": "",
    "tools/turboquant/main.cpp": "#include <CLI/CLI.hpp>\n#include \"turboquant_ggml.h\"\n#include \"llama.h\"\n",
    "tools/turboquant/validation/rows.cpp": "#include <fmt/format.h>\n#include \"core/half.hpp\"\n#include \"turboquant/spec.hpp\"\n",
    "scripts/long.py": "# Over 500 lines: a table.\n" + "x\n" * 600,
}
BAD = [
    ("include/turboquant/x.hpp", '#include "core/half.hpp"\n', "may not include"),
    ("include/turboquant/x.hpp", "#include <ggml.h>\n", "framework"),
    ("src/core/x.cpp", '#include "cpu/kernels.hpp"\n', "may not include"),
    ("src/core/x.cpp", "#include <sys/mman.h>\n", "may not include"),
    ("src/core/x.cpp", "#include <immintrin.h>\n", "per-ISA"),
    ("src/core/x.cpp", "float f() { return _mm_cvtss_f32(x); }\n", "intrinsic"),
    ("src/cpu/x.cpp", "#include <immintrin.h>\n", "per-ISA"),
    ("src/cpu/x.cpp", '#include "cuda/encode/launch.hpp"\n', "may not include"),
    ("src/cpu/x.cpp", '#include "cpu/isa/avx2.hpp"\n', "may not include"),
    ("src/cpu/avx2.cpp", '#include "core/half.hpp"\n', "may not include"),
    ("src/cpu/ops/x.inl", "F f = _mm256_setzero_ps();\n", "intrinsic"),
    ("src/cpu/isa/x.hpp", '#include "cpu/kernels.hpp"\n', "may not include"),
    ("src/cpu/isa/x.hpp", "void unpack_tile();\n", "unpack_tile"),
    ("src/cuda/x.cu", '#include "cpu/kernels.hpp"\n', "may not include"),
    ("src/capi/x.cpp", '#include "core/spec.hpp"\n', "may not include"),
    ("src/capi/x.cpp", "#include <torch/torch.h>\n", "framework"),
    ("adapters/ggml/x.cpp", '#include "core/half.hpp"\n', "may not include"),
    ("adapters/ggml/x.cpp", '#include "../../src/core/half.hpp"\n', "may not include"),
    ("adapters/ggml/x.cpp", '#include "missing.hpp"\n', "may not include"),
    ("tools/turboquant/x.cpp", '#include "cpu/kernels.hpp"\n', "may not include"),
    ("tools/turboquant/x.cpp", '#include "core/half.hpp"\n', "may not include"),
    ("tools/turboquant/validation/x.cpp", '#include "cpu/kernels.hpp"\n', "may not include"),
    ("tests/unit/x.cpp", "x\n" * 501, "501 lines"),
]


def self_test():
    failures = 0
    for path, text, expected in [(None, None, None), *BAD]:
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for name, content in {**GOOD, **({path: text} if path else {})}.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(content)
            found = list(violations(root))
        right = len(found) == 1 and found[0].startswith(path) and expected in found[0] if path else not found
        if not right:
            print(f"self-test: {path or 'the good tree'} gives {found}")
            failures += 1
    print(f"check_layers: {len(BAD)} rules can fail" if not failures else f"{failures} rules are broken")
    return failures


def main():
    if "--self-test" in sys.argv[1:]:
        return 1 if self_test() else 0
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent.parent).resolve()
    found = list(violations(root))
    print("\n".join(found) if found else "check_layers: no violations")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
