#!/bin/sh
# Builds main.wasm, byte for byte the file that is checked in. Needs Node.js and npm; the compiler goes into a folder of
# its own, outside of the repository.
# usage: build.sh [OUTPUT]     OUTPUT as an absolute path; without one, the file beside this script
set -eu
cd "$(dirname "$0")"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
output=${1:-$PWD/main.wasm}
mkdir -p "$folder/src/program"
cp main.ts "$folder/src/program/"
cd "$folder"
npm install --silent --no-save --prefix . assemblyscript@0.28.20 @assemblyscript/wasi-shim@0.1.0
npx asc src/program/main.ts --config node_modules/@assemblyscript/wasi-shim/asconfig.json -O2 -o "$output"
