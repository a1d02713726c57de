//! logind's PrepareForSleep signal and the delay inhibitor, with a back-off while there is no bus (org.freedesktop.login1(5)).

use std::io;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use zbus::OwnedFd;
use zbus::fdo::DBusProxy;
use zbus::proxy::CacheProperties;

use super::managers;

const LOGIND: &str = "org.freedesktop.login1";
/// A call that takes longer is lost, and so is the bus.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// A bus that is there answers within milliseconds; one that hangs is tried again.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The sleep waits no longer than this for the guard to note it; logind's own limit is 5 s (InhibitDelayMaxSec=).
const NOTE_TIMEOUT: Duration = Duration::from_secs(2);
/// Between tries to reach the bus, or to get an inhibitor that logind refuses.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LAST: Duration = Duration::from_secs(60);

/// When to try again: twice as long after each try.
struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff(RETRY_FIRST)
    }
}

impl Backoff {
    async fn wait(&mut self) {
        sleep(self.0).await;
        self.0 = (self.0 * 2).min(RETRY_LAST);
    }
}

/// What was heard.
#[derive(Debug)]
pub enum Event {
    /// The node is about to sleep, and sleeps once this is answered; or so soon that what it does may have begun.
    Asleep {
        noted: oneshot::Sender<()>,
        delayed: bool,
    },
    /// The node woke, or failed to sleep.
    Awake,
    Lost {
        source: &'static str,
        reason: String,
    },
    Back {
        source: &'static str,
    },
    /// A manager came, went or restarted, and none of it is a loss to tell.
    Restarted,
}

pub const BUS: &str = "the system bus";
pub const MANAGER: &str = "logind";
pub const INHIBITOR: &str = "the sleep inhibitor";

#[zbus::proxy(
    interface = "org.freedesktop.login1.Manager",
    default_service = "org.freedesktop.login1",
    default_path = "/org/freedesktop/login1"
)]
trait Manager {
    fn inhibit(&self, what: &str, who: &str, why: &str, mode: &str) -> zbus::Result<OwnedFd>;
    #[zbus(property)]
    fn preparing_for_sleep(&self) -> zbus::Result<bool>;
    #[zbus(signal)]
    fn prepare_for_sleep(&self, start: bool) -> zbus::Result<()>;
}

/// Listens for ever; a bus or a logind that goes is waited for.
pub async fn listen(events: mpsc::Sender<Event>) {
    let mut teller = Teller { events, lost: Vec::new() };
    let mut backoff = Backoff::default();
    loop {
        let reason = match session(&mut teller, &mut backoff).await {
            Ok(()) => "the connection was closed".to_string(),
            Err(error) => error.to_string(),
        };
        teller.lost(BUS, reason).await;
        backoff.wait().await;
    }
}

/// One connection's life.
async fn session(teller: &mut Teller, backoff: &mut Backoff) -> zbus::Result<()> {
    let connect = zbus::connection::Builder::system().method_timeout(CALL_TIMEOUT).build();
    // The handshake is no method call.
    let connection =
        timeout(CONNECT_TIMEOUT, connect).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let bus = DBusProxy::new(&connection).await?;
    let mut owners = bus.receive_name_owner_changed_with_args(&[(0, LOGIND)]).await?;
    let mut managers = managers::changes(&bus).await?;
    // Signals from anybody but logind's owner don't get through this proxy.
    let manager = ManagerProxy::builder(&connection).cache_properties(CacheProperties::No).build().await?;
    let mut sleeps = manager.receive_prepare_for_sleep().await?;
    *backoff = Backoff::default();
    teller.back(BUS).await;

    // logind delays a sleep for as long as it is open.
    let mut inhibitor = None;
    if bus.name_has_owner(LOGIND.try_into()?).await? {
        inhibitor = greet(teller, &manager).await;
    } else {
        teller.lost(MANAGER, "it is not on the system bus".into()).await;
    }
    let mut refused = Backoff::default();
    loop {
        tokio::select! {
            () = connection.closed() => return Ok(()),
            signal = sleeps.next() => {
                let Some(signal) = signal else { return Ok(()) };
                refused = Backoff::default();
                if signal.args()?.start {
                    teller.asleep(inhibitor.is_some()).await;
                    inhibitor = None;
                } else {
                    inhibitor = awake(teller, &manager).await;
                }
            }
            change = owners.next() => {
                let Some(change) = change else { return Ok(()) };
                let change = change.args()?;
                (inhibitor, refused) = (None, Backoff::default());
                if change.new_owner.is_some() {
                    // Without a gap it was not lost, and is not back.
                    if change.old_owner.is_some() {
                        teller.send(Event::Restarted).await;
                    }
                    inhibitor = greet(teller, &manager).await;
                } else {
                    teller.lost(MANAGER, "it left the system bus".into()).await;
                }
            }
            () = refused.wait(), if teller.lost.contains(&INHIBITOR) => {
                inhibitor = teller.judge(inhibit(&manager).await).await;
            }
            change = managers.next() => {
                let Some(_) = change else { return Ok(()) };
                teller.send(Event::Restarted).await;
            }
        }
    }
}

/// logind is there: takes the inhibitor, unless a sleep has begun already, in which logind grants none.
async fn greet(teller: &mut Teller, manager: &ManagerProxy<'_>) -> Option<OwnedFd> {
    teller.back(MANAGER).await;
    if manager.preparing_for_sleep().await.unwrap_or(false) {
        teller.asleep(false).await;
        return None;
    }
    // A sleep that begins here is announced to a listener that is there already.
    let inhibitor = inhibit(manager).await;
    teller.judge(inhibitor).await
}

/// The inhibitor is taken first thing, so that the next sleep is heard of in time, too; the audit does not wait for it.
async fn awake(teller: &mut Teller, manager: &ManagerProxy<'_>) -> Option<OwnedFd> {
    let (inhibitor, ()) = tokio::join!(inhibit(manager), teller.send(Event::Awake));
    teller.judge(inhibitor).await
}

async fn inhibit(manager: &ManagerProxy<'_>) -> zbus::Result<OwnedFd> {
    manager.inhibit("sleep", "fwdguard", "Notes the forwarding settings before the node sleeps", "delay").await
}

/// Tells each loss once, and each return once.
struct Teller {
    events: mpsc::Sender<Event>,
    lost: Vec<&'static str>,
}

impl Teller {
    async fn send(&self, event: Event) {
        // The daemon ends when it stops listening.
        _ = self.events.send(event).await;
    }

    async fn asleep(&self, delayed: bool) {
        let (noted, answer) = oneshot::channel();
        self.send(Event::Asleep { noted, delayed }).await;
        _ = timeout(NOTE_TIMEOUT, answer).await;
    }

    async fn lost(&mut self, source: &'static str, reason: String) {
        if !self.lost.contains(&source) {
            self.lost.push(source);
            self.send(Event::Lost { source, reason }).await;
        }
    }

    async fn back(&mut self, source: &'static str) {
        if let Some(at) = self.lost.iter().position(|lost| *lost == source) {
            self.lost.remove(at);
            self.send(Event::Back { source }).await;
        }
    }

    async fn judge(&mut self, inhibitor: zbus::Result<OwnedFd>) -> Option<OwnedFd> {
        match inhibitor {
            Ok(descriptor) => {
                self.back(INHIBITOR).await;
                Some(descriptor)
            }
            Err(error) => {
                self.lost(INHIBITOR, error.to_string()).await;
                None
            }
        }
    }
}
