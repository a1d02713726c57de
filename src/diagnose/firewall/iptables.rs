//! The rules of iptables, as `iptables-save -c` prints them (iptables-extensions(8)).

use std::net::IpAddr;

use super::{Action, Base, Chain, Field, Hook, Match, Rule, Ruleset, Value};

/// Tables in the order in which the kernel calls their chains at a hook.
const TABLES: [&str; 5] = ["raw", "mangle", "nat", "filter", "security"];

/// Modules that match only by their options.
const MODULES: [&str; 5] = ["comment", "conntrack", "state", "mark", "iprange"];

/// Whether the iptables that keeps its rules in nf_tables printed this.
pub fn is_of_nft(text: &str) -> bool {
    text.lines().next().is_some_and(|line| line.contains("(nf_tables)"))
}

/// Reads all rules. `None`: the text is not the whole output of iptables-save.
pub fn parse(text: &str, tool: &'static str) -> Option<Ruleset> {
    let mut ruleset = Ruleset { tool, ..Ruleset::default() };
    let mut table = None;
    // A comment may have a newline in it.
    let mut open = String::new();
    for part in text.lines() {
        open += part;
        if is_quoted(&open) {
            open.push(' ');
            continue;
        }
        let line = &std::mem::take(&mut open)[..];
        match line.as_bytes().first() {
            Some(b'*' | b':' | b'[' | b'#') | None => {}
            _ if line == "COMMIT" => table = None,
            _ => return None,
        }
        if let Some(name) = line.strip_prefix('*') {
            table = Some(TABLES.iter().position(|known| *known == name)?);
        }
        let Some(order) = table else { continue };
        if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split(' ');
            let (Some(name), Some(policy)) = (words.next(), words.next()) else { continue };
            let packets = words.next().and_then(|counters| counters.strip_prefix('[')?.split(':').next()?.parse().ok());
            let drops = (policy == "DROP").then(|| (format!("-P {name} DROP"), packets));
            let hook = Hook::parse(name).filter(|_| name.starts_with(|c: char| c.is_ascii_uppercase()));
            let base = hook.map(|hook| Base { order: (hook, order as i64), nat: TABLES[order] == "nat", drops });
            ruleset.chains.insert((TABLES[order].into(), name.into()), Chain { rules: Vec::new(), base });
        } else if let Some((chain, rule)) = rule(line)
            && let Some(chain) = ruleset.chains.get_mut(&(TABLES[order].into(), chain))
        {
            chain.rules.push(rule);
        }
    }
    (table.is_none() && open.is_empty()).then_some(ruleset)
}

/// Whether a quotation mark is open at the end.
fn is_quoted(line: &str) -> bool {
    let (mut quoted, mut characters) = (false, line.chars());
    while let Some(c) = characters.next() {
        match c {
            '"' => quoted = !quoted,
            '\\' if quoted => _ = characters.next(),
            _ => {}
        }
    }
    quoted
}

/// `[12:720] -A FORWARD -s 10.0.0.0/8 ! -i eth+ -m conntrack --ctstate NEW -j ACCEPT`
fn rule(line: &str) -> Option<(String, Rule)> {
    let (counters, text) = line.strip_prefix('[')?.split_once("] ")?;
    let words = words(text);
    let mut words = words.iter().map(String::as_str).skip_while(|word| *word != "-A").skip(1);
    let chain = words.next()?.to_string();
    let packets = counters.split(':').next()?.parse().ok();
    let mut rule = Rule { text: text.into(), packets, matches: Vec::new(), action: Action::Other };
    let (mut not, mut module) = (false, "");
    while let Some(word) = words.next() {
        let mut add = |field, values| rule.matches.push(Match { field, not, values });
        match word {
            "!" => {
                not = true;
                continue;
            }
            "-m" => {
                module = words.next()?;
                if !MODULES.contains(&module) {
                    add(Field::Other, vec![Value::Other]);
                }
            }
            "--comment" => _ = words.next(),
            "-s" => add(Field::From, vec![net(words.next()?)]),
            "-d" => add(Field::To, vec![net(words.next()?)]),
            "-i" => add(Field::Arrives, vec![name(words.next()?)]),
            "-o" => add(Field::Leaves, vec![name(words.next()?)]),
            "--src-range" => add(Field::From, vec![range(words.next()?)]),
            "--dst-range" => add(Field::To, vec![range(words.next()?)]),
            "--ctstate" | "--state" => {
                add(Field::State, words.next()?.split(',').map(|state| Value::State(state.to_lowercase())).collect());
            }
            "--mark" if module == "mark" => {
                add(
                    Field::Mark,
                    vec![mark(words.next()?).map_or(Value::Other, |(value, mask)| Value::Mark(value, mask))],
                );
            }
            "-j" | "-g" => {
                rule.action = action(word, words.next()?, &words.by_ref().collect::<Vec<_>>());
            }
            option if option.starts_with('-') => add(Field::Other, vec![Value::Other]),
            // The value of an option that is not known.
            _ => {}
        }
        not = false;
    }
    Some((chain, rule))
}

fn action(how: &str, target: &str, options: &[&str]) -> Action {
    match target {
        // In `nat`, a rule that sets another address ends the table.
        "ACCEPT" | "DNAT" | "SNAT" | "MASQUERADE" | "REDIRECT" | "NETMAP" => Action::Accept,
        "NOTRACK" => Action::Untrack,
        "CT" if options.contains(&"--notrack") => Action::Untrack,
        "DROP" | "REJECT" => Action::Drop,
        "RETURN" => Action::Return,
        "MARK" => match (options.first(), options.get(1).and_then(|value| mark(value))) {
            // Bits of the value outside the mask are inverted, as by `--xor-mark`, and their result is unknown.
            (Some(&"--set-xmark"), Some((value, mask))) if value & !mask == 0 => Action::Mark(Some(value), mask),
            _ => Action::Mark(None, u32::MAX),
        },
        "CONNMARK" if options.contains(&"--restore-mark") => Action::Mark(None, u32::MAX),
        _ if how == "-g" => Action::Goto(target.into()),
        // A target of the kernel's has no chain of this name.
        _ => Action::Jump(target.into()),
    }
}

fn net(text: &str) -> Value {
    let (address, prefix) = text.split_once('/').unwrap_or((text, ""));
    let Ok(address) = address.parse::<IpAddr>() else { return Value::Other };
    let whole = if address.is_ipv4() { 32 } else { 128 };
    match prefix {
        "" => Value::Net(address, whole),
        prefix => prefix.parse().map_or(Value::Other, |prefix| Value::Net(address, prefix)),
    }
}

fn range(text: &str) -> Value {
    let ends = text.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    ends.map_or(Value::Other, |(first, last)| Value::Range(first, last))
}

fn name(text: &str) -> Value {
    Value::Name(text.strip_suffix('+').map_or(text.into(), |start| format!("{start}*")))
}

/// `0x10/0xff`
pub fn mark(text: &str) -> Option<(u32, u32)> {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    match text.split_once('/') {
        None => Some((number(text)?, u32::MAX)),
        Some((value, mask)) => Some((number(value)?, number(mask)?)),
    }
}

/// The words of a line; in double quotes a backslash quotes the next character.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match c {
            '"' => quoted = !quoted,
            '\\' if quoted => word.extend(characters.next()),
            ' ' if !quoted => words.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    words.push(word);
    words
}
