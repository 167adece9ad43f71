//! Whole markets.

mod library;
mod replay;
