//! Whole markets.

mod library;
mod replay;
mod seeds;
