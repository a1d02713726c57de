//! Many sequences side by side, by seed; failures made smaller; runs that go on where the last one ended.

use std::collections::VecDeque;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::steps::{Sequence, sequences};
use super::world::play;

/// How many sequences, if not [`SEQUENCES`].
const FEW: u64 = 60;
const SEQUENCES: &str = "FWDGUARD_SEQUENCES";
/// Runs the one sequence of this seed, which a failure has printed, and makes it smaller.
const SEED: &str = "FWDGUARD_SEED";
/// A file that keeps how far a long run has come, and for how many minutes to go on with it.
const STATE: &str = "FWDGUARD_MODEL_STATE";
const MINUTES: &str = "FWDGUARD_MODEL_MINUTES";
/// Side by side. Each sleeps most of the time, and takes two of root's 128 inotify instances.
const LANES: usize = 20;
/// A candidate may have to be played more than once until it fails, and shrinking must end some day.
const TRIES: usize = 4;
const CANDIDATES: u32 = 40;
/// After this many failures the rest shows nothing new.
const FAILURES_MAX: u64 = 5;

pub fn run() {
    if let Some(seed) = number(SEED) {
        let failed = fail_somehow(&tree(seed).current(), TRIES * 5);
        assert!(failed.is_none(), "{}", report(seed, failed.expect("a failure")));
        return println!("seed {seed}: no failure in {} runs", TRIES * 5);
    }
    let mut state = State::load();
    println!("{} sequences from seed {}, {} of them done before", state.sequences, state.first, state.done);
    let begun = Instant::now();
    let minutes = number(MINUTES).map(|minutes| Duration::from_secs(60 * minutes));
    let failures = Mutex::new(Vec::new());
    let (next, done, over) = (AtomicU64::new(state.done), AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= state.sequences {
                        return;
                    }
                    let seed = state.first + number;
                    if let Err(error) = play_apart(tree(seed).current()) {
                        eprintln!("seed {seed} failed: {error}\n");
                        let mut failures = failures.lock().unwrap();
                        failures.push((seed, error));
                        over.fetch_or(failures.len() as u64 >= FAILURES_MAX, Ordering::Relaxed);
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                    over.fetch_or(minutes.is_some_and(|limit| begun.elapsed() > limit), Ordering::Relaxed);
                }
            });
        }
    });
    let (failures, done) = (failures.into_inner().unwrap(), done.into_inner());
    state.done += done;
    state.failed.extend(failures.iter().map(|(seed, _)| *seed));
    state.save();
    println!(
        "{done} sequences in {} s; {} of {} done, failed: {:?}",
        begun.elapsed().as_secs(),
        state.done,
        state.sequences,
        state.failed
    );
    if let Some((seed, error)) = failures.into_iter().next() {
        let smaller = shrink(seed).unwrap_or((tree(seed).current(), error));
        panic!("{}", report(seed, smaller));
    }
    let earlier = &state.failed;
    assert!(
        earlier.is_empty(),
        "seeds that failed in earlier runs: {earlier:?}; repair that and remove {:?}",
        state.file
    );
}

fn report(seed: u64, (sequence, error): (Sequence, String)) -> String {
    format!(
        "{error}\n\nthe smallest sequence that was found:\n{sequence:#?}\n\nseed {seed}; play it again and make it smaller: \
         {SEED}={seed} cargo test --locked --test model -- --nocapture"
    )
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

fn tree(seed: u64) -> impl ValueTree<Value = Sequence> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    sequences().new_tree(&mut TestRunner::new_with_rng(Config::default(), random)).expect("a sequence")
}

/// Plays a sequence on a thread of its own, whose namespaces end with it.
fn play_apart(sequence: Sequence) -> Result<(), String> {
    let thread = std::thread::spawn(move || play(&sequence));
    thread.join().unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or(panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_else(|| "a panic".into()))
    })
}

/// The first failure of a sequence that is played this many times side by side.
fn fail_somehow(sequence: &Sequence, times: usize) -> Option<(Sequence, String)> {
    let threads: Vec<_> = (0..times)
        .map(|_| {
            let sequence = sequence.clone();
            std::thread::spawn(move || play_apart(sequence))
        })
        .collect();
    let results: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
    results.into_iter().find_map(Result::err).map(|error| (sequence.clone(), error))
}

/// The smallest sequence of a seed that is found to fail.
fn shrink(seed: u64) -> Option<(Sequence, String)> {
    let mut tree = tree(seed);
    let mut smallest = fail_somehow(&tree.current(), TRIES)?;
    let mut fails = true;
    for _ in 0..CANDIDATES {
        if !(if fails { tree.simplify() } else { tree.complicate() }) {
            break;
        }
        let failure = fail_somehow(&tree.current(), TRIES);
        fails = failure.is_some();
        smallest = failure.unwrap_or(smallest);
    }
    Some(smallest)
}

/// How far a run has come; kept in a file where one is named.
struct State {
    file: Option<PathBuf>,
    first: u64,
    sequences: u64,
    done: u64,
    failed: Vec<u64>,
}

impl State {
    fn load() -> State {
        let file = std::env::var_os(STATE).map(PathBuf::from);
        let text = file.as_ref().and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
        let mut numbers: VecDeque<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        // Other sequences every time: what was found to hold need not be found again.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
        let first = numbers.pop_front().unwrap_or(now * 100_000);
        let done = numbers.pop_front().unwrap_or(0);
        State { file, first, sequences: number(SEQUENCES).unwrap_or(FEW), done, failed: numbers.into() }
    }

    fn save(&self) {
        let Some(file) = &self.file else { return };
        let failed: String = self.failed.iter().map(|seed| format!(" {seed}")).collect();
        fs::write(file, format!("{} {}{failed}\n", self.first, self.done)).expect("the state's folder is there");
    }
}
