//! A program that takes little to make, for the first few values.
//!
//! Many patterns meet a handful of values, for which a program that runs quickly takes far longer to make than to
//! run. So they are tried by backtracking, which needs no more than the automaton itself, and remembers where it has
//! been: its time and memory are bounded by the sizes of pattern and value.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock};

use regex_automata::Input;
use regex_automata::nfa::thompson::backtrack::{self, BoundedBacktracker};
use regex_automata::nfa::thompson::{self, NFA};
use regex_automata::util::captures::Captures;
use regex_syntax::hir::Hir;

use super::characters;

/// Bytes of values that are tried, with [`VALUE_COST`] for each value: about what making the quick program costs.
const TRIED_MAX: u32 = 2048;

/// What a value costs besides its bytes.
const VALUE_COST: u32 = 8;

/// Longer values are not tried.
const VALUE_BYTES_MAX: u32 = 256;

/// A larger automaton is not tried.
const NFA_BYTES_MAX: usize = 16 << 10;

#[derive(Debug, Default)]
pub(super) struct Trial {
    /// Bytes and costs so far.
    tried: AtomicU32,
    /// `None` if it would be too large.
    program: OnceLock<Option<Box<Program>>>,
}

#[derive(Debug)]
struct Program {
    backtracker: BoundedBacktracker,
    cache: Mutex<backtrack::Cache>,
}

impl Program {
    fn new(hir: &Hir) -> Option<Self> {
        let config = thompson::Config::new().nfa_size_limit(Some(NFA_BYTES_MAX));
        let nfa = NFA::compiler().configure(config).build_from_hir(&characters::of_bytes(hir)).ok()?;
        let backtracker = BoundedBacktracker::new_from_nfa(nfa).ok()?;
        let cache = Mutex::new(backtracker.create_cache());
        Some(Self { backtracker, cache })
    }
}

impl Trial {
    /// Whether there is a match, or `None` if the trial is over, another thread is at it, or the value is long.
    pub(super) fn is_match(&self, hir: &Hir, input: &Input<'_>) -> Option<bool> {
        self.run(hir, input, |program, cache| program.try_is_match(cache, input.clone()).ok())
    }

    /// As [`Trial::is_match`], with the groups of the match.
    pub(super) fn captures(&self, hir: &Hir, input: &Input<'_>) -> Option<Captures> {
        self.run(hir, input, |program, cache| {
            let mut captures = program.create_captures();
            program.try_captures(cache, input.clone(), &mut captures).ok()?;
            Some(captures)
        })
    }

    fn run<T>(
        &self,
        hir: &Hir,
        input: &Input<'_>,
        run: impl FnOnce(&BoundedBacktracker, &mut backtrack::Cache) -> Option<T>,
    ) -> Option<T> {
        let len = u32::try_from(input.haystack().len()).ok().filter(|&len| len <= VALUE_BYTES_MAX)?;
        if self.tried.load(Relaxed) >= TRIED_MAX {
            return None;
        }
        self.tried.fetch_add(VALUE_COST + len, Relaxed);
        let program = self.program.get_or_init(|| Program::new(hir).map(Box::new)).as_ref()?;
        let mut cache = program.cache.try_lock().ok()?;
        run(&program.backtracker, &mut cache)
    }
}
