#!/usr/bin/env python3
"""Checks what built objects define: symbols are an interface, and a trap.

    check_symbols.py BUILD       looks at a build directory; exit code 1 if something is wrong
    check_symbols.py --self-test [--compiler CXX]   shows that each rule can fail

Per-ISA objects (src/cpu/<isa>.cpp) may define their one table and nothing else that a linker can see. An inline function
compiled there with AVX-512 as a weak symbol may be the copy that the linker keeps for everybody, and a processor without
AVX-512 then dies in code that never asked for it.

The plug-in exports the engine's entry points and tq_ggml_*, and is linked to none of the engine's libraries: its ggml
symbols must be those of the program that loads it.
"""
import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PLUGIN = "libggml-turboquant.so"
EXPORTS = re.compile(r"ggml_backend_init|ggml_backend_score|tq_ggml_\w+")
ENGINE_LIBRARY = re.compile(r"lib(ggml|llama)\b.*")


def output_of(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def defined_symbols(path, *options):
    """[(type letter, name)] of what other objects can see."""
    lines = output_of("nm", "--defined-only", "--extern-only", "--demangle", *options, str(path)).splitlines()
    return [tuple(line.split(maxsplit=2)[1:]) for line in lines if len(line.split()) >= 3]


def isa_names(root=ROOT):
    """The per-ISA files: those that include a vocabulary."""
    return sorted(path.stem for path in (root / "src/cpu").glob("*.cpp") if '#include "cpu/isa/' in path.read_text())


def check_isa_object(path):
    symbols = defined_symbols(path)
    for letter, name in symbols:
        if letter in "wWvVu":
            yield f"{path}: weak symbol {name}; everything but the table belongs into an anonymous namespace"
    strong = [(letter, name) for letter, name in symbols if letter not in "wWvVu"]
    table = f"kKernels_{path.name.split('.')[0]}"
    for letter, name in strong:
        if name.split("::")[-1] != table:
            yield f"{path}: defines {name} besides its table {table}"
        elif letter not in "RDB":
            yield f"{path}: {name} is no data"
    if not any(name.split("::")[-1] == table for _, name in strong):
        yield f"{path}: does not define its table {table}"


def check_plugin(path):
    exported = {name for _, name in defined_symbols(path, "--dynamic")}
    for name in sorted(exported):
        if not EXPORTS.fullmatch(name):
            yield f"{path}: exports {name}"
    if "ggml_backend_init" not in exported:
        yield f"{path}: does not export ggml_backend_init"
    for library in re.findall(r"\(NEEDED\).*\[(.*)\]", output_of("readelf", "--dynamic", "--wide", str(path))):
        if ENGINE_LIBRARY.fullmatch(library):
            yield f"{path}: is linked to {library}; its ggml symbols must come from the program that loads it"


def check_build(build, isas):
    objects = [path for isa in isas for path in build.rglob(f"{isa}.cpp.o") if "tq_cpu.dir" in path.as_posix()]
    if not objects:
        yield f"{build}: no object of {', '.join(isas) or 'any ISA'} below it; nothing was checked"
    for path in objects:
        yield from check_isa_object(path)
    for path in build.rglob(PLUGIN):
        yield from check_plugin(path)


ISA_CASES = [  # source of avx2.cpp, what must be said (None: nothing)
    ("namespace tq { extern const int kKernels_avx2; const int kKernels_avx2 = 1; namespace { inline int f() { return 2; } } }", None),
    ("inline int f() { return 1; } extern int (*const kKernels_avx2)(); int (*const kKernels_avx2)() = f;", "weak symbol f()"),
    ("template <class T> T g(T x) { return x; } extern int (*const kKernels_avx2)(int); int (*const kKernels_avx2)(int) = g<int>;", "weak symbol"),
    ("extern const int kKernels_avx2; const int kKernels_avx2 = 1; int helper() { return 2; }", "defines helper()"),
    ("int f() { return 1; }", "does not define its table"),
]
PLUGIN_CASES = [
    ('extern "C" { void ggml_backend_init() {} void tq_ggml_reg() {} }', [], None),
    ('extern "C" void ggml_backend_init() {} void other() {}', [], "exports other()"),
    ('extern "C" void tq_ggml_reg() {}', [], "does not export ggml_backend_init"),
    ('extern "C" void ggml_backend_init() {}', ["libggml-base.so"], "is linked to libggml-base.so"),
]


def self_test(compiler):
    failures = 0

    def judge(what, found, expected):
        nonlocal failures
        found = list(found)
        if (expected is None and found) or (expected and not any(expected in line for line in found)):
            print(f"self-test: {what} gives {found}, not {expected}")
            failures += 1

    with tempfile.TemporaryDirectory() as folder:
        build = pathlib.Path(folder)
        judge("an empty build", check_build(build, ["avx2"]), "nothing was checked")
        objects = build / "src/cpu/CMakeFiles/tq_cpu.dir"
        objects.mkdir(parents=True)

        def compile_to(target, source, *options):
            (build / "source.cpp").write_text(source)
            subprocess.run([compiler, "-O2", "-fPIC", *options, "-o", str(target), str(build / "source.cpp")], check=True)

        for source, expected in ISA_CASES:
            compile_to(objects / "avx2.cpp.o", source, "-c")
            judge(source, check_build(build, ["scalar", "avx2"]), expected)
        compile_to(objects / "avx2.cpp.o", ISA_CASES[0][0], "-c")
        for source, needed, expected in PLUGIN_CASES:
            for library in needed:
                compile_to(build / library, "void unused() {}", "-shared", f"-Wl,-soname,{library}")
            compile_to(build / PLUGIN, source, "-shared", "-Wl,--no-as-needed", *(str(build / library) for library in needed))
            judge(source, check_build(build, ["avx2"]), expected)
    print(f"check_symbols: {len(ISA_CASES) + len(PLUGIN_CASES) + 1} cases judged" if not failures else f"{failures} rules are broken")
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", nargs="?", type=pathlib.Path)
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("--compiler", default="c++", help="for the self-test")
    arguments = parser.parse_args()
    if arguments.self_test:
        return 1 if self_test(arguments.compiler) else 0
    if not arguments.build:
        parser.error("which build directory?")
    found = list(check_build(arguments.build, isa_names()))
    print("\n".join(found) if found else "check_symbols: clean")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
