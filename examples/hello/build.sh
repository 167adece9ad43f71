#!/bin/sh
# Builds hello.wasm from hello.c, byte for byte the file that is checked in.
# Needs the compiler from PyPI: python3 -m pip install ziglang==0.17.1
# usage: build.sh [OUTPUT]     OUTPUT as an absolute path; without one, the file beside this script
set -eu
cd "$(dirname "$0")"
exec python3 -m ziglang cc --target=wasm32-wasi -mcpu=mvp -std=c11 -Os -Wall -Wextra -Werror \
    -s -Wl,-z,stack-size=65536 -o "${1:-hello.wasm}" hello.c
