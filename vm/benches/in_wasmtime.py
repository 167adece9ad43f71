"""Runs one WASI program in wasmtime with its own fuel on and prints the user time in seconds, without compilation.

Needs `python3 -m pip install wasmtime==50.0.1`; `cargo bench -p conun-vm --bench programs -- wasmtime` calls it.
usage: in_wasmtime.py PROGRAM.wasm [ARG..]
"""

import resource
import sys

import wasmtime

config = wasmtime.Config()
config.consume_fuel = True
engine = wasmtime.Engine(config)
module = wasmtime.Module.from_file(engine, sys.argv[1])
linker = wasmtime.Linker(engine)
linker.define_wasi()
wasi = wasmtime.WasiConfig()
wasi.argv = sys.argv[1:]
wasi.stdout_file = "/dev/null"
wasi.inherit_stderr()
store = wasmtime.Store(engine)
store.set_fuel(2**63 - 1)
store.set_wasi(wasi)


def user_time() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime


begun = user_time()
instance = linker.instantiate(store, module)
try:
    instance.exports(store)["_start"](store)
except wasmtime.ExitTrap as end:
    if end.code != 0:
        sys.exit(end.code)
print(user_time() - begun)
