//! The long-running program on a provider's or requester's machine.
//!
//! - [`chain`]: what the registries' logs tell, kept current; sending transactions
//! - [`core`]: the provider's decisions, pure: no clock, no file, no socket
//! - [`provider`], [`requester`]: the loops that drive it all; [`audit`]: results executed once more
//! - [`fabric`]: what this computer has, and whether its owner needs it
//! - [`net`]: blobs over iroh; [`manifest`]: what they say; [`sandbox`]: tasks in processes of their own
//! - [`store`]: the journal; [`account`]: encrypted keys

mod access;
pub mod account;
pub mod audit;
pub mod chain;
pub mod core;
pub mod fabric;
mod files;
mod funds;
pub mod manifest;
pub mod net;
pub mod provider;
pub mod requester;
pub mod sandbox;
pub mod store;

pub use files::FileError;
pub use funds::parse_tokens;
