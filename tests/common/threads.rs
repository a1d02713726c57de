//! Threads of the program under test: which one it is, what it asks of the kernel.

use super::*;

/// The guard thread of a process.
pub fn guard_thread(process: u32) -> u32 {
    let is_guard =
        |thread: &fs::DirEntry| fs::read_to_string(thread.path().join("comm")).is_ok_and(|name| name == "guard\n");
    let mut threads = fs::read_dir(format!("/proc/{process}/task")).expect("threads").flatten();
    let guard = threads.find(is_guard).expect("the guard thread").file_name();
    guard.to_str().and_then(|thread| thread.parse().ok()).expect("a number")
}

/// The system calls of one thread, by strace(1).
pub struct Trace {
    strace: Child,
    file: PathBuf,
}

impl Trace {
    /// From now on.
    pub fn of(thread: u32, ns: &Namespace) -> Trace {
        let file = ns.path("trace");
        let attach = ["--quiet=all", "--attach", &thread.to_string(), "--output"];
        let strace = Command::new("strace").args(attach).arg(&file).spawn();
        let strace = strace.expect("strace is installed: run 'make test'");
        let deadline = Instant::now() + TIMEOUT;
        while fs::read_to_string(format!("/proc/{thread}/status")).unwrap().contains("TracerPid:\t0\n") {
            assert!(Instant::now() < deadline, "strace can't trace here");
            std::thread::sleep(Duration::from_millis(5));
        }
        Trace { strace, file }
    }

    /// Those until now, one a line.
    pub fn finish(mut self) -> String {
        run(&format!("kill -TERM {}", self.strace.id()));
        self.strace.wait().expect("wait");
        fs::read_to_string(&self.file).expect("a trace")
    }
}
