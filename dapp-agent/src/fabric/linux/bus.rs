//! The system bus: logind says whether somebody sits at this computer, NetworkManager whether the network costs by the byte.

use std::{
    collections::HashMap,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use zbus::{Connection, connection, message::Body};

type Properties = HashMap<String, zbus::OwnedVariant>;

/// A bus that does not answer within this time is as good as none.
const PATIENCE: Duration = Duration::from_secs(2);

/// Time between attempts to reach a bus that is not there.
const AGAIN: Duration = Duration::from_secs(60);

const LOGIND: &str = "org.freedesktop.login1";
const SESSION: &str = "org.freedesktop.login1.Session";
const NETWORK: &str = "org.freedesktop.NetworkManager";

/// NetworkManager's `NMMetered`: yes, and guessed yes.
const METERED: [u32; 2] = [1, 3];

/// Its no, and guessed no. 0 is unknown.
const UNMETERED: [u32; 2] = [2, 4];

/// A connection to the bus, made when it is needed first, and again after it is lost.
#[derive(Debug)]
pub(super) struct Bus {
    address: Option<String>,
    connection: Option<Connection>,
    failed_at: Option<Instant>,
    /// Since when sessions are seen locked: logind does not tell.
    locked: HashMap<String, Instant>,
}

impl Bus {
    pub(super) fn new(address: Option<&str>) -> Self {
        Self { address: address.map(str::to_owned), connection: None, failed_at: None, locked: HashMap::new() }
    }

    async fn connection(&mut self) -> Option<Connection> {
        if let Some(connection) = self.connection.as_ref().filter(|connection| !connection.is_closed()) {
            return Some(connection.clone());
        }
        if self.failed_at.is_some_and(|at| at.elapsed() < AGAIN) {
            return None;
        }
        let builder = match &self.address {
            Some(address) => connection::Builder::address(address.as_str()),
            None => connection::Builder::system(),
        };
        let connecting = builder.method_timeout(PATIENCE).build();
        self.connection = tokio::time::timeout(PATIENCE, connecting).await.ok().and_then(Result::ok);
        self.failed_at = self.connection.is_none().then(Instant::now);
        self.connection.clone()
    }

    async fn call<B: serde::Serialize + zbus::DynamicType>(
        &mut self,
        to: (&str, &str, &str, &str),
        body: &B,
    ) -> Option<Body> {
        let (destination, path, interface, method) = to;
        let connection = self.connection().await?;
        match connection.call_method(Some(destination), path, Some(interface), method, body).await {
            Ok(answer) => Some(answer.body()),
            Err(error) => {
                tracing::debug!(target: "conun::fabric", %error, destination, method, "no answer on the bus");
                None
            }
        }
    }

    async fn properties(&mut self, destination: &str, path: &str, interface: &str) -> Option<Properties> {
        let to = (destination, path, "org.freedesktop.DBus.Properties", "GetAll");
        self.call(to, &interface).await?.deserialize().ok()
    }

    /// Seconds since the last input of anybody at `seat0`; `Some(None)` if nobody is logged in there, `None` without logind.
    ///
    /// A desktop says that it is idle when it darkens the screen, and since when; until then it counts as used this moment. A locked
    /// session is not in use from when it was seen locked first. Terminals tell when they were typed at last.
    pub(super) async fn idle_seconds(&mut self) -> Option<Option<u64>> {
        let to = (LOGIND, "/org/freedesktop/login1", "org.freedesktop.login1.Manager", "ListSessions");
        let listed = self.call(to, &()).await?;
        let sessions: Vec<(String, u32, String, String, zbus::OwnedObjectPath)> = listed.deserialize().ok()?;
        let here: Vec<_> = sessions.into_iter().filter(|(_, _, _, seat, _)| seat == "seat0").collect();
        self.locked.retain(|id, _| here.iter().any(|(here, ..)| here == id));
        let mut least = None;
        for (id, .., path) in here {
            // One that ended just now is nobody's.
            let Some(session) = self.properties(LOGIND, path.as_str(), SESSION).await else { continue };
            // The login screen itself, and the service manager's own.
            if text(&session, "Class").is_none_or(|class| class == "user") {
                let idle = self.session_idle(id, &session);
                least = Some(least.map_or(idle, |least: u64| least.min(idle)));
            }
        }
        Some(least)
    }

    fn session_idle(&mut self, id: String, session: &Properties) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Microseconds of the wall clock; 0 if it has never been told.
        let since = number(session, "IdleSinceHint").filter(|since| *since > 0).map(Duration::from_micros);
        let told = since.map(|since| now.saturating_sub(since).as_secs());
        let terminal = text(session, "Type").is_some_and(|kind| kind == "tty");
        let by_hint = if flag(session, "IdleHint") || terminal { told.unwrap_or(0) } else { 0 };
        if !flag(session, "LockedHint") {
            self.locked.remove(&id);
            return by_hint;
        }
        let locked = *self.locked.entry(id).or_insert_with(Instant::now);
        by_hint.max(locked.elapsed().as_secs())
    }

    /// Whether the network costs by the byte, as NetworkManager knows or guesses.
    pub(super) async fn metered(&mut self) -> Option<bool> {
        let path = "/org/freedesktop/NetworkManager";
        let value = number(&self.properties(NETWORK, path, NETWORK).await?, "Metered")?;
        let value = u32::try_from(value).ok()?;
        if METERED.contains(&value) { Some(true) } else { UNMETERED.contains(&value).then_some(false) }
    }
}

fn flag(properties: &Properties, name: &str) -> bool {
    properties.get(name).and_then(|value| bool::try_from(value).ok()).unwrap_or(false)
}

fn text<'a>(properties: &'a Properties, name: &str) -> Option<&'a str> {
    properties.get(name).and_then(|value| <&str>::try_from(value).ok())
}

/// Whole numbers come as 32 or 64 bits.
fn number(properties: &Properties, name: &str) -> Option<u64> {
    let value = properties.get(name)?;
    u64::try_from(value).ok().or_else(|| u32::try_from(value).ok().map(u64::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locked_session_is_idle_from_when_it_was_seen_locked() {
        let locked = |locked: bool| Properties::from([("LockedHint".to_owned(), locked.into())]);
        let mut bus = Bus::new(None);
        assert_eq!(bus.session_idle("2".to_owned(), &locked(true)), 0);
        let five_minutes_ago = Instant::now().checked_sub(Duration::from_secs(300)).unwrap();
        bus.locked.insert("2".to_owned(), five_minutes_ago);
        assert!(bus.session_idle("2".to_owned(), &locked(true)) >= 300);
        assert_eq!(bus.session_idle("2".to_owned(), &locked(false)), 0);
        assert_eq!(bus.session_idle("2".to_owned(), &locked(true)), 0, "locked anew");
    }
}
