//! End to end: the built command, real processes, real nodes. One binary, so that it links once.

mod accounts;
mod amend;
mod anvil;
mod asleep;
mod audit;
mod audit_votes;
mod bad_input;
mod cast;
mod demo;
mod operations;
mod replay;
mod sim;
mod support;
mod votes;
mod walk;
mod wasm;
