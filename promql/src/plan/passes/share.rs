//! One select for all selectors with equal matchers, over the hull of their times.

use crate::plan::{Node, Plan, Select};

pub(super) fn rewrite(plan: &mut Plan) -> usize {
    let before = plan.selects.len();
    let mut kept: Vec<Select> = Vec::with_capacity(before);
    let mut moved_to = Vec::with_capacity(before);
    for select in std::mem::take(&mut plan.selects) {
        let known = kept.iter_mut().enumerate().find(|(_, known)| known.matchers == select.matchers);
        if let Some((i, known)) = known {
            known.range.mint = known.range.mint.min(select.range.mint);
            known.range.maxt = known.range.maxt.max(select.range.maxt);
            moved_to.push(i);
        } else {
            moved_to.push(kept.len());
            kept.push(select);
        }
    }
    plan.selects = kept;
    renumber(&mut plan.root, &moved_to);
    before - plan.selects.len()
}

fn renumber(node: &mut Node, moved_to: &[usize]) {
    let parts = node.parts_mut();
    for select in parts.selects {
        *select = moved_to[*select];
    }
    for child in parts.children {
        renumber(child, moved_to);
    }
}
