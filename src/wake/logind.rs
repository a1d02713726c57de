//! logind's PrepareForSleep signal and the delay inhibitor (org.freedesktop.login1(5)), and network managers that restart; with a
//! back-off while there is no bus.

use std::io;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::select;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use zbus::OwnedFd;
use zbus::fdo::DBusProxy;
use zbus::proxy::CacheProperties;

const LOGIND: &str = "org.freedesktop.login1";
/// Network managers may reset settings when they start or stop: NetworkManager(8) and systemd-networkd(8).
const NETWORK_MANAGER: &str = "org.freedesktop.NetworkManager";
const NETWORKD: &str = "org.freedesktop.network1";
/// A call that takes longer is lost, and so is the bus.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// A working bus answers within milliseconds; one that hangs is tried again.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The sleep waits no longer than this for the program to note it; logind's own limit is 5 s (InhibitDelayMaxSec=).
const NOTE_TIMEOUT: Duration = Duration::from_secs(2);
/// Between attempts to reach the bus, or to get an inhibitor that logind refuses: twice as long after each.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LAST: Duration = Duration::from_secs(60);

/// Sources, as records and the status name them.
const BUS: &str = "the system bus";
const MANAGER: &str = "logind";
pub const INHIBITOR: &str = "the sleep inhibitor";

/// What was received from the bus.
#[derive(Debug)]
pub enum Event {
    /// The node is about to sleep. With `delayed` logind waits for `noted`; without, the sleep may have begun already.
    Asleep { noted: oneshot::Sender<()>, delayed: bool },
    /// The node resumed, or failed to sleep.
    Awake,
    /// Sent again for each attempt that fails.
    Lost { source: &'static str, reason: String },
    /// Also sent for a source that was not lost.
    Back { source: &'static str },
    /// A network manager came, went or restarted, or logind restarted without a gap.
    Restarted,
}

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

/// Listens for ever, and connects again when the bus is gone.
pub async fn listen(events: mpsc::Sender<Event>) {
    let mut delay = RETRY_FIRST;
    loop {
        let reason = match session(&events, &mut delay).await {
            Ok(()) => "the connection was closed".to_string(),
            Err(error) => error.to_string(),
        };
        _ = events.send(Event::Lost { source: BUS, reason }).await;
        back_off(&mut delay).await;
    }
}

async fn back_off(delay: &mut Duration) {
    sleep(*delay).await;
    *delay = (*delay * 2).min(RETRY_LAST);
}

/// One connection's life.
async fn session(events: &mpsc::Sender<Event>, delay: &mut Duration) -> zbus::Result<()> {
    let connect = zbus::connection::Builder::system().method_timeout(CALL_TIMEOUT).build();
    // The handshake is no method call.
    let connection =
        timeout(CONNECT_TIMEOUT, connect).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    // The proxy accepts these signals from the bus alone. A manager that is not installed never changes.
    let bus = DBusProxy::new(&connection).await?;
    let mut owners = bus.receive_name_owner_changed_with_args(&[(0, LOGIND)]).await?;
    let network_manager = bus.receive_name_owner_changed_with_args(&[(0, NETWORK_MANAGER)]).await?;
    let networkd = bus.receive_name_owner_changed_with_args(&[(0, NETWORKD)]).await?;
    let mut managers = select(network_manager, networkd);
    // Nor does this proxy accept signals that do not come from logind's owner.
    let manager = ManagerProxy::builder(&connection).cache_properties(CacheProperties::No).build().await?;
    let mut sleeps = manager.receive_prepare_for_sleep().await?;
    *delay = RETRY_FIRST;
    let mut session = Session { events: events.clone(), manager, inhibitor: None, is_refused: false };
    session.send(Event::Back { source: BUS }).await;

    if bus.name_has_owner(LOGIND.try_into()?).await? {
        session.manager_appeared().await;
    } else {
        session.lost(MANAGER, "it is not on the system bus").await;
    }
    let mut refused_delay = RETRY_FIRST;
    loop {
        tokio::select! {
            () = connection.closed() => return Ok(()),
            signal = sleeps.next() => {
                let Some(signal) = signal else { return Ok(()) };
                refused_delay = RETRY_FIRST;
                if signal.args()?.start {
                    session.asleep(session.inhibitor.is_some()).await;
                    session.inhibitor = None;
                } else {
                    // The check of the settings does not wait for the inhibitor of the next sleep.
                    session.send(Event::Awake).await;
                    session.inhibit().await;
                }
            }
            change = owners.next() => {
                let Some(change) = change else { return Ok(()) };
                let change = change.args()?;
                (session.inhibitor, session.is_refused, refused_delay) = (None, false, RETRY_FIRST);
                if change.new_owner.is_some() {
                    // Without a gap logind was not lost.
                    if change.old_owner.is_some() {
                        session.send(Event::Restarted).await;
                    }
                    session.manager_appeared().await;
                } else {
                    session.lost(MANAGER, "it left the system bus").await;
                }
            }
            () = back_off(&mut refused_delay), if session.is_refused => session.inhibit().await,
            change = managers.next() => {
                let Some(_) = change else { return Ok(()) };
                session.send(Event::Restarted).await;
            }
        }
    }
}

struct Session<'a> {
    events: mpsc::Sender<Event>,
    manager: ManagerProxy<'a>,
    /// logind delays a sleep for as long as it is open.
    inhibitor: Option<OwnedFd>,
    is_refused: bool,
}

impl Session<'_> {
    async fn send(&self, event: Event) {
        // It fails only while the service stops.
        _ = self.events.send(event).await;
    }

    async fn lost(&self, source: &'static str, reason: &str) {
        self.send(Event::Lost { source, reason: reason.into() }).await;
    }

    async fn asleep(&self, delayed: bool) {
        let (noted, answer) = oneshot::channel();
        self.send(Event::Asleep { noted, delayed }).await;
        _ = timeout(NOTE_TIMEOUT, answer).await;
    }

    /// logind is on the bus: takes the inhibitor, unless a sleep has begun already, in which logind grants none.
    async fn manager_appeared(&mut self) {
        self.send(Event::Back { source: MANAGER }).await;
        if self.manager.preparing_for_sleep().await.unwrap_or(false) {
            self.asleep(false).await;
        } else {
            // A sleep that begins here is received: the subscription came first.
            self.inhibit().await;
        }
    }

    async fn inhibit(&mut self) {
        const WHY: &str = "Notes the forwarding settings before the node sleeps";
        let inhibitor = self.manager.inhibit("sleep", "fwdguard", WHY, "delay").await;
        self.is_refused = inhibitor.is_err();
        match &inhibitor {
            Ok(_) => self.send(Event::Back { source: INHIBITOR }).await,
            Err(error) => self.lost(INHIBITOR, &error.to_string()).await,
        }
        self.inhibitor = inhibitor.ok();
    }
}
