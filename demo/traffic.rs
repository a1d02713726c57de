//! Measures for `demo.sh`: steady packets from the client to the pod while the node's forwarding is switched off.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
/// One packet a millisecond, so that packets lost read as milliseconds lost.
const PERIOD: Duration = Duration::from_millis(1);
/// A packet that only shows that the way is open; it is not counted.
const PROBE: u64 = u64::MAX;
const WAY_OPEN_WITHIN: Duration = Duration::from_secs(3);
/// Packets under way when the last one is sent still count.
const GRACE: Duration = Duration::from_millis(200);
/// A repair is expected at once: look all the time for so long, now and then after it.
const BUSY_LOOK: Duration = Duration::from_millis(5);

/// Run in the node's network namespace; prints `name=value` lines, times in microseconds.
#[derive(Parser)]
struct Options {
    /// The client's network namespace
    #[arg(long)]
    client: PathBuf,
    /// The pod's network namespace
    #[arg(long)]
    pod: PathBuf,
    /// Where the pod listens
    #[arg(long)]
    address: SocketAddr,
    /// How long the traffic lasts, in milliseconds
    #[arg(long)]
    length: u64,
    /// When forwarding is switched off for the first time, in milliseconds
    #[arg(long)]
    first: u64,
    /// Milliseconds from one switching off to the next
    #[arg(long, default_value_t = 300)]
    every: u64,
    /// How many times forwarding is switched off
    #[arg(long)]
    times: u64,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let pod = socket_in(&options.pod, options.address).context("the pod's socket")?;
    let client = socket_in(&options.client, ([0, 0, 0, 0], 0).into()).context("the client's socket")?;
    // Opened here, the file is the node's; the other namespaces have their own behind the same path.
    let ip_forward = File::options().read(true).write(true).open(IP_FORWARD).context(IP_FORWARD)?;
    wait_for_open_way(&client, &pod, options.address)?;

    let packets = Duration::from_millis(options.length).div_duration_f64(PERIOD) as usize;
    let over = AtomicBool::new(false);
    let start = Instant::now();
    let (sent, came, repairs) = thread::scope(|scope| {
        let receiver = scope.spawn(|| receive(&pod, packets, &over));
        let sender = scope.spawn(|| send(&client, options.address, packets, start));
        let repairs = switch_off_again_and_again(&ip_forward, &options, start);
        let sent = sender.join().expect("the sender does not panic");
        thread::sleep(GRACE);
        over.store(true, Ordering::Release);
        let came = receiver.join().expect("the receiver does not panic");
        repairs.map(|repairs| (sent, came, repairs))
    })?;

    println!("sent={packets}");
    println!("lost={}", came.iter().filter(|came| !**came).count());
    println!("outage={}", longest_outage(&sent, &came).as_micros());
    println!("switched_off={}", options.times);
    println!("repaired={}", repairs.len());
    println!("median={}", repairs.get(repairs.len() / 2).map_or(0, Duration::as_micros));
    println!("longest={}", repairs.last().map_or(0, Duration::as_micros));
    Ok(())
}

/// A socket stays in the namespace that it was made in; only a thread of its own goes there.
fn socket_in(namespace: &Path, address: SocketAddr) -> Result<UdpSocket> {
    let make = || -> Result<UdpSocket> {
        let file = File::open(namespace).with_context(|| namespace.display().to_string())?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
        let socket = UdpSocket::bind(address)?;
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        Ok(socket)
    };
    thread::scope(|scope| scope.spawn(make).join().expect("making a socket does not panic"))
}

fn wait_for_open_way(client: &UdpSocket, pod: &UdpSocket, address: SocketAddr) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < WAY_OPEN_WITHIN {
        // An unreachable pod may show as an error of the next send; what counts is what arrives.
        let _ = client.send_to(&PROBE.to_be_bytes(), address);
        if receive_one(pod)?.is_some() {
            return Ok(());
        }
    }
    bail!("no packet came from the client to the pod within {} s", WAY_OPEN_WITHIN.as_secs())
}

/// The number of the packet that came, or `None` if none came for a while.
fn receive_one(pod: &UdpSocket) -> io::Result<Option<u64>> {
    let mut number = [0; 8];
    match pod.recv(&mut number) {
        Ok(_) => Ok(Some(u64::from_be_bytes(number))),
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Sends one packet a period and returns when each was sent. A refused packet is a lost one: the pod will miss it.
fn send(client: &UdpSocket, address: SocketAddr, packets: usize, start: Instant) -> Vec<Duration> {
    let mut sent = Vec::with_capacity(packets);
    for number in 0..packets {
        thread::sleep((PERIOD * number as u32).saturating_sub(start.elapsed()));
        sent.push(start.elapsed());
        let _ = client.send_to(&(number as u64).to_be_bytes(), address);
    }
    sent
}

/// Which packets came, until `over` is set and nothing more comes.
fn receive(pod: &UdpSocket, packets: usize, over: &AtomicBool) -> Vec<bool> {
    let mut came = vec![false; packets];
    loop {
        match receive_one(pod) {
            Ok(Some(number)) => {
                if let Some(came) = came.get_mut(number as usize) {
                    *came = true;
                }
            }
            Ok(None) | Err(_) if over.load(Ordering::Acquire) => return came,
            Ok(None) | Err(_) => (),
        }
    }
}

/// What `network stop` does, at the given times; the times to repair, sorted, of those that were repaired.
fn switch_off_again_and_again(ip_forward: &File, options: &Options, start: Instant) -> io::Result<Vec<Duration>> {
    let mut repairs = Vec::new();
    for time in 0..options.times {
        // Each a little later within the packets' period: one that always met a packet, or never did, would mislead.
        let phase = PERIOD.mul_f64(time as f64 / options.times as f64);
        let at = Duration::from_millis(options.first + time * options.every) + phase;
        thread::sleep(at.saturating_sub(start.elapsed()));
        repairs.extend(switch_off(ip_forward, Duration::from_millis(options.every) / 2)?);
    }
    repairs.sort_unstable();
    Ok(repairs)
}

/// Writes 0 and returns how long after that this thread reads 1 again, if it does before `give_up`.
///
/// An upper bound: the kernel wakes the guard on the writer's processor, so the writer often reads only when the guard
/// has also told of its repair. A second thread that looks all the time would be in the way on a small machine.
fn switch_off(ip_forward: &File, give_up: Duration) -> io::Result<Option<Duration>> {
    let written = Instant::now();
    ip_forward.write_all_at(b"0\n", 0)?;
    while written.elapsed() < give_up {
        let mut value = [0; 1];
        ip_forward.read_exact_at(&mut value, 0)?;
        if value == *b"1" {
            return Ok(Some(written.elapsed()));
        }
        if written.elapsed() < BUSY_LOOK {
            thread::yield_now();
        } else {
            thread::sleep(BUSY_LOOK / 10);
        }
    }
    Ok(None)
}

/// From the last packet that came before a loss to the first one after it (or to the last one sent), at its longest.
fn longest_outage(sent: &[Duration], came: &[bool]) -> Duration {
    let mut longest = Duration::ZERO;
    let mut last_good = 0;
    for number in 0..came.len() {
        let last = number + 1 == came.len();
        if came[number] || last {
            // Two packets that came one after the other are no outage, however late the second was sent.
            if number > last_good + 1 || !came[number] {
                longest = longest.max(sent[number] - sent[last_good]);
            }
            last_good = number;
        }
    }
    longest
}
