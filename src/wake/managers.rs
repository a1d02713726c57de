//! Network managers that appear, leave or restart on the bus: they may reset settings while they do.

use futures_util::stream::{Stream, select};
use zbus::fdo::{DBusProxy, NameOwnerChanged};

const NETWORK_MANAGER: &str = "org.freedesktop.NetworkManager";
/// systemd-networkd(8).
const NETWORKD: &str = "org.freedesktop.network1";

/// Every change of owner of their names from now on, as the bus itself tells it; the proxy believes nobody else. One that
/// is not installed never changes.
///
/// # Errors
/// The bus takes no match rule.
pub async fn changes(bus: &DBusProxy<'_>) -> zbus::Result<impl Stream<Item = NameOwnerChanged> + use<>> {
    let network_manager = bus.receive_name_owner_changed_with_args(&[(0, NETWORK_MANAGER)]).await?;
    let networkd = bus.receive_name_owner_changed_with_args(&[(0, NETWORKD)]).await?;
    Ok(select(network_manager, networkd))
}
