//! Names and states of interfaces: by netdevice(7)'s ioctls, or by rtnetlink once those were refused.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::message::Link;
use super::name::Name;
use super::socket::Dumps;

/// Unlike a dump of all links, the ioctls never wait for the RTNL lock (`dev_ioctl`, net/core/dev_ioctl.c), and take a tenth of
/// its time.
pub struct Links {
    /// Of AF_UNIX: Linux 3.10 takes these ioctls on no AF_NETLINK socket (`netlink_ops`, net/netlink/af_netlink.c).
    socket: io::Result<OwnedFd>,
    is_refused: bool,
    refusal: Option<io::Error>,
}

impl Default for Links {
    fn default() -> Links {
        let any_protocol = None;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, any_protocol);
        Links { socket: socket.map_err(Into::into), is_refused: false, refusal: None }
    }
}

impl Links {
    /// An interface's name, right even where it is not UTF-8, and with `state` also whether it is up. `None`: there is no
    /// such interface.
    ///
    /// # Errors
    /// The kernel refuses both the ioctl and RTM_GETLINK, with its reason for the second.
    pub fn link(&mut self, dumps: &mut Dumps, ifindex: i32, state: bool) -> io::Result<Option<Link>> {
        if !self.is_refused {
            match self.ask_link(ifindex, state) {
                Err(error) => (self.is_refused, self.refusal) = (true, Some(error)),
                link => return link,
            }
        }
        dumps.link(ifindex)
    }

    /// Why the ioctls are not asked any more; told once.
    pub fn take_refusal(&mut self) -> Option<io::Error> {
        self.refusal.take()
    }

    /// The index of the interface that has this name now.
    ///
    /// # Errors
    /// The kernel refuses the ioctl.
    pub fn index(&self, name: &OsStr) -> io::Result<Option<i32>> {
        let mut request = no_request();
        if name.len() >= request.ifr_name.len() {
            return Ok(None);
        }
        request.ifr_name.iter_mut().zip(name.as_bytes()).for_each(|(to, byte)| *to = *byte as libc::c_char);
        let is_there = self.ask(libc::SIOCGIFINDEX, &mut request)?;
        // SAFETY: where there is such an interface, the kernel has just written its index; else it is the 0 of no_request.
        Ok(is_there.then_some(unsafe { request.ifr_ifru.ifru_ifindex }))
    }

    fn ask_link(&self, ifindex: i32, state: bool) -> io::Result<Option<Link>> {
        let mut request = no_request();
        request.ifr_ifru.ifru_ifindex = ifindex;
        if !self.ask(libc::SIOCGIFNAME, &mut request)? {
            return Ok(None);
        }
        let Some(name) = Name::new(&request.ifr_name.map(|byte| byte as u8)) else { return Ok(None) };
        let mut up = None;
        if state {
            if !self.ask(libc::SIOCGIFFLAGS, &mut request)? {
                return Ok(None);
            }
            // SAFETY: the kernel has just written the flags.
            up = Some(i32::from(unsafe { request.ifr_ifru.ifru_flags }) & libc::IFF_UP != 0);
        }
        Ok(Some(Link { ifindex, name, up, mtu: None }))
    }

    /// Whether there is such an interface.
    fn ask(&self, request: libc::Ioctl, interface: &mut libc::ifreq) -> io::Result<bool> {
        let errno = |error: &io::Error| io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO));
        let socket = self.socket.as_ref().map_err(errno)?;
        // SAFETY: each of these requests reads and writes one ifreq, which lives through the call.
        if unsafe { libc::ioctl(socket.as_raw_fd(), request, &raw mut *interface) } == 0 {
            return Ok(true);
        }
        match io::Error::last_os_error() {
            error if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENXIO)) => Ok(false),
            error => Err(error),
        }
    }
}

fn no_request() -> libc::ifreq {
    // SAFETY: all zero is a valid ifreq.
    unsafe { std::mem::zeroed() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_no_absence() {
        let (mut links, mut dumps) = (Links::default(), Dumps::open().expect("a socket"));
        let lo = links.link(&mut dumps, 1, true).expect("no refusal").expect("lo");
        assert_eq!((&*lo.name, lo.ifindex), (OsStr::new("lo"), 1));
        assert_eq!(links.index(OsStr::new("lo")).expect("no refusal"), Some(1));
        assert_eq!(links.link(&mut dumps, i32::MAX, true).expect("no refusal"), None);
        assert_eq!(links.index(OsStr::new("no-such-link")).expect("no refusal"), None);
        assert_eq!(links.index(OsStr::new("longer-than-any-name")).expect("no refusal"), None);

        // What a kernel says that takes these ioctls on no such socket, as Linux 3.10 on one of AF_NETLINK.
        links.socket = std::fs::File::open("/dev/null").map(OwnedFd::from);
        assert!(links.index(OsStr::new("lo")).is_err());
        assert_eq!(links.link(&mut dumps, 1, true).expect("rtnetlink answers"), Some(Link { mtu: Some(65536), ..lo }));
        assert!(links.take_refusal().is_some());
        assert_eq!(links.link(&mut dumps, i32::MAX, true).expect("rtnetlink answers"), None);
        assert!(links.take_refusal().is_none(), "told once");
    }
}
