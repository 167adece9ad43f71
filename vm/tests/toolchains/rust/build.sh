#!/bin/sh
# Builds main.wasm, byte for byte the file that is checked in.
# Needs Debian 12's compiler: apt-get install rustc=1.63.0+dfsg1-2 libstd-rust-dev-wasm32=1.63.0+dfsg1-2 lld
# usage: build.sh [OUTPUT]     OUTPUT as an absolute path; without one, the file beside this script
set -eu
cd "$(dirname "$0")"
exec /usr/bin/rustc --edition 2021 --target wasm32-wasi -C opt-level=s -C strip=symbols -C linker=rust-lld \
    -o "${1:-main.wasm}" main.rs
