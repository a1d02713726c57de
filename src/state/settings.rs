//! What is known of the guarded settings: of each interface, of those that are not announced, and which came and went.
//!
//! It owns their current values and baselines.

use std::collections::{BTreeMap, HashMap};

use super::interface::{Cell, Interface, Move, Unannounced};
use super::{SettingId, State};
use crate::kernel::message::Link;
use crate::kernel::name::Name;
use crate::policy::Policy;
use crate::setting::{ALL, Attribute, DEFAULT, Family, Key};

/// See the module's documentation.
pub struct Settings {
    /// By ifindex. Boxed, so that the way to one touches little memory, however many there are.
    interfaces: BTreeMap<i32, Box<Interface>>,
    /// Settings whose changes the kernel does not announce.
    unannounced: HashMap<Key, Unannounced>,
    /// Those of them that belong to no interface.
    global: Vec<Key>,
    /// Keys that left `unannounced`, or are no baseline any more.
    gone: Vec<Key>,
    moves: Vec<Move>,
    /// Settings and interfaces guarded, until something comes, goes or changes its policy.
    counts: Option<(usize, usize)>,
}

/// Where a link was put ([`Settings::place`]).
pub struct Placed {
    pub renamed: bool,
    /// The settings of another interface that had its name were dropped, and its own with them.
    pub lost: bool,
    /// Its name before, if it was wholly there under that.
    pub old: Option<Name>,
    /// Its settings before that were not announced.
    pub dropped: Vec<Key>,
    /// What [`Interface::arrive`] says, where the link is complete.
    pub arrival: Option<(bool, bool)>,
}

/// What a list of all links says beyond what was known.
#[derive(Default)]
pub struct Differences<'a> {
    pub gone: Vec<i32>,
    pub renamed: Vec<i32>,
    /// Settings of renamed ones that were not announced.
    pub dropped: Vec<Key>,
    /// Not known under this name.
    pub new: Vec<&'a Link>,
    /// Known, with what [`Interface::arrive`] says.
    pub arrived: Vec<(&'a Link, (bool, bool))>,
}

impl Settings {
    /// Knows `all` and `default`, and no policy.
    pub fn new() -> Settings {
        let pseudo = [(ALL, "all"), (DEFAULT, "default")];
        Settings {
            interfaces: pseudo.map(|(ifindex, name)| (ifindex, Interface::new(name.into()).into())).into(),
            unannounced: HashMap::new(),
            global: Vec::new(),
            gone: Vec::new(),
            moves: Vec::new(),
            counts: None,
        }
    }

    pub fn apply_policy(&mut self, policy: &Policy) {
        self.gone.extend(self.unannounced.drain().map(|(key, _)| key));
        self.global = policy.global().map(|(key, _)| key).collect();
        self.unannounced.extend(policy.global().map(|(key, entry)| (key, Unannounced::new(entry))));
        for interface in self.interfaces.values_mut() {
            interface.apply(policy, &mut self.unannounced);
        }
        self.counts = None;
    }

    pub fn interface(&self, ifindex: i32) -> Option<&Interface> {
        self.interfaces.get(&ifindex).map(|interface| &**interface)
    }

    /// With their ifindex, `all` and `default` included.
    pub fn interfaces(&self) -> impl Iterator<Item = (i32, &Interface)> {
        self.interfaces.iter().map(|(ifindex, interface)| (*ifindex, &**interface))
    }

    /// The cells of one announced setting, with their ifindex.
    pub fn cells_mut(&mut self, family: Family, attribute: Attribute) -> impl Iterator<Item = (i32, &mut Cell)> {
        self.interfaces.iter_mut().map(move |(ifindex, interface)| (*ifindex, interface.cell_mut(family, attribute)))
    }

    pub fn cell(&self, id: &SettingId) -> Option<&Cell> {
        match id {
            SettingId::Announced(family, attribute, ifindex) => {
                Some(self.interfaces.get(ifindex)?.cell(*family, *attribute))
            }
            SettingId::Unannounced(_) => None,
        }
    }

    pub fn cell_mut(&mut self, id: &SettingId) -> Option<&mut Cell> {
        match id {
            SettingId::Announced(family, attribute, ifindex) => {
                Some(self.interfaces.get_mut(ifindex)?.cell_mut(*family, *attribute))
            }
            SettingId::Unannounced(_) => None,
        }
    }

    /// One that the policy names and the kernel does not announce.
    pub fn unannounced(&self, key: &Key) -> Option<&Unannounced> {
        self.unannounced.get(key)
    }

    pub fn unannounced_mut(&mut self, key: &Key) -> Option<&mut Unannounced> {
        self.unannounced.get_mut(key)
    }

    pub fn is_guarded(&self, key: &Key) -> bool {
        self.unannounced.contains_key(key)
    }

    pub fn unannounced_keys(&self) -> impl Iterator<Item = &Key> {
        self.unannounced.keys()
    }

    pub fn global(&self) -> &[Key] {
        &self.global
    }

    /// The policy's entry that decides a setting.
    pub fn entry_of(&self, id: &SettingId) -> Option<usize> {
        match id {
            SettingId::Announced(..) => self.cell(id).and_then(|cell| cell.entry),
            SettingId::Unannounced(key) => self.unannounced.get(key).map(|setting| setting.entry),
        }
    }

    pub fn key_of(&self, id: &SettingId) -> Option<Key> {
        match id {
            SettingId::Announced(family, attribute, ifindex) => {
                Some(Key::conf(*family, &self.interfaces.get(ifindex)?.name, *attribute))
            }
            SettingId::Unannounced(key) => Some(key.clone()),
        }
    }

