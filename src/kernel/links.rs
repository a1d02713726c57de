//! Names and states of interfaces: by the ioctls of netdevice(7), or by rtnetlink once those were refused.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

use super::message::Link;
use super::name::Name;
use super::socket::Dumps;

/// Unlike a dump of all links, the ioctls never wait for the RTNL lock (`dev_ioctl`, net/core/dev_ioctl.c), and take a tenth of
/// its time.
pub struct Links {
    /// Of AF_UNIX: Linux 3.10 takes these ioctls on no AF_NETLINK socket (`netlink_ops`, net/netlink/af_netlink.c).
    socket: Result<OwnedFd, Errno>,
    is_refused: bool,
    refusal: Option<io::Error>,
}

impl Default for Links {
    fn default() -> Links {
        let any_protocol = None;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, any_protocol);
        Links { socket, is_refused: false, refusal: None }
    }
}

impl Links {
    /// An interface's name; with `state` also whether it is up, from rtnetlink. `None`: there is no such interface.
    ///
    /// # Errors
    /// The kernel refuses both the ioctl and RTM_GETLINK, with its reason for the second.
    pub fn link(&mut self, dumps: &mut Dumps, ifindex: i32, state: bool) -> io::Result<Option<Link>> {
        if !self.is_refused && !state {
            match self.name(ifindex) {
                Ok(name) => return Ok(name.map(|name| Link { ifindex, name, up: None, mtu: None })),
                // Its name is not UTF-8: rtnetlink has it.
                Err(error) if error.raw_os_error() == Some(libc::EILSEQ) => {}
                Err(error) => (self.is_refused, self.refusal) = (true, Some(error)),
            }
        }
        dumps.link(ifindex)
    }

    /// Why the ioctls are not used any more; returned once.
    pub fn take_refusal(&mut self) -> Option<io::Error> {
        self.refusal.take()
    }

    /// The index of the interface that has this name now.
    ///
    /// # Errors
    /// The kernel refuses the ioctl.
    pub fn index(&self, name: &str) -> io::Result<Option<i32>> {
        found(netdevice::name_to_index(self.socket()?, name)).map(|index| index.map(|index| index as i32))
    }

    fn socket(&self) -> io::Result<&OwnedFd> {
        self.socket.as_ref().map_err(|errno| (*errno).into())
    }

    fn name(&self, ifindex: i32) -> io::Result<Option<Name>> {
        let name = found(netdevice::index_to_name_inlined(self.socket()?, ifindex as u32))?;
        Ok(name.and_then(|name| Name::new(name.as_bytes())))
    }
}

/// `None`: there is no such interface.
fn found<T>(answer: Result<T, Errno>) -> io::Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Errno::NODEV | Errno::NXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_no_absence() {
        let (mut links, mut dumps) = (Links::default(), Dumps::open().expect("a socket"));
        let lo = links.link(&mut dumps, 1, false).expect("no refusal").expect("lo");
        assert_eq!((lo.name, lo.ifindex), ("lo".into(), 1));
        let whole =
            Link { up: links.link(&mut dumps, 1, true).expect("no refusal").expect("lo").up, mtu: Some(65536), ..lo };
        assert!(whole.up.is_some());
        assert_eq!(links.index("lo").expect("no refusal"), Some(1));
        for state in [false, true] {
            assert_eq!(links.link(&mut dumps, i32::MAX, state).expect("no refusal"), None);
        }
        for name in ["no-such-link", "longer-than-any-name"] {
            assert_eq!(links.index(name).expect("no refusal"), None);
        }

        // A file that does not have these ioctls, as a socket of AF_NETLINK in Linux 3.10.
        links.socket = Ok(std::fs::File::open("/dev/null").expect("a file").into());
        assert!(links.index("lo").is_err());
        assert_eq!(links.link(&mut dumps, 1, false).expect("rtnetlink answers"), Some(whole));
        assert!(links.take_refusal().is_some());
        assert_eq!(links.link(&mut dumps, i32::MAX, false).expect("rtnetlink answers"), None);
        assert!(links.take_refusal().is_none(), "reported once");
    }
}
