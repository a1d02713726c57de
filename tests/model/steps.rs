//! The steps of a sequence, and how proptest makes and shrinks them.

use proptest::collection::vec;
use proptest::prelude::*;

use super::policy::{FOLDERS, File, Line, NAMES};
use super::settings::{ATTRIBUTES, Attribute, FORWARDING_AND_RP_FILTER, GLOBAL, IP_FORWARD, key};

/// A place among `all`, `default` and the interfaces that are there when it is used.
pub type Place = u8;

/// A write, of whatever has this number when it is carried out.
#[derive(Clone, Debug)]
pub struct Write {
    pub attribute: u8,
    pub place: Place,
    pub value: u8,
}

#[derive(Clone, Copy, Debug)]
pub enum LinkStep {
    /// One of [`KINDS`].
    Add(u8),
    Delete(Place),
    /// To one of [`NEW_NAMES`].
    Rename(Place, u8),
    /// To another network namespace.
    Away(Place),
    Back(Place),
    Up(Place),
    Down(Place),
    /// Below IPv6's least, and back.
    SmallMtu(Place),
}

/// Arguments of `ip link add`.
pub const KINDS: [&str; 5] = [
    "v0 type veth peer name v1",
    "w0 type veth peer name w1",
    "br0 type bridge",
    "if0 type ifb",
    "vx0 type vxlan id 7 dstport 4789",
];
pub const NEW_NAMES: [&str; 3] = ["br7", "tunl0", "v9"];

#[derive(Clone, Copy, Debug)]
pub enum BusStep {
    /// The bus is killed, started or restarted.
    Bus(bool),
    Logind(bool),
    /// PrepareForSleep, this many times; the opposite one may never come.
    Sleep(bool, u8),
}

#[derive(Clone, Debug)]
pub enum Step {
    Write(Write),
    Link(LinkStep),
    /// Folder, name and content; whether SIGHUP follows, too.
    Policy(u8, u8, Option<File>, bool),
    /// SIGHUP, or SIGUSR1.
    Signal(bool),
    Bus(BusStep),
    /// Several processes at once, and one that changes interfaces.
    Burst(Vec<Vec<Write>>, Vec<LinkStep>),
    /// All this while the guard is stopped; whether the kernel also sends more than the guard's socket holds.
    Stopped(Vec<Write>, Vec<LinkStep>, bool),
    /// One setting as fast as possible, for this many times 10 ms.
    Flood(Write, u8),
    Quiet,
}

#[derive(Clone, Debug)]
pub struct Sequence {
    pub bus: bool,
    pub policy: Vec<(u8, u8, File)>,
    /// Of [`KINDS`].
    pub links: Vec<u8>,
    /// Before the guard starts.
    pub writes: Vec<Write>,
    pub steps: Vec<Step>,
}

pub fn sequences() -> impl Strategy<Value = Sequence> {
    let file = (0..FOLDERS.len() as u8, 0..NAMES.len() as u8, files());
    (any::<bool>(), vec(file, 0..3), vec(0..KINDS.len() as u8, 1..4), vec(writes(), 0..4), vec(steps(), 1..10))
        .prop_map(|(bus, policy, links, writes, steps)| Sequence { bus, policy, links, writes, steps })
}

fn steps() -> impl Strategy<Value = Step> {
    let policy =
        (0..FOLDERS.len() as u8, 0..NAMES.len() as u8, proptest::option::weighted(0.8, files()), any::<bool>());
    prop_oneof![
        20 => writes().prop_map(Step::Write),
        8 => link_steps().prop_map(Step::Link),
        8 => policy.prop_map(|(folder, name, file, hup)| Step::Policy(folder, name, file, hup)),
        1 => any::<bool>().prop_map(Step::Signal),
        3 => bus_steps().prop_map(Step::Bus),
        4 => (vec(vec(writes(), 1..8), 1..4), vec(link_steps(), 0..3)).prop_map(|(w, l)| Step::Burst(w, l)),
        4 => (vec(writes(), 0..8), vec(link_steps(), 0..3), proptest::bool::weighted(0.3))
            .prop_map(|(w, l, overrun)| Step::Stopped(w, l, overrun)),
        1 => (writes(), 1..20u8).prop_map(|(write, times)| Step::Flood(write, times)),
        1 => Just(Step::Quiet),
    ]
}

