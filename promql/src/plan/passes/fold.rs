//! Scalars known before any sample is read.
//!
//! The arithmetic is that of the evaluation itself, so that a folded value has the bits of a computed one.

use crate::exec::math;
use crate::plan::{Node, Plan, ScalarFn};

pub(super) fn rewrite(plan: &mut Plan) -> usize {
    fold(&mut plan.root)
}

fn fold(node: &mut Node) -> usize {
    let below: usize = node.parts_mut().children.into_iter().map(fold).sum();
    let Some(v) = known(node) else { return below };
    *node = Node::Const(v);
    below + 1
}

/// The value of a node whose operands are constants; `None` if there is more to it.
fn known(node: &Node) -> Option<f64> {
    let constant = |node: &Node| if let Node::Const(v) = node { Some(*v) } else { None };
    match node {
        Node::Invariant(arg) => constant(arg),
        Node::Negate(arg) => constant(arg).map(|v| -v),
        // Scalars cannot be trimmed, which evaluation refuses.
        Node::ScalarBinary { op, lhs, rhs } if !op.is_trim() => {
            Some(math::scalar_binary(*op, constant(lhs)?, constant(rhs)?))
        }
        Node::ScalarFn { func: ScalarFn::MinOf, lhs, rhs } => {
            Some(math::go_min(constant(lhs)?, constant(rhs)?))
        }
        Node::ScalarFn { func: ScalarFn::MaxOf, lhs, rhs } => {
            Some(math::go_max(constant(lhs)?, constant(rhs)?))
        }
        Node::ToScalar(arg) => match &**arg {
            Node::ToVector(arg) => constant(arg),
            _ => None,
        },
        _ => None,
    }
}
