//! The bindings against the sources and a real anvil. One binary, so that it links once.

mod anvil;
mod artifacts;
mod deploy;
mod gas;
