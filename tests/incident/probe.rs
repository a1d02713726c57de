//! Asks the pod again and again for `make incident`: over HTTP and by ping, 20 times a second each, inside the machine.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use rustix::net::{AddressFamily, SocketType, ipproto, socket};
use rustix::time::{ClockId, clock_gettime};

/// 20 times a second.
const PERIOD: Duration = Duration::from_millis(50);
/// Shorter than the second after which TCP sends a SYN again: an answer belongs to the packet that was sent at its time.
const LOST_AFTER: Duration = Duration::from_millis(900);
/// The two clocks drift apart by this only while the machine sleeps.
const ASLEEP: Duration = Duration::from_millis(500);

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nup\n";
const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;

/// Prints lines of tab-separated fields. Times are microseconds of CLOCK_MONOTONIC, which stands still in a sleep.
#[derive(Parser)]
enum Command {
    /// Answer HTTP requests
    Serve { address: SocketAddr },
    /// Send requests and pings: `http` or `ping`, when it was sent, and when it was answered (`-`: within 900 ms it was not)
    Watch {
        /// Where HTTP requests go
        #[arg(long)]
        http: SocketAddr,
        /// Where pings go; the group of this process must be in net.ipv4.ping_group_range
        #[arg(long)]
        ping: Ipv4Addr,
    },
    /// Say what happens now: `mark`, the time, and the name
    Mark { name: String },
}

fn main() -> Result<()> {
    match Command::parse() {
        Command::Serve { address } => serve(address),
        Command::Watch { http, ping } => watch(http, ping),
        Command::Mark { name } => print("mark", now(ClockId::Monotonic), &name),
    }
}

fn now(clock: ClockId) -> Duration {
    clock_gettime(clock).try_into().expect("these clocks start at 0")
}

fn print(kind: &str, at: Duration, what: &str) -> Result<()> {
    // One write a line, so that a probe that is killed leaves whole lines.
    io::stdout().write_all(format!("{kind}\t{}\t{what}\n", at.as_micros()).as_bytes())?;
    Ok(())
}

fn print_answer(kind: &str, sent: Duration, answered: Option<Duration>) -> Result<()> {
    print(kind, sent, &answered.map_or_else(|| "-".into(), |at| at.as_micros().to_string()))
}

fn serve(address: SocketAddr) -> Result<()> {
    for stream in TcpListener::bind(address).with_context(|| address.to_string())?.incoming() {
        // A client that disconnects is no fault of the server's.
        thread::spawn(move || stream.and_then(|stream| answer(&stream)));
    }
    Ok(())
}

fn answer(mut stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(LOST_AFTER))?;
    stream.read_exact(&mut [0; REQUEST.len()])?;
    stream.write_all(RESPONSE)
}

fn watch(http: SocketAddr, ping: Ipv4Addr) -> Result<()> {
    let socket = UdpSocket::from(socket(AddressFamily::INET, SocketType::DGRAM, Some(ipproto::ICMP))?);
    socket.connect((ping, 0)).context("ping")?;
    let unanswered = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        scope.spawn(|| receive_pings(&socket, &unanswered));
        let mut next = now(ClockId::Monotonic);
        let mut slept = now(ClockId::Boottime).saturating_sub(next);
        for number in 0_u16.. {
            let at = now(ClockId::Monotonic);
            let slept_by_now = now(ClockId::Boottime).saturating_sub(at);
            if slept_by_now > slept + ASLEEP {
                print("mark", at, "woke")?;
            }
            slept = slept_by_now;

            unanswered.lock().expect("no holder panics").insert(number, at);
            // A refused packet is a lost one.
            let _ = socket.send(&echo_request(number));
            scope.spawn(move || print_answer("http", at, fetch(http, at).ok()));
            give_up(&unanswered, at)?;

            // After a sleep or a pause it goes on from there.
            next = (next + PERIOD).max(at);
            thread::sleep(next.saturating_sub(now(ClockId::Monotonic)));
        }
        Ok(())
    })
}

/// When the answer was complete; an error if it was not one, or came too late.
fn fetch(address: SocketAddr, sent: Duration) -> Result<Duration> {
    let mut stream = TcpStream::connect_timeout(&address, LOST_AFTER)?;
    let left = (sent + LOST_AFTER).saturating_sub(now(ClockId::Monotonic));
    stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
    stream.write_all(REQUEST)?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response)?;
    ensure!(response == RESPONSE, "not the pod's answer");
    let answered = now(ClockId::Monotonic);
    ensure!(answered < sent + LOST_AFTER, "too late");
    Ok(answered)
}

/// RFC 792; the kernel fills in the identifier and the checksum (ping(4) sockets, `ping_v4_sendmsg`).
fn echo_request(number: u16) -> [u8; 8] {
    let [high, low] = number.to_be_bytes();
    [ECHO_REQUEST, 0, 0, 0, 0, 0, high, low]
}

fn receive_pings(socket: &UdpSocket, unanswered: &Mutex<BTreeMap<u16, Duration>>) -> Result<()> {
    let mut message = [0; 64];
    loop {
        // Errors such as "no route" show as a missing answer.
        let Ok(length) = socket.recv(&mut message) else { continue };
        if let [ECHO_REPLY, _, _, _, _, _, high, low, ..] = message[..length] {
            let number = u16::from_be_bytes([high, low]);
            let sent = unanswered.lock().expect("no holder panics").remove(&number);
            if let Some(sent) = sent {
                print_answer("ping", sent, Some(now(ClockId::Monotonic)))?;
            }
        }
    }
}

fn give_up(unanswered: &Mutex<BTreeMap<u16, Duration>>, at: Duration) -> Result<()> {
    let mut unanswered = unanswered.lock().expect("no holder panics");
    while let Some(oldest) = unanswered.first_entry().filter(|oldest| *oldest.get() + LOST_AFTER < at) {
        print_answer("ping", oldest.remove(), None)?;
    }
    Ok(())
}
