//! Settings of the namespace that the test is in.

use super::*;

/// A value below /proc/sys of this thread's network namespace; the key with slashes.
pub fn sysctl_read(key: &str) -> String {
    // By one read: at any place but the start there is nothing (`proc_do_large_bitmap`, kernel/sysctl.c).
    let mut room = vec![0; 1 << 16];
    let length = File::open(Path::new("/proc/sys").join(key)).and_then(|mut file| file.read(&mut room));
    room.truncate(length.unwrap_or_else(|e| panic!("{key}: {e}")));
    String::from_utf8(room).expect("UTF-8").trim().into()
}

pub fn sysctl_write(key: &str, value: &str) {
    fs::write(Path::new("/proc/sys").join(key), value).unwrap_or_else(|e| panic!("{key} = {value}: {e}"));
}

/// The same, as from a container with a /proc of its own: inotify does not see it.
pub fn sysctl_write_unseen(key: &str, value: &str) {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "sh", "-c", "echo \"$2\" >\"/proc/sys/$1\"", "sh", key, value]);
    assert!(command.status().expect("unshare runs").success(), "{key} = {value}");
}

/// Waits until `key` is `value`. Tests share the kernel's RTNL lock across their namespaces, and one that writes `ip_forward`
/// in a loop keeps another's guard waiting for seconds.
pub fn wait_sysctl(key: &str, value: &str) {
    let deadline = Instant::now() + TIMEOUT;
    while sysctl_read(key) != value {
        assert!(Instant::now() < deadline, "{key} is {}, not {value}", sysctl_read(key));
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Every setting below net/ipv4/conf, net/ipv6/conf and the rest of net, byte for byte.
pub fn all_settings() -> HashMap<PathBuf, Vec<u8>> {
    let mut settings = HashMap::new();
    let mut folders = vec![PathBuf::from("/proc/sys/net")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            } else if let Ok(value) = fs::read(entry.path()) {
                settings.insert(entry.path(), value);
            }
        }
    }
    settings
}
