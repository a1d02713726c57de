//! Our own write of IPv4's `all.forwarding` on a node with many interfaces: the kernel would tell of each what follows from it.

use super::{Keeper, Outlet};
use crate::kernel::sysctl::Outcome;
use crate::setting::{Key, number};

/// With so many interfaces it takes longer to hear of them than to change the socket's filter twice.
const MANY: usize = 250;

impl<O: Outlet> Keeper<O> {
    /// Makes a setting what is wanted, unless it is already. See [`crate::kernel::sysctl::Door::repair`].
    pub(super) fn repair(&mut self, key: &Key, wanted: &str, holds: impl Fn(&str) -> bool) -> Outcome {
        let Keeper { guard, notifications, door, .. } = self;
        let many = key.is_all_forwarding() && guard.known() >= MANY;
        let value = many.then(|| number(wanted)).flatten().and_then(|value| i32::try_from(value).ok());
        let Some(value) = value.filter(|_| door.read(key).is_ok_and(|value| !holds(&value))) else {
            return door.repair(key, wanted, holds);
        };
        let outcome = notifications.without_fan_out(value, || door.repair(key, wanted, holds));
        if outcome.write.is_none() {
            guard.doubt(); // another has mended it, and may have opened an interface meanwhile
        }
        outcome
    }
}
