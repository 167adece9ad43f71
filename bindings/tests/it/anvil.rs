//! A real anvil.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use alloy::{
    network::EthereumWallet,
    primitives::Address,
    providers::{DynProvider, Provider, ProviderBuilder},
    signers::local::PrivateKeySigner,
};

/// The first of anvil's well-known accounts.
const KEY: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

/// A real anvil on a free port; ends with the test.
pub(crate) struct Anvil {
    child: Child,
    /// Signs for `from`.
    pub(crate) provider: DynProvider,
    pub(crate) from: Address,
    pub(crate) url: String,
}

impl Anvil {
    pub(crate) async fn start(args: &[&str]) -> Self {
        let packages = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("node_modules/@foundry-rs");
        let bin = std::fs::read_dir(&packages)
            .into_iter()
            .flatten()
            .flatten()
            .map(|package| package.path().join("bin/anvil"))
            .find(|path| path.exists())
            .unwrap_or_else(|| "anvil".into());
        let mut child = Command::new(bin)
            .args(["--port", "0"])
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .expect("anvil: `scripts/test` installs it, or foundryup");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut lines = lines.map(Result::unwrap);
        let address = lines.find_map(|line| line.strip_prefix("Listening on ").map(str::to_owned)).unwrap();
        std::thread::spawn(move || lines.for_each(drop));
        let url = format!("http://{address}");
        let signer: PrivateKeySigner = KEY.parse().unwrap();
        let from = signer.address();
        let provider = ProviderBuilder::new().wallet(EthereumWallet::from(signer));
        let provider = provider.connect(&url).await.unwrap().erased();
        Self { child, provider, from, url }
    }

    pub(crate) async fn sent(&self) -> u64 {
        self.provider.get_transaction_count(self.from).await.unwrap()
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
