//! How many packets of a stream through the node are lost when forwarding is switched off.

use std::fs;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::contender::Contender;
use crate::document::Run;
use crate::node::{Node, What, run as run_line};
use crate::repair::{Flips, Look};

const PER_SECOND: u64 = 100_000;
/// The guard becomes idle in between, as on a node where that happens once in a while.
const BETWEEN: Duration = Duration::from_millis(50);
const TURNS: usize = 3;

/// client 10.9.1.2 ── 10.9.1.1 node 10.9.2.1 ── 10.9.2.2 pod; 100,000 packets of UDP a second from one to the other.
pub fn lost(node: &Node, run: &mut Run, rounds: usize) -> Result<()> {
    const TITLE: &str = "A stream of 100,000 packets a second";
    let flips_in_turn = rounds.div_ceil(TURNS);
    let (ends, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let (ends, sent) = (&ends, &sent);
    scope(|threads| -> Result<()> {
        let (pod_is, pod) = channel();
        let pod_thread = threads.spawn(move || -> Result<()> {
            unshare(libc::CLONE_NEWNET)?;
            // No process reads from it: what does not fit is dropped here, without an answer.
            let _socket = UdpSocket::bind("0.0.0.0:9")?;
            pod_is.send(rustix::thread::gettid().as_raw_nonzero())?;
            while !ends.load(Ordering::Relaxed) {
                sleep(Duration::from_millis(20));
            }
            Ok(())
        });
        let pod = pod.recv().context("the pod")?;
        let (client_is, client) = channel();
        let (go, goes) = channel::<()>();
        let client_thread = threads.spawn(move || -> Result<()> {
            unshare(libc::CLONE_NEWNET)?;
            client_is.send(rustix::thread::gettid().as_raw_nonzero())?;
            goes.recv()?;
            send(ends, sent)
        });
        let client = client.recv().context("the client")?;
        let measured = (|| {
            lay_out(client.get(), pod.get())?;
            go.send(())?;
            sleep(Duration::from_millis(500));
            // Without a socket of its own, whose messages would make the write longer.
            let flips = Flips::new(node, What::IpForward, Look::Always)?;
            let mut lost = [(Contender::Floor, 0.0), (Contender::Guard, 0.0)];
            let arrived = format!("/proc/{pod}/net/dev");
            for _ in 0..TURNS {
                for (contender, lost) in &mut lost {
                    let running = contender.start(&node.target(What::IpForward), true)?;
                    let before = difference(sent, &arrived)?;
                    flips.unwatched(flips_in_turn, BETWEEN)?;
                    sleep(Duration::from_millis(50));
                    *lost += difference(sent, &arrived)? - before;
                    drop(running);
                }
            }
            let count = (flips_in_turn * TURNS) as f64;
            for (contender, all) in lost {
                run.take(TITLE, contender.name(), "lost per flip", all / count);
                run.take(TITLE, contender.name(), "lost / floor's", all / lost[0].1);
                run.take(TITLE, contender.name(), "flips", count);
            }
            Ok(())
        })();
        ends.store(true, Ordering::Relaxed);
        drop(go);
        let ended = [pod_thread, client_thread].map(|thread| thread.join().unwrap_or(Ok(())));
        measured.and(ended.into_iter().collect())
    })
}

/// A network of its own for the calling thread.
fn unshare(flags: libc::c_int) -> Result<()> {
    // SAFETY: no memory is involved; the thread gets namespaces of its own, or an error.
    ensure!(unsafe { libc::unshare(flags) } == 0, "unshare: {}", std::io::Error::last_os_error());
    Ok(())
}

fn lay_out(client: i32, pod: i32) -> Result<()> {
    let inside = |thread: i32, line: &str| run_line(&format!("nsenter --net=/proc/{thread}/ns/net ip {line}"));
    for (side, thread, name) in [(1, client, "client"), (2, pod, "pod")] {
        run_line(&format!("ip link add {name} type veth peer name end{side}"))?;
        run_line(&format!("ip link set end{side} netns {thread}"))?;
        run_line(&format!("ip addr add 10.9.{side}.1/24 dev {name}"))?;
        run_line(&format!("ip link set {name} up"))?;
        inside(thread, &format!("addr add 10.9.{side}.2/24 dev end{side}"))?;
        inside(thread, &format!("link set end{side} up"))?;
        inside(thread, &format!("route add default via 10.9.{side}.1"))?;
    }
    Ok(())
}

/// Sends at an even pace; packets that are late are sent at once.
fn send(ends: &AtomicBool, sent: &AtomicU64) -> Result<()> {
    let socket = UdpSocket::bind("10.9.1.2:0")?;
    socket.connect("10.9.2.2:9")?;
    let since = Instant::now();
    let mut count = 0;
    while !ends.load(Ordering::Relaxed) {
        let due = since.elapsed().as_nanos() as u64 * PER_SECOND / 1_000_000_000;
        while count < due {
            // While the node does not forward, it answers that there is no route; the next packet is sent all the same.
            let _ = socket.send(&[0; 64]);
            count += 1;
            sent.store(count, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// Packets sent that have not arrived. Those under way are as many each time.
fn difference(sent: &AtomicU64, arrived: &str) -> Result<f64> {
    let text = fs::read_to_string(arrived)?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("end2:")).context("end2")?;
    let packets: u64 = line.split_whitespace().nth(1).context("packets")?.parse()?;
    Ok(sent.load(Ordering::Relaxed) as f64 - packets as f64)
}
