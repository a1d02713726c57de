//! The outcome that a step must have: the kernel's rules, then the guard's, for one event after the other or many at once.

use std::collections::{BTreeMap, BTreeSet};

use super::kernel::{Bit, Kernel, all_of};
use super::policy::Policy;
use super::settings::{self, ATTRIBUTES, FANNED_OUT, FORWARDING, V6, all_redirects, apart, canonical};
use super::tally::Tally;

/// The values that a setting may have; a setting that is not named may have any.
pub type Allowed = BTreeMap<String, BTreeSet<String>>;

/// Writes that happen at once, or while the guard is stopped.
#[derive(Debug, Default)]
pub struct Many {
    /// By process, in order: key and value.
    pub writes: Vec<Vec<(String, String)>>,
    /// Interfaces that came, went or were renamed meanwhile: the model knows nothing of their settings.
    pub touched: BTreeSet<String>,
    pub guard_stopped: bool,
    /// How often all of it was written.
    pub times: u64,
}

/// What the guard knows of the values before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Knows {
    All,
    /// It has read another policy: it knows all of forwarding, but IPv6's only if it guarded some before; of the rest nothing.
    Reloaded {
        guarded_v6: bool,
    },
    /// It starts.
    Nothing,
}

#[derive(Clone, Debug, Default)]
pub struct Model {
    pub kernel: Kernel,
    pub policy: Policy,
    pub tally: Tally,
    /// Interfaces that have just come or been renamed. The guard checks them by itself, and may do so just as their forwarding
    /// changes with `all`, before it has received that change.
    pub fresh: BTreeSet<String>,
}

impl Model {
    fn wanted(&self, key: &str) -> Option<String> {
        self.policy.wanted(key).map(str::to_string)
    }

    fn is_wrong(&self, key: &str) -> Option<String> {
        self.wanted(key).filter(|wanted| self.kernel.values.get(key).is_some_and(|value| value != wanted))
    }

    /// All settings as they must be, where nothing is uncertain.
    pub fn exactly(&self) -> Allowed {
        self.kernel.values.iter().map(|(key, value)| (key.clone(), BTreeSet::from([value.clone()]))).collect()
    }

    /// One write, after which the guard has time to repair.
    pub fn write(&mut self, key: &str, value: &str) -> Allowed {
        let before = self.kernel.clone();
        let unsure = self.kernel.write(key, value);
        let mut allowed = self.repair(&before, Knows::All);
        let default_is_kept = self.wanted(&canonical(key)).is_some();
        for fan in unsure {
            if self.wanted(&fan).is_some() {
                self.tally.expect(&fan, 0, 1);
            } else if !default_is_kept {
                allowed.entry(fan).or_default().insert(value.to_string());
            }
        }
        allowed
    }

    /// The guard repairs what is wrong. `before`: the values before the drift.
    pub fn repair(&mut self, before: &Kernel, knows: Knows) -> Allowed {
        let mut alternatives = Allowed::new();
        for (folder, name) in FANNED_OUT {
            self.repair_all(folder, name, before, knows, &mut alternatives);
        }
        let keys: Vec<String> = self.kernel.values.keys().cloned().collect();
        let is_default = |key: &&String| apart(key).is_some_and(|(_, place, _)| place == "default");
        for key in keys.iter().filter(is_default).chain(keys.iter().filter(|key| !is_default(key))) {
            let Some(wanted) = self.is_wrong(key) else { continue };
            self.tally.expect(key, 1, 1);
            for fan in self.kernel.fan_out(key) {
                match self.wanted(&fan) {
                    // Repaired with default or by itself.
                    Some(right) => {
                        self.tally.expect(&fan, 0, 1);
                        self.kernel.values.insert(fan.clone(), right);
                        self.kernel.set_bit(&fan, Bit::Unknown);
                    }
                    None if self.kernel.bit(&fan) == Bit::Unknown => {
                        alternatives.entry(fan).or_default().insert(wanted.clone());
                    }
                    None => {}
                }
            }
            self.kernel.write(key, &wanted);
        }
        let mut allowed = self.exactly();
        for (key, values) in alternatives {
            allowed.entry(key).or_default().extend(values);
        }
        allowed
    }

    fn repair_all(&mut self, folder: &str, name: &str, before: &Kernel, knows: Knows, alternatives: &mut Allowed) {
        let all = settings::key(folder, "all", name);
        let Some(wanted) = self.is_wrong(&all) else { return };
        let knows_nothing = knows == Knows::Nothing || matches!(knows, Knows::Reloaded { .. }) && name != FORWARDING;
        let found = self.kernel.clone();
        self.tally.expect(&all, 1, 1);
        self.kernel.write(&all, &wanted);
        for fan in found.fan_out(&all) {
            let was = before.values[&fan].clone();
            match self.wanted(&fan) {
                Some(right) => {
                    // A right value changes with `all` and is restored with it; accept_redirects is a setting like any other.
                    let is_fresh = apart(&fan).is_some_and(|(_, place, _)| self.fresh.contains(place));
                    // At the start the guard knows no earlier value, and logs what changes with its first write of IPv6's `all`.
                    let at_start = knows == Knows::Nothing && name != FORWARDING;
                    let by_itself = was != right || is_fresh || at_start || fan == all_redirects();
                    self.tally.expect(&fan, 0, u64::from(by_itself));
                    self.kernel.values.insert(fan, right);
                }
                None if knows_nothing => {
                    if self.policy.excludes(&fan) || fan == all_redirects() {
                        self.kernel.values.insert(fan.clone(), found.values[&fan].clone());
                    }
                }
                None => {
                    if knows == (Knows::Reloaded { guarded_v6: false }) && folder == V6 {
                        alternatives.entry(fan.clone()).or_default().insert(wanted.clone());
                    }
                    self.kernel.values.insert(fan, was);
                }
            }
        }
    }

