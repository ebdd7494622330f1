#!/usr/bin/env bash
# Builds the library and its tests for AArch64 (CMake preset aarch64) and runs them under qemu-user.
# Usage: neon_under_qemu.sh [CMAKE-OPTION...]. Exit code 77 when this machine has no cross compiler or no emulator.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

missing=()
command -v aarch64-linux-gnu-g++ >/dev/null || missing+=(g++-aarch64-linux-gnu)
command -v qemu-aarch64 >/dev/null || missing+=(qemu-user)
[[ -e /usr/src/googletest/CMakeLists.txt ]] || missing+=(googletest)
if ((${#missing[@]})); then
  echo "the NEON kernels cannot run here: nothing was tested. Debian's packages for it: apt-get install ${missing[*]}"
  exit 77
fi

cmake --preset aarch64 "$@"
cmake --build --preset aarch64
ctest --preset aarch64 --no-tests=error
