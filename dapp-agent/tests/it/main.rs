//! Requesters and providers on a real chain in the process, with real endpoints on loopback and real worker processes.

mod access;
mod bad_input;
mod ballots;
mod bombs;
mod cache;
mod challenges;
mod control;
mod demands;
mod discovery;
mod fabric;
mod gossip;
mod groups;
mod guest;
mod hostile;
mod links;
mod market;
mod net;
mod replicas;
mod resume;
mod sandbox;
mod settle;
mod torn;
mod world;
