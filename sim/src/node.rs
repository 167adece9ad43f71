//! The chain of a run: the deployed bytecode on revm, and the endpoints through which agents see it.
//!
//! Agents that see the same share one endpoint: a real `Follower` on the chain's JSON-RPC, or on an answer that is bent on its way.

use std::{
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use alloy::{
    consensus::TxEip1559,
    primitives::{Address, B256, Bytes, TxKind, U256, keccak256},
    providers::{DynProvider, ProviderBuilder},
    rpc::{client::RpcClient, types::TransactionRequest},
    sol_types::SolCall,
};
use conun_agent::chain::{Follower, Head, Index};
use conun_bindings::{
    Contracts, Rules,
    abi::{ConunToken, Deployment::Settings},
    deploy::{OtherCode, Plan, TOKEN, devnet_settings, standard_settings},
};
use conun_chain::{ChainConfig, Clock, InProcess, SharedChain, dev_accounts};

use crate::{
    bent::Bent,
    random::Random,
    scenario::{Arbiter, ChainTerms, Lies},
};

/// UNIX time at which every run begins.
pub(crate) const EPOCH: u64 = 1_800_000_000;

/// Gas limit of transactions that set the stage.
const STAGE_GAS: u64 = 16_000_000;

/// Ether of each account, wei.
const ETHER: u128 = 1_000_000_000_000_000_000_000;

/// Most blocks that a re-org takes back.
pub(crate) const DEEPEST: u64 = 64;

/// Wei for a gas that goes to whoever builds the block.
pub(crate) const TIP: u128 = 1_000_000_000;

/// What an agent knows of the chain.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) head: Head,
    pub(crate) index: Index,
}

/// An endpoint, and what it has told so far.
#[derive(Debug)]
struct Feed {
    follower: Follower,
    current: Option<Rc<View>>,
    /// Height and branch at which it was last asked, if it answered.
    asked: Option<(u64, u64)>,
}

/// The chain, its contracts and endpoints.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) chain: SharedChain,
    pub(crate) contracts: Contracts,
    pub(crate) rules: Rules,
    pub(crate) settings: Settings,
    /// Wei of tokens at first.
    pub(crate) supply: U256,
    pub(crate) holder: Address,
    runtime: tokio::runtime::Runtime,
    feeds: Vec<Feed>,
    /// How often blocks were taken back.
    pub(crate) branch: u64,
    lies: Arc<AtomicU64>,
}

/// Which endpoint.
pub(crate) type FeedId = usize;

fn wei(tokens: f64) -> u128 {
    (tokens * TOKEN as f64) as u128
}

/// Tokens as token wei.
pub(crate) fn token_wei(tokens: f64) -> U256 {
    U256::from(wei(tokens))
}

fn settings(terms: &ChainTerms, holder: Address, arbiter: Address) -> Settings {
    let lasting = standard_settings(holder);
    Settings {
        minStake: alloy::primitives::Uint::from(wei(terms.min_stake)),
        checkFee: alloy::primitives::Uint::from(wei(terms.check_fee)),
        successorDelayBlocks: alloy::primitives::Uint::from(terms.successor_delay_blocks),
        // What needs no waiting for is as on a real network.
        exitDelaySeconds: lasting.exitDelaySeconds,
        maxCommitmentSeconds: lasting.maxCommitmentSeconds,
        arbiter: if terms.arbiter == Arbiter::None { Address::ZERO } else { arbiter },
        ..devnet_settings(holder)
    }
}

impl Node {
    /// A chain with the contracts on it, on which `accounts` have ether.
    pub(crate) fn new(terms: &ChainTerms, accounts: &[Address], arbiter: Address) -> Self {
        let holder = dev_accounts()[0].address();
        let settings = settings(terms, holder, arbiter);
        let mut config = ChainConfig {
            clock: Clock::Manual(EPOCH - 600),
            base_fee: (terms.base_fee_gwei * 1e9) as u64,
            kept_states: DEEPEST + 1,
            ..ChainConfig::default()
        };
        config.balances.extend(accounts.iter().map(|account| (*account, U256::from(ETHER))));
        let chain_id = config.chain_id;
        let chain = SharedChain::new(config);
        chain.by_hand();
        let code = terms.artifacts.as_deref().map(OtherCode::read).transpose();
        let code = code.expect("the artifacts are as they were when the scenario was read").unwrap_or_default();
        let plan = Plan::with_code(settings.clone(), keccak256("conun"), &code);
        let contracts = plan.contracts(chain_id, 1);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime without input and output needs nothing of the system");
        if terms.arbiter != Arbiter::None {
            // A contract that takes note of everything: it stops at once.
            let code = serde_json::json!([arbiter, "0x00"]);
            chain.handle("anvil_setCode", code).expect("an address and code");
            chain.handle("anvil_impersonateAccount", serde_json::json!([arbiter])).expect("an address");
        }
        let supply = settings.tokenSupply;
        let rules = Rules::from(&settings);
        let mut node = Self {
            chain,
            contracts,
            rules,
            settings,
            supply,
            holder,
            runtime,
            feeds: Vec::new(),
            branch: 0,
            lies: Arc::default(),
        };
        for step in &plan.steps {
            node.stage(holder, step.to, step.calldata.clone());
            node.settle_stage();
        }
        node
    }

