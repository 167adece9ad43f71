#!/bin/sh
# Builds every NAME.wasm of this folder from its NAME.c, byte for byte the files that are checked in.
# Needs the compiler from PyPI: python3 -m pip install ziglang==0.17.1
# usage: build.sh [FOLDER]     FOLDER as an absolute path; without one, this folder
set -eu
cd "$(dirname "$0")"
for source in *.c; do
    python3 -m ziglang cc --target=wasm32-wasi -mcpu=mvp+bulk_memory+mutable_globals+nontrapping_fptoint+sign_ext \
        -std=c11 -O2 -ffp-contract=off -Wall -Wextra -Werror -s -Wl,-z,stack-size=65536 \
        -o "${1:-.}/${source%.c}.wasm" "$source"
done
