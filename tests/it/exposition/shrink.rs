//! Makes cases that differ smaller. Many smaller forms of many cases are scraped at the same time, so that a round costs
//! no more than a run.

use std::time::{Duration, Instant};

use super::case::{Case, Encoding, SETUPS, setup_of};
use super::known::Known;
use super::seen::Difference;
use super::{Counts, Course, Different, Outcome, base, say, unexplained};

const ROUNDS: usize = 14;

/// Long enough for a dozen cases on a busy machine.
const TIME_MAX: Duration = Duration::from_mins(4);

/// Smaller forms of one case in one round.
const FORMS_MAX: usize = 40;

/// Forms of a case that have less of something, those that lack most first.
fn smaller(case: &Case) -> Vec<Case> {
    let mut forms = Vec::new();
    let mut form = |change: &dyn Fn(&mut Case)| {
        let mut smaller = case.clone();
        change(&mut smaller);
        forms.push(smaller);
    };
    let n_answers = case.answers.len();
    if n_answers > 1 {
        for at in 0..n_answers {
            form(&|case| case.answers = vec![case.answers[at].clone()]);
        }
        for at in 0..n_answers {
            form(&|case| drop(case.answers.remove(at)));
        }
    }
    if !case.options.is_empty() {
        form(&|case| case.options.clear());
    }
    let n_pieces = case.answers.iter().map(|answer| answer.pieces.len()).max().unwrap_or(0);
    let mut size = n_pieces.div_ceil(2);
    while size > 0 {
        for at in 0..n_answers {
            let n = case.answers[at].pieces.len();
            for from in (0..n).step_by(size).filter(|_| n >= size) {
                let to = (from + size).min(n);
                form(&|case| drop(case.answers[at].pieces.drain(from..to)));
            }
        }
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
    for at in 0..case.options.len() {
        form(&|case| drop(case.options.remove(at)));
    }
    if !case.target_labels.is_empty() {
        form(&|case| case.target_labels.clear());
    }
    if case.answers.iter().any(|answer| answer.encoding != Encoding::Plain) {
        form(&|case| case.answers.iter_mut().for_each(|answer| answer.encoding = Encoding::Plain));
    }
    forms.truncate(FORMS_MAX);
    forms
}

/// What kind of difference it is.
fn kind(difference: &Difference) -> &str {
    difference.what.split(' ').next().unwrap_or_default()
}

/// Makes the first `n` of `all` smaller while they differ in the same respect.
pub(super) fn shrink(course: &Course, known: &Known, all: &mut [Different], n: usize) {
    let n = n.min(all.len());
    let deadline = Instant::now() + TIME_MAX;
    for setup in 0..SETUPS.len() {
        let mut open: Vec<usize> = (0..n).filter(|at| setup_of(all[*at].case.id) == setup).collect();
        let mut round = 0;
        while !open.is_empty() && round < ROUNDS && Instant::now() < deadline {
            round += 1;
            let mut forms = Vec::new();
            for &at in &open {
                forms.extend(smaller(&all[at].case).into_iter().map(|form| (at, form)));
            }
            say(&format!("making {} cases smaller, {} forms", open.len(), forms.len()));
            let cases: Vec<_> = forms.iter().map(|(_, form)| form.clone()).collect();
            let mut shrunk = Vec::new();
            for ((at, form), outcome) in forms.into_iter().zip(course.run(setup, &cases, base())) {
                let Outcome::Compared(differences) = outcome else { continue };
                let left = unexplained(known, &form, differences, &mut Counts::default());
                let is_same =
                    left.iter().any(|d| all[at].differences.iter().any(|other| kind(other) == kind(d)));
                if is_same && !shrunk.contains(&at) {
                    all[at] = Different { case: form, differences: left };
                    shrunk.push(at);
                }
            }
            open = shrunk;
        }
    }
}
