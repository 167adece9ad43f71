//! Whole markets.

mod library;
mod orders;
mod replay;
mod seeds;
mod vote;
