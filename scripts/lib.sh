# shellcheck shell=bash
# What the scripts of this folder share: messages, packages, the cache, Python. Sourced, never run.
#
# Rules they all keep: only results go to stdout, everything else to stderr; whatever is downloaded has a pinned
# version and hash; a thing in the cache is either whole or not there (built under another name, then renamed, or
# finished with a stamp), and a lock keeps two runs from making it at once.

set -euo pipefail
shopt -s inherit_errexit # without it, a failing command inside $(...) is ignored

TQ_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
export HOME="${HOME:-$(cd ~ && pwd)}" # a service may run without it
TQ_CACHE="${TQ_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/turboquant}"

# ---- messages ------------------------------------------------------------------------------------------------------

if [[ -t 2 && -z ${NO_COLOR:-} ]]; then
  _bold=$'\e[1m' _yellow=$'\e[33m' _red=$'\e[31m' _plain=$'\e[0m'
else
  _bold='' _yellow='' _red='' _plain=''
fi

say() { printf '%s==>%s %s\n' "$_bold" "$_plain" "$*" >&2; }
warn() { printf '%swarning:%s %s\n' "$_yellow" "$_plain" "$*" >&2; }
die() {
  printf '%serror:%s %s\n' "$_red" "$_plain" "$*" >&2
  exit 1
}

# usage FILE: prints the comment at the top of a script, which is its help text.
usage() { sed -n '2,/^$/{s/^# \{0,1\}//p;}' "$1"; }

# logged LOG COMMAND...: runs quietly; when it fails, shows the end of what it said.
logged() {
  local log="$1"
  shift
  if ! "$@" >>"$log" 2>&1; then
    tail -n 40 "$log" >&2
    die "this failed: $* (whole log: $log)"
  fi
}

# build_progress LOG: reads a build's output, keeps it in LOG, shows "[done/total]" lines: one line that changes on a
# terminal, one for each tenth elsewhere.
build_progress() {
  local log="$1" line tenth last=-1
  : >"$log"
  while IFS= read -r line; do
    printf '%s\n' "$line" >>"$log"
    [[ $line =~ ^\[([0-9]+)/([0-9]+)\] ]] || continue
    if [[ -t 2 ]]; then
      printf '\r\e[K    %.100s' "$line" >&2
    else
      tenth=$((BASH_REMATCH[1] * 10 / BASH_REMATCH[2]))
      ((tenth == last)) || printf '    %s of %s\n' "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}" >&2
      last=$tenth
    fi
  done
  [[ ! -t 2 ]] || printf '\r\e[K' >&2
}

# build_with_ninja DIR LOG TARGET...: no target: all.
build_with_ninja() {
  local dir="$1" log="$2"
  shift 2
  # Not through a terminal, ninja prints one line per step, which is what build_progress reads.
  if ! NINJA_STATUS='[%f/%t] ' ninja -C "$dir" -j "$(jobs_here)" "$@" 2>&1 | build_progress "$log"; then
    tail -n 50 "$log" >&2
    die "the build in $dir failed; whole log: $log"
  fi
}