    /// An interface came, and may have taken the place of others.
    pub fn come(&mut self, link: &str) -> Allowed {
        let unknown = self.kernel.come(link);
        let before = self.kernel.clone();
        let mut allowed = self.repair(&before, Knows::All);
        for key in unknown {
            if let Some(wanted) = self.wanted(&key) {
                self.tally.expect(&key, 0, 1);
                allowed.insert(key, BTreeSet::from([wanted]));
            }
        }
        allowed
    }

    /// Many events at once.
    pub fn at_once(&mut self, many: &Many) -> Allowed {
        let before = self.kernel.clone();
        let mut after = self.kernel.clone();
        // Exact only where one write came after the other.
        for (key, value) in many.writes.iter().flatten() {
            after.write(key, value);
        }
        let mut allowed = Allowed::new();
        // Some may have come and gone again.
        let touched = many
            .touched
            .iter()
            .flat_map(|place| ATTRIBUTES.iter().map(move |a| settings::key(a.folder, place, a.name)));
        touched.for_each(|key| self.tally.ignore(&key));
        for key in before.values.keys() {
            let is_touched = apart(key).is_some_and(|(_, place, _)| many.touched.contains(place));
            if !is_touched {
                allowed.insert(key.clone(), self.of_one(key, many, &before, &after));
            }
            if let Some(wanted) = self.wanted(key).filter(|_| is_touched) {
                allowed.insert(key.clone(), BTreeSet::from([wanted]));
            }
        }
        for (key, _) in many.writes.iter().flatten() {
            self.kernel.set_bit(&canonical(key), Bit::Set);
        }
        for key in before.values.keys() {
            let is_touched = apart(key).is_some_and(|(_, place, _)| many.touched.contains(place));
            if is_touched || self.wanted(key).is_some() && self.kernel.bit(key) == Bit::Clear {
                self.kernel.set_bit(key, Bit::Unknown);
            }
        }
        allowed
    }

    fn of_one(&mut self, key: &str, many: &Many, before: &Kernel, after: &Kernel) -> BTreeSet<String> {
        let direct_of = |writes: &Vec<(String, String)>| -> Vec<String> {
            writes.iter().filter(|(written, _)| canonical(written) == key).map(|(_, value)| value.clone()).collect()
        };
        let direct: Vec<Vec<String>> = many.writes.iter().map(direct_of).filter(|values| !values.is_empty()).collect();
        let fanned: Vec<(String, String)> = many
            .writes
            .iter()
            .flatten()
            .filter(|(written, _)| before.fan_out(&canonical(written)).iter().any(|fan| fan == key))
            .map(|(written, value)| (canonical(written), value.clone()))
            .collect();
        let writes = (direct.iter().map(Vec::len).sum::<usize>() + fanned.len()) as u64 * many.times;
        let (was, is) = (before.values[key].clone(), after.values[key].clone());
        if let Some(wanted) = self.wanted(key) {
            let sure = many.guard_stopped && fanned.is_empty() && many.touched.is_empty() && is != wanted;
            self.tally.expect(key, u64::from(sure), if key == all_redirects() { 2 * writes } else { writes });
            return BTreeSet::from([wanted]);
        }
        let drifted = |all: &String| {
            let wanted = self.wanted(all);
            wanted.is_some_and(|wanted| many.writes.iter().flatten().any(|(k, v)| canonical(k) == *all && *v != wanted))
        };
        let goes_with_all = all_of(key).filter(|all| all != key && drifted(all));
        let of_default = apart(key).map(|(folder, _, name)| settings::key(folder, "default", name));
        let default = of_default.filter(|default| default != key).and_then(|default| self.wanted(&default));
        let mut may = BTreeSet::new();
        let both = key == all_redirects() && goes_with_all.is_some() && !direct.is_empty();
        if many.guard_stopped && many.times == 1 {
            may.insert(is);
            if before.bit(key) == Bit::Unknown && direct.is_empty() {
                may.extend(fanned.iter().map(|(_, value)| value.clone()).chain([was.clone()]));
            }
        } else if fanned.is_empty() && direct.is_empty() {
            may.insert(was.clone());
        } else if fanned.is_empty() {
            may.extend(direct.iter().filter_map(|values| values.last().cloned()));
            return may;
        }
        if !fanned.is_empty() {
            may.extend(direct.into_iter().flatten());
            may.extend(default.filter(|_| goes_with_all.is_none() && before.bit(key) != Bit::Set));
            if goes_with_all.is_some() || !many.guard_stopped {
                may.insert(was);
            }
            if !many.guard_stopped {
                for (all, value) in &fanned {
                    // The guard undoes what `all` changed, unless a process wrote the policy's value.
                    let undone = goes_with_all.is_some() && self.wanted(all).as_ref() != Some(value);
                    let value = if key == all_redirects() { super::kernel::opposite(value) } else { value };
                    may.extend((!undone).then(|| value.to_string()));
                }
            }
            if both {
                // Both the kernel and a process wrote it, in an order that is not known.
                may.extend(["0", "1"].map(String::from));
            }
        }
        may
    }

    /// What was uncertain is known from the observed values now.
    pub fn know(&mut self, observed: BTreeMap<String, String>, links: Vec<String>) {
        self.kernel.values = observed;
        self.kernel.links = links;
        self.kernel.know_bits();
    }
}
