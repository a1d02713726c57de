//! What the guard's own write of `all.forwarding` changed and it put back is looked at for some seconds; another's write
//! of it meanwhile stands.

mod common;

use common::*;
use std::time::Duration;

#[test]
fn another_who_opens_an_interface_that_was_put_back_has_his_way() {
    for family in ["ipv4", "ipv6"] {
        let ns = Namespace::enter();
        ns.veth("a0", "b0");
        ns.write("etc/fwdguard.d/10.conf", &format!("net.{family}.conf.all.forwarding = 1\n"));
        let key = |place| format!("net/{family}/conf/{place}/forwarding");
        sysctl_write(&key("all"), "1");
        sysctl_write(&key("b0"), "0");
        let _guard = ns.guard();
        sysctl_write(&key("all"), "0");
        wait_sysctl(&key("all"), "1");
        wait_sysctl(&key("b0"), "0");
        std::thread::sleep(Duration::from_millis(50));
        sysctl_write(&key("b0"), "1");
        // Longer than the looks at what was written.
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!(sysctl_read(&key("b0")), "1", "{family}");
    }
}
