//! Names and states of interfaces, by netdevice(7)'s ioctls.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

use super::message::Link;
use super::name::Name;
use super::patience::QUESTION;

/// NETDEV_HASHENTRIES (include/linux/netdevice.h)
const INDEX_LISTS: i32 = 256;

/// Unlike a dump of all links, what it asks of links never waits for the RTNL lock (`dev_ioctl`, net/core/dev_ioctl.c), and
/// takes a tenth of its time.
pub struct Links(OwnedFd);

impl Links {
    /// # Errors
    /// No descriptor, or no netlink.
    pub fn open() -> io::Result<Links> {
        let any_protocol = None;
        Ok(Links(socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, any_protocol)?))
    }

    /// An interface's name, right even where it is not UTF-8, and with `state` also whether it is up. `None`: there is no
    /// such interface.
    pub fn link(&self, ifindex: i32, state: bool) -> Option<Link> {
        // SAFETY: all zero is a valid ifreq.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        request.ifr_ifru.ifru_ifindex = ifindex;
        self.ask(libc::SIOCGIFNAME, &mut request)?;
        let name = Name::new(&request.ifr_name.map(|byte| byte as u8))?;
        let mut up = None;
        if state {
            self.ask(libc::SIOCGIFFLAGS, &mut request)?;
            // SAFETY: the kernel has just written the flags.
            up = Some(i32::from(unsafe { request.ifr_ifru.ifru_flags }) & libc::IFF_UP != 0);
        }
        Some(Link { ifindex, name, up })
    }

    /// The kernel finds an interface in one of 256 lists (`dev_get_by_index`): one after the other, each stays in the cache.
    pub fn sort(indices: &mut [i32]) {
        indices.sort_unstable_by_key(|ifindex| (ifindex % INDEX_LISTS, *ifindex));
    }

    /// Those of `indices` that are there, by ifindex.
    pub fn links(&self, mut indices: Vec<i32>, state: bool) -> Vec<Link> {
        Links::sort(&mut indices);
        let mut links: Vec<Link> = indices.into_iter().filter_map(|ifindex| self.link(ifindex, state)).collect();
        links.sort_unstable_by_key(|link| link.ifindex);
        links
    }

    /// Waits asleep until whoever holds the RTNL lock now is done with what it holds it for.
    pub fn wait_for_rtnl(&self) {
        let question = QUESTION.map(u32::to_ne_bytes);
        if send(&self.0, question.as_flattened(), SendFlags::DONTWAIT).is_ok() {
            _ = recv(&self.0, &mut [0; 1], RecvFlags::DONTWAIT); // it takes the whole answer
        }
    }

    /// `None`: there is no such interface.
    fn ask(&self, request: libc::Ioctl, interface: &mut libc::ifreq) -> Option<()> {
        // SAFETY: both requests read and write one ifreq, which lives through the call.
        (unsafe { libc::ioctl(self.0.as_raw_fd(), request, &raw mut *interface) } == 0).then_some(())
    }
}