/// Half of them of what the program is for, and many of `all` and `default`: there one write is many.
fn writes() -> impl Strategy<Value = Write> {
    let attribute = prop_oneof![0..FORWARDING_AND_RP_FILTER, 0..(ATTRIBUTES.len() + GLOBAL.len()) as u8];
    let place = prop_oneof![0..2u8, 0..8u8];
    (attribute, place, 0..6u8).prop_map(|(attribute, place, value)| Write { attribute, place, value })
}

fn link_steps() -> impl Strategy<Value = LinkStep> {
    prop_oneof![
        4 => (0..KINDS.len() as u8).prop_map(LinkStep::Add),
        2 => (0..8u8).prop_map(LinkStep::Delete),
        2 => (0..8u8, 0..NEW_NAMES.len() as u8).prop_map(|(place, name)| LinkStep::Rename(place, name)),
        2 => (0..8u8).prop_map(LinkStep::Away),
        2 => (0..8u8).prop_map(LinkStep::Back),
        2 => (0..8u8).prop_map(LinkStep::Up),
        1 => (0..8u8).prop_map(LinkStep::Down),
        1 => (0..8u8).prop_map(LinkStep::SmallMtu),
    ]
}

fn bus_steps() -> impl Strategy<Value = BusStep> {
    prop_oneof![
        1 => any::<bool>().prop_map(BusStep::Bus),
        1 => any::<bool>().prop_map(BusStep::Logind),
        2 => (any::<bool>(), 1..3u8).prop_map(|(start, times)| BusStep::Sleep(start, times)),
    ]
}

fn files() -> impl Strategy<Value = File> {
    prop_oneof![
        12 => vec(lines(), 0..6).prop_map(File::Text),
        1 => Just(File::Mask),
        1 => Just(File::Dangling),
        1 => Just(File::Folder),
    ]
}

const PLACES: [&str; 14] =
    ["all", "all", "default", "*", "*", "lo", "v0", "v1", "br0", "tunl0", "v?", "br*", "[vi]*", "w0"];

fn lines() -> impl Strategy<Value = Line> {
    let settings = (0..ATTRIBUTES.len() + GLOBAL.len(), 0..PLACES.len(), 0..6usize);
    let bad = ["net.ipv4.conf..forwarding = 1", "net.ipv4.ip_forward", "net/../x = 1", "= 1"];
    prop_oneof![
        12 => (0..ROUTER.len()).prop_map(|index| match ROUTER[index] {
            (key, Some(value)) => Line::Set(key.into(), value.into()),
            (key, None) => Line::Exclude(key.into()),
        }),
        16 => settings.clone().prop_map(|(attribute, place, value)| {
            let (key, value) = setting(attribute, PLACES[place], value);
            Line::Set(key, value)
        }),
        3 => settings.prop_map(|(attribute, place, value)| Line::Exclude(setting(attribute, PLACES[place], value).0)),
        1 => (0..=bad.len()).prop_map(move |index| bad.get(index).map_or(Line::Left, |text| Line::Bad(text))),
    ]
}

/// What a sequence with interfaces that the policy leaves alone needs.
const ROUTER: [(&str, Option<&str>); 6] = [
    (IP_FORWARD, Some("1")),
    ("net/ipv6/conf/all/forwarding", Some("1")),
    ("net/ipv4/conf/v0/forwarding", None),
    ("net/ipv6/conf/br0/forwarding", None),
    ("net/ipv4/conf/*/forwarding", Some("1")),
    ("net/ipv4/conf/all/accept_redirects", Some("0")),
];

/// Key and value, by numbers that mean something in any case.
pub fn setting(attribute: usize, place: &str, value: usize) -> (String, String) {
    let (key, values) = match ATTRIBUTES.get(attribute) {
        Some(Attribute { folder, name, values }) => (key(folder, place, name), *values),
        None => {
            let (key, values) = GLOBAL[(attribute - ATTRIBUTES.len()) % GLOBAL.len()];
            (key.to_string(), values)
        }
    };
    (key, values[value % values.len()].to_string())
}

/// A write, by the interfaces that are there.
pub fn resolve(links: &[String], write: &Write) -> (String, String) {
    let place = match write.place {
        0 => "all",
        1 => "default",
        number => &links[usize::from(number - 2) % links.len()],
    };
    setting(write.attribute.into(), place, write.value.into())
}