    /// The last known value.
    pub fn current(&self, id: &SettingId) -> Option<String> {
        match id {
            SettingId::Announced(..) => self.cell(id)?.current.map(|value| value.to_string()),
            SettingId::Unannounced(key) => self.unannounced.get(key)?.current.clone(),
        }
    }

    /// Puts a link where it belongs, under the name that it has now.
    pub fn place(&mut self, policy: &Policy, link: &Link, complete: bool) -> Placed {
        let interface = self.interfaces.entry(link.ifindex).or_insert_with(|| Interface::new(link.name).into());
        let (renamed, mut old, mut dropped) = (interface.name != link.name, None, Vec::new());
        // A name that is asked for may be ahead of the messages: until the last of them, two interfaces have it.
        let lost = !renamed && interface.unannounced.iter().any(|key| !self.unannounced.contains_key(key));
        if renamed || lost || interface.is_new {
            dropped = drop_unannounced(interface, &mut self.unannounced, &mut self.gone);
            if renamed {
                self.moves.push(Move::Gone(interface.name));
                self.moves.push(Move::Here(link.name));
            }
            if renamed && interface.complete {
                old = Some(interface.name);
            }
            interface.name = link.name;
            interface.apply(policy, &mut self.unannounced);
            interface.is_new = false;
            self.counts = None;
        }
        interface.take_mtu(link);
        let arrival = complete.then(|| interface.arrive(link.up));
        Placed { renamed, lost, old, dropped, arrival }
    }

    /// An interface disappeared. Gives its name, and its settings that were not announced.
    pub fn remove(&mut self, ifindex: i32) -> Option<(Name, Vec<Key>)> {
        let mut interface = self.interfaces.remove(&ifindex)?;
        self.moves.push(Move::Gone(interface.name));
        let keys = drop_unannounced(&mut interface, &mut self.unannounced, &mut self.gone);
        self.counts = None;
        Some((interface.name, keys))
    }

    /// Compares what is known with all links that there are, by ifindex. Settings of renamed ones are dropped: names may have
    /// been exchanged, so all old ones have to go before the first new one comes.
    pub fn compare<'a>(&mut self, links: &'a [Link]) -> Differences<'a> {
        let mut differences = Differences::default();
        let mut there = links.iter().peekable();
        for (ifindex, known) in self.interfaces.range_mut(1..) {
            while let Some(link) = there.next_if(|link| link.ifindex < *ifindex) {
                differences.new.push(link);
            }
            match there.next_if(|link| link.ifindex == *ifindex) {
                None => differences.gone.push(*ifindex),
                Some(link) if link.name == known.name => differences.arrived.push((link, known.arrive(link.up))),
                Some(link) => {
                    differences.dropped.extend(drop_unannounced(known, &mut self.unannounced, &mut self.gone));
                    differences.renamed.push(*ifindex);
                    differences.new.push(link);
                }
            }
        }
        differences.new.extend(there);
        differences
    }

    /// The settings of an interface appeared, were made anew, or got files of their own.
    pub fn note_here(&mut self, name: Name) {
        self.moves.push(Move::Here(name));
    }

    /// These are not watched for the sake of their baselines any more.
    pub fn note_gone(&mut self, keys: impl IntoIterator<Item = Key>) {
        self.gone.extend(keys);
    }

    /// Settings appeared or disappeared.
    pub fn recount(&mut self) {
        self.counts = None;
    }

    /// How many settings and interfaces are guarded. Cheap, unless something came, went or changed its policy.
    pub fn counts(&mut self) -> (usize, usize) {
        if let Some(counts) = self.counts {
            return counts;
        }
        let there = |key: &Key| self.unannounced.get(key).is_some_and(|setting| setting.current.is_some());
        let of = |interface: &Interface| {
            interface.cells().filter(|cell| cell.entry.is_some() && cell.current.is_some()).count()
                + interface.unannounced.iter().filter(|key| there(key)).count()
        };
        let (mut settings, mut interfaces) = (self.global.iter().filter(|key| there(key)).count(), 0);
        for (ifindex, interface) in &self.interfaces {
            let guarded = of(interface);
            settings += guarded;
            interfaces += usize::from(*ifindex > 0 && guarded > 0);
        }
        *self.counts.insert((settings, interfaces))
    }
}

/// Gives their keys.
fn drop_unannounced(
    interface: &mut Interface,
    unannounced: &mut HashMap<Key, Unannounced>,
    gone: &mut Vec<Key>,
) -> Vec<Key> {
    let keys = std::mem::take(&mut interface.unannounced);
    keys.iter().for_each(|key| _ = unannounced.remove(key));
    gone.extend_from_slice(&keys);
    keys
}

impl State {
    /// How many interfaces are known, `all` and `default` included.
    pub fn known(&self) -> usize {
        self.settings.interfaces.len()
    }

    pub fn knows(&self, ifindex: i32) -> bool {
        self.settings.interfaces.contains_key(&ifindex)
    }

    /// Whether these, which are sorted, are the interfaces that are known.
    pub fn knows_just(&self, indices: &[i32]) -> bool {
        self.settings.interfaces.range(1..).map(|(ifindex, _)| ifindex).eq(indices)
    }

    pub fn name(&self, ifindex: i32) -> Option<Name> {
        self.settings.interface(ifindex).map(|interface| interface.name)
    }

    /// The interfaces that came and went since this was last asked.
    pub fn take_moves(&mut self) -> Vec<Move> {
        std::mem::take(&mut self.settings.moves)
    }

    /// Settings that were watched and need not be any more, since this was last asked.
    pub fn take_gone(&mut self) -> Vec<Key> {
        let mut gone = std::mem::take(&mut self.settings.gone);
        gone.retain(|key| {
            !self.settings.is_guarded(key) && !self.is_known_baseline(key) && self.followers(key).next().is_none()
        });
        gone
    }
}
