//! Whole markets.

mod library;
mod orders;
mod replay;
mod vote;
