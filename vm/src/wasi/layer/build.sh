#!/bin/sh
# Builds layer.wasm from the C files beside this script, byte for byte the file that is checked in.
# Needs the compiler from PyPI: python3 -m pip install ziglang==0.17.1
# usage: build.sh [OUTPUT]     OUTPUT as an absolute path; without one, ../layer.wasm
set -eu
cd "$(dirname "$0")"
exec python3 -m ziglang cc --target=wasm32-freestanding -mcpu=mvp+bulk_memory+sign_ext -std=c11 -O2 -flto -g0 \
    -nostdlib -fno-stack-protector -Wall -Wextra -Werror -Wl,--no-entry -Wl,--export=task_log \
    -Wl,-z,stack-size=16384 -o "${1:-../layer.wasm}" \
    content.c descriptors.c files.c heap.c lookup.c output.c paths.c poll.c stat.c streams.c task.c tree.c