    /// Lets a transaction that sets the stage, or clears it, wait for a block.
    pub(crate) fn stage(&self, sender: Address, to: Address, input: Bytes) -> B256 {
        // The first that is free: a re-org may have left a gap.
        let nonce = self.chain.next_nonce(sender);
        let fee = u128::from(self.chain.next_base_fee()) * 4 + TIP;
        self.queue(sender, nonce, &TransactionRequest::default().to(to).input(input.into()), STAGE_GAS, (fee, TIP))
            .expect("whoever sets the stage has ether, and sends one after the other")
    }

    /// Mines until nothing waits; what sets the stage must succeed.
    pub(crate) fn settle_stage(&mut self) {
        while self.chain.waiting() > 0 {
            let mined = self.chain.mine_at(EPOCH - 600, None, |_, _| false);
            for receipt in &*mined.receipts {
                assert!(receipt.status(), "setting the stage failed: {receipt:?}");
            }
        }
    }

    /// Gives an account tokens, and the Escrow leave to take them.
    pub(crate) fn fund(&self, account: Address, amount: U256) {
        let transfer = ConunToken::transferCall { to: account, value: amount };
        self.stage(self.holder, self.contracts.token, transfer.abi_encode().into());
        let approve = ConunToken::approveCall { spender: self.contracts.escrow, value: U256::MAX };
        self.stage(account, self.contracts.token, approve.abi_encode().into());
    }

    /// Lets a transaction wait for a block.
    ///
    /// # Errors
    /// If the node refuses it, in its words.
    pub(crate) fn queue(
        &self,
        sender: Address,
        nonce: u64,
        request: &TransactionRequest,
        gas_limit: u64,
        (fee, tip): (u128, u128),
    ) -> Result<B256, conun_chain::Error> {
        let tx = TxEip1559 {
            chain_id: self.contracts.chain_id,
            nonce,
            gas_limit,
            max_fee_per_gas: fee,
            max_priority_fee_per_gas: tip,
            to: request.to.unwrap_or(TxKind::Create),
            value: U256::ZERO,
            access_list: Default::default(),
            input: request.input.input().cloned().unwrap_or_default(),
        };
        self.chain.queue(sender, tx)
    }

    /// What a view call gives.
    pub(crate) fn read<C: SolCall>(&self, to: Address, call: C) -> C::Return {
        let request = TransactionRequest::default().to(to).input(call.abi_encode().into());
        let (output, _) = self.chain.try_call(request).expect("views of the contracts do not revert");
        C::abi_decode_returns(&output).expect("the contracts answer as their ABI says")
    }

    /// Opens an endpoint; `lies` is what it does to the truth, if it does.
    pub(crate) fn open_feed(&mut self, confirmations: u64, lies: Option<(&Lies, Random)>) -> FeedId {
        let honest = self.chain.provider();
        let (provider, witness): (DynProvider, _) = match lies {
            None => (honest, None),
            Some((lies, random)) => {
                let random = Mutex::new(random);
                let bent = Bent { chain: self.chain.clone(), lies: lies.clone(), random, told: self.lies.clone() };
                let bent = Arc::new(bent);
                let transport = InProcess(move |method: &str, params| bent.answer(method, params));
                let provider = ProviderBuilder::new().connect_client(RpcClient::new(transport, true));
                (alloy::providers::Provider::erased(provider), lies.compared.then_some(honest))
            }
        };
        let contracts = self.contracts;
        let follower = self.runtime.block_on(async {
            let follower = Follower::new(provider, contracts, confirmations).await?;
            match witness {
                Some(witness) => follower.with_witness(witness).await,
                None => Ok(follower),
            }
        });
        let follower = follower.expect("contracts are there, and no lie begins before the first look");
        self.feeds.push(Feed { follower, current: None, asked: None });
        self.feeds.len() - 1
    }

    /// Answers that were bent.
    pub(crate) fn lies(&self) -> u64 {
        self.lies.load(Ordering::Relaxed)
    }

    /// Looks at the chain through an endpoint.
    ///
    /// # Errors
    /// In the follower's words.
    pub(crate) fn look(&mut self, feed: FeedId) -> Result<Rc<View>, String> {
        let at = (self.chain.height(), self.branch);
        let feed = &mut self.feeds[feed];
        if let (Some(asked), Some(view)) = (feed.asked, &feed.current)
            && asked == at
        {
            return Ok(view.clone());
        }
        let head = self.runtime.block_on(feed.follower.poll()).map_err(|error| error.to_string())?;
        feed.asked = Some(at);
        match &feed.current {
            Some(view) if view.head == head => Ok(view.clone()),
            _ => {
                let view = Rc::new(View { head, index: feed.follower.index().clone() });
                feed.current = Some(view.clone());
                Ok(view)
            }
        }
    }

    /// The index that all logs give, from the deployment's first block on.
    pub(crate) fn replayed(&self) -> Index {
        let mut index = Index::new(self.rules);
        let contracts = &self.contracts;
        self.chain.each_log(contracts.block, |log| index.apply(contracts, log));
        index
    }
}