# configure_project PRESET [OPTION...]: only where that has not been done yet, or was for another engine or with other
# options than those given here; changed files are ninja's business.
configure_project() {
  local dir=build engine='' options=''
  [[ $1 == dev ]] || dir="build-$1"
  mkdir -p "$dir"
  { read -r engine && read -r options; } 2>/dev/null <"$dir/.configured-with" || true
  if [[ ! -e $dir/build.ninja || $engine != "${TQ_ENGINE_DIR:-}" ]] || { (($# > 1)) && [[ $options != "${*:2}" ]]; }; then
    : >"$dir/configure.log"
    logged "$dir/configure.log" cmake --preset "$@"
    printf '%s\n' "${TQ_ENGINE_DIR:-}" "${*:2}" >"$dir/.configured-with"
  fi
}

# ---- the machine ---------------------------------------------------------------------------------------------------

# How many compilers may run at once: one per core, and 1.5 GB of memory for each.
jobs_here() {
  local cores by_memory
  cores="$(nproc)"
  by_memory="$(awk '/^MemAvailable:/ { print int($2 / 1572864) }' /proc/meminfo)"
  ((by_memory >= 1)) || by_memory=1
  printf '%s\n' "${TQ_JOBS:-$((cores < by_memory ? cores : by_memory))}"
}

# cpu_has FLAG: as /proc/cpuinfo spells it ("flags" on x86, "Features" on Arm).
cpu_has() { grep -m 1 -E '^(flags|Features)' /proc/cpuinfo | grep -qw -- "$1"; }

# Threads that wait for each other at every step all wait for the one that another program has pushed off its core.
warn_if_busy() {
  local before after
  before="$(awk '/^cpu / { print $2 + $3 + $4, $5 }' /proc/stat)"
  sleep 0.5
  after="$(awk '/^cpu / { print $2 + $3 + $4, $5 }' /proc/stat)"
  if awk -v before="$before" -v after="$after" 'BEGIN {
      split(before, a); split(after, b); busy = b[1] - a[1]; exit !(busy > 0.2 * (busy + b[2] - a[2])) }'; then
    warn "other programs are busy on this machine: speeds will come out far too low"
  fi
}

# ---- packages ------------------------------------------------------------------------------------------------------

has_header() { printf '#if !__has_include(<%s>)\n#error\n#endif\n' "$1" | c++ -E -x c++ -std=c++17 - >/dev/null 2>&1; }

# Whether a Debian package, or the same thing from elsewhere, is there.
has_package() {
  case "$1" in
    g++) command -v c++ >/dev/null ;;
    cmake) command -v cmake >/dev/null && printf '3.25\n%s\n' "$(cmake --version | awk 'NR == 1 { print $3 }')" | sort -CV ;;
    git | debootstrap) command -v "$1" >/dev/null ;;
    ninja-build) command -v ninja >/dev/null ;;
    g++-aarch64-linux-gnu) command -v aarch64-linux-gnu-g++ >/dev/null ;;
    qemu-user) command -v qemu-aarch64 >/dev/null ;;
    googletest) [[ -e /usr/src/googletest/CMakeLists.txt ]] ;;
    python3-venv) python3 -c 'import ensurepip, venv' 2>/dev/null ;;
    libgtest-dev) has_header gtest/gtest.h ;;
    libbenchmark-dev) has_header benchmark/benchmark.h ;;
    librapidcheck-dev) has_header rapidcheck.h ;;
    libcli11-dev) has_header CLI/CLI.hpp ;;
    libfmt-dev) has_header fmt/core.h ;;
    nlohmann-json3-dev) has_header nlohmann/json.hpp ;;
    *) [[ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" == installed ]] ;;
  esac
}

# need_packages NAME...: installs what is missing, as root or with sudo, or says what to install.
need_packages() {
  local name missing=() as_root=()
  for name in "$@"; do
    has_package "$name" || missing+=("$name")
  done
  ((${#missing[@]})) || return 0

  if ((EUID != 0)); then as_root=(sudo -n); fi
  if ! command -v apt-get >/dev/null || { ((EUID != 0)) && ! sudo -n true 2>/dev/null; }; then
    die "these packages are missing, and this user may not install them: ${missing[*]}
       On Debian or Ubuntu, an administrator installs them with
           apt-get install ${missing[*]}
       Elsewhere, install the same compiler, tools and libraries under their names there. Then start again."
  fi

  say "installing packages: ${missing[*]}"
  local log
  log="$(mktemp)"
  # A source that cannot be reached is no reason to stop: the packages may come from another one, or from old lists.
  "${as_root[@]}" apt-get -q -o DPkg::Lock::Timeout=300 update >>"$log" 2>&1 || warn "apt-get update reported a problem (log: $log)"
  logged "$log" "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 install "${missing[@]}"
  hash -r
  for name in "${missing[@]}"; do
    has_package "$name" || die "apt-get installed $name, but what it should bring is still not found, or too old (log: $log)"
  done
  rm -f "$log"
}

# What compiling the project takes, tests included, so that demo and test share one build directory.
# shellcheck disable=SC2034 # used by the scripts that source this
TQ_BUILD_PACKAGES=(g++ cmake ninja-build libgtest-dev libbenchmark-dev librapidcheck-dev libcli11-dev libfmt-dev nlohmann-json3-dev)

# ---- the cache -----------------------------------------------------------------------------------------------------

# lock NAME: waits until no other run holds NAME. Held until the (sub)shell that called it ends; so call it in ( ).
lock() {
  local fd
  mkdir -p "$TQ_CACHE/locks"
  exec {fd}>"$TQ_CACHE/locks/$1"
  if ! flock -n "$fd"; then
    say "waiting for another run that is preparing $1"
    flock "$fd"
  fi
}

# work_dir: an empty folder on the cache's own disk, so that renaming into place is atomic. The caller removes it.
work_dir() {
  mkdir -p "$TQ_CACHE/tmp"
  find "$TQ_CACHE/tmp" -mindepth 1 -maxdepth 1 -mtime +1 -exec rm -rf {} + # left by runs that were killed
  mktemp -d "$TQ_CACHE/tmp/XXXXXXXX"
}

sha256_of() { sha256sum "$1" | cut -d ' ' -f 1; }

check_sha256() {
  local got
  got="$(sha256_of "$1")"
  [[ $got == "$2" ]] || die "$(basename "$1") is not the file that was expected: sha256 $got instead of $2"
}

# ---- Python --------------------------------------------------------------------------------------------------------

# venv NAME: prints the virtual environment that holds exactly scripts/requirements/NAME.txt, made when needed.
venv() (
  need_packages python3-venv >&2
  requirements="$TQ_ROOT/scripts/requirements/$1.txt"
  version="$(python3 -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])')"
  dir="$TQ_CACHE/venv/$1-py$version-$(sha256_of "$requirements" | cut -c 1-8)"
  if [[ ! -e $dir/.complete || ! -x $dir/bin/python ]]; then
    lock "venv-$1"
  fi
  if [[ ! -e $dir/.complete || ! -x $dir/bin/python ]]; then
    say "preparing Python packages ($1)"
    rm -rf "$dir"
    mkdir -p "$(dirname "$dir")"
    logged "$dir.log" python3 -m venv "$dir"
    logged "$dir.log" "$dir/bin/python" -m pip --disable-pip-version-check install --no-cache-dir \
      --require-hashes --only-binary :all: -r "$requirements"
    rm -f "$dir.log"
    touch "$dir/.complete"
  fi
  printf '%s\n' "$dir"
)

# pip_download DIR [PIP-OPTION...]: fetches the pinned requirements given on stdin ("name==version --hash=sha256:...").
# No build isolation: reading a source distribution's metadata then runs the pinned build backend of
# requirements/fetch.txt instead of whatever is newest today.
pip_download() {
  local dir="$1" env
  shift
  env="$(venv fetch)"
  mkdir -p "$dir"
  cat >"$dir/requirements.txt"
  TMPDIR="$dir" logged "$dir/pip.log" "$env/bin/python" -m pip --disable-pip-version-check download --no-cache-dir \
    --no-deps --no-build-isolation --require-hashes --dest "$dir" "$@" -r "$dir/requirements.txt"
}
