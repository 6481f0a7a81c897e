//! Rewrites of a plan that make it cheaper and nothing else.
//!
//! [`build`](super::build()) gives the plain plan, in which every meaning is settled; what a pass does no result,
//! annotation or error may show; only the costs do. Each is a function of the plan alone, has a name, and can be switched off:
//! the tests run with each of them off, and with all.
//!
//! Step-invariant subtrees are marked by `build` and not here: where they stand can be seen in results.

mod fold;
mod propagate;
mod share;

use super::Plan;

/// One rewrite.
pub(crate) struct Pass {
    pub(crate) name: &'static str,
    /// What it does, for those who read an explained plan.
    pub(crate) what: &'static str,
    /// Returns in how many places it changed the plan.
    rewrite: fn(&mut Plan) -> usize,
}

/// All passes in the order in which they run.
pub(crate) static PASSES: [Pass; 5] = [
    Pass {
        name: "constant-folding",
        what: "computes scalars that are known before any sample is read",
        rewrite: fold::rewrite,
    },
    Pass {
        name: "matcher-propagation",
        what: "narrows the right side of `and` and `unless` to labels that the left side is sure to have",
        rewrite: propagate::rewrite,
    },
    // Behind whatever changes matchers.
    Pass {
        name: "shared-selects",
        what: "asks the store once for selectors with equal matchers",
        rewrite: share::rewrite,
    },
    Pass {
        name: "fused-aggregation",
        what: "adds rows to their groups as they are computed instead of holding all of them",
        rewrite: |plan| switch_on(&mut plan.strategy.fuses_aggregations),
    },
    Pass {
        name: "inline-small",
        what: "computes few rows on the thread of the query",
        rewrite: |plan| switch_on(&mut plan.strategy.inlines_small),
    },
];

fn switch_on(switch: &mut bool) -> usize {
    usize::from(!std::mem::replace(switch, true))
}

/// Which passes run; all by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passes {
    /// A bit for each of [`PASSES`].
    off: u32,
}

impl Passes {
    pub const ALL: Self = Self { off: 0 };
    pub const NONE: Self = Self { off: u32::MAX };

    /// Each pass by name, with the choice that leaves out just this one.
    pub fn each_left_out() -> impl Iterator<Item = (&'static str, Self)> {
        PASSES.iter().enumerate().map(|(i, pass)| (pass.name, Self { off: 1 << i }))
    }

    fn has(self, i: usize) -> bool {
        self.off >> i & 1 == 0
    }
}

/// What a pass did.
pub(crate) struct Outcome {
    pub(crate) pass: &'static Pass,
    /// In how many places; `None` if it was switched off.
    pub(crate) changes: Option<usize>,
}

/// Runs the chosen passes over `plan`.
pub(crate) fn run(plan: &mut Plan, chosen: Passes) -> Vec<Outcome> {
    let outcome = |(i, pass): (usize, &'static Pass)| Outcome {
        pass,
        changes: chosen.has(i).then(|| (pass.rewrite)(plan)),
    };
    PASSES.iter().enumerate().map(outcome).collect()
}

#[cfg(test)]
mod tests;
