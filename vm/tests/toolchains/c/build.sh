#!/bin/sh
# Builds main.wasm, byte for byte the file that is checked in.
# Needs the compiler from PyPI: python3 -m pip install ziglang==0.17.1
# usage: build.sh [OUTPUT]     OUTPUT as an absolute path; without one, the file beside this script
set -eu
cd "$(dirname "$0")"
exec python3 -m ziglang cc --target=wasm32-wasi -std=gnu11 -O2 -g0 -Wall -Wextra -Werror -s \
    -o "${1:-main.wasm}" main.c
